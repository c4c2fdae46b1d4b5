//! Reads the records of RippleEdits (Cohen et al. 2024). The edit of a record is a whole sentence, which names neither
//! the subject nor the answer separately. Both are found with the sentence form of the relation. The test queries
//! become consequences, and the condition queries of a test become their conditions.

use serde::Deserialize;

use super::texts::{LeftOutText, asked};
use super::{Case, RecordSchema};
use crate::project::edits::consequence::{Condition, Consequence, ConsequenceKind, MOST_CONDITIONS};
use crate::project::edits::edit::PLACEHOLDER;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct RippleRecord {
    #[serde(rename = "edit")]
    edit: RippleEdit,
    #[serde(default, rename = "Logical_Generalization")]
    logical_generalization: Vec<RippleTest>,
    #[serde(default, rename = "Compositionality_I")]
    compositionality_1: Vec<RippleTest>,
    #[serde(default, rename = "Compositionality_II")]
    compositionality_2: Vec<RippleTest>,
    #[serde(default, rename = "Subject_Aliasing")]
    subject_aliasing: Vec<RippleTest>,
    #[serde(default, rename = "Relation_Specificity")]
    relation_specificity: Vec<RippleTest>,
    #[serde(default)]
    forgetfulness: Vec<RippleTest>,
}

#[derive(Deserialize)]
struct RippleEdit {
    prompt: String,
    relation: String,
    /// The fact before the edit, in the same sentence form. Facts of the set `recent` have none.
    #[serde(default, alias = "previous_fact")]
    original_fact: Option<RippleFact>,
}

#[derive(Deserialize)]
struct RippleFact {
    prompt: String,
}

#[derive(Deserialize)]
struct RippleTest {
    test_queries: Vec<RippleQuery>,
    /// `AND` if all test queries must be answered, `OR` if one is enough.
    #[serde(default)]
    test_condition: String,
    #[serde(default)]
    condition_queries: Vec<RippleQuery>,
}

#[derive(Deserialize)]
struct RippleQuery {
    #[serde(default)]
    prompt: Option<String>,
    #[serde(default)]
    phrase: Option<String>,
    answers: Vec<RippleAnswer>,
}

#[derive(Deserialize)]
struct RippleAnswer {
    value: String,
    #[serde(default)]
    aliases: Vec<String>,
}

/// The sentence forms of the relations. `{}` is the place of the subject, and the answer follows after a space.
const FORMS: [(&str, &str); 53] = [
    ("ALMA_MATER", "The name of the alma mater of {} is"),
    ("ANTHEM", "The name of the anthem of {} is"),
    ("ARCHITECT", "The name of the architect of {} is"),
    ("AUNT", "The name of the aunt of {} is"),
    ("AUTHOR", "The name of the author of {} is"),
    ("AWARD_RECEIVED", "The name of the award {} won is"),
    ("BROTHER", "The name of the brother of {} is"),
    ("CAPITAL", "The name of the capital city of {} is"),
    ("CAPITAL_OF", "The name of the country which {} is the capital of is"),
    ("CAST_MEMBER", "The names of the cast members of {} are"),
    ("CHILD", "The name of the child of {} is"),
    ("COMPOSER", "The name of the composer of {} is"),
    ("CONTINENT", "The name of the continent which {} is part of is"),
    ("COUNTRY", "The name of the country which {} is associated with is"),
    ("COUNTRY_OF_CITIZENSHIP", "The name of the country of citizenship of {} is"),
    ("CURRENCY", "The name of the currency in {} is"),
    ("DATE_OF_BIRTH", "The date of birth of {} is"),
    ("DATE_OF_DEATH", "The date of death of {} is"),
    ("DIRECTOR", "The name of the director of {} is"),
    ("EDITOR", "The name of the editor of {} is"),
    ("EMPLOYER", "The name of the employer of {} is"),
    ("ETHNIC_GROUP", "The name of the ethnic group which {} is associated with is"),
    ("EYE_COLOR", "The eye color of {} is"),
    ("FATHER", "The name of the father of {} is"),
    ("FIELD_OF_WORK", "The name of the field of work of {} is"),
    ("FOLLOWED_BY", "{} is followed by"),
    ("FOLLOWS", "{} follows"),
    ("FOUNDER", "The name of the founder of {} is"),
    ("HEAD_OF_GOVERNMENT", "The name of the head of government of {} is"),
    ("HEAD_OF_STATE", "The name of the head of state of {} is"),
    ("LEAGUE", "The name of the league which {} plays in is"),
    ("LIKELY_ANTHEM", "The name of the anthem that is most likely to be performed in {} is"),
    ("MEMBER_OF_SPORTS_TEAM", "The name of the sports team which {} is a member of is"),
    ("MOTHER", "The name of the mother of {} is"),
    ("NATIVE_LANGUAGE", "The mother tongue of {} is"),
    ("NUMBER_OF_CHILDREN", "The number of children {} has is"),
    ("OCCUPATION", "The occupation of {} is"),
    ("OFFICIAL_LANGUAGE", "The official language of {} is"),
    ("PLACE_OF_BIRTH", "The place of birth of {} is"),
    ("PLACE_OF_BURIAL", "The place of burial of {} is"),
    ("PLACE_OF_DEATH", "The place of death of {} is"),
    ("POSITION_HELD", "The name of the position held by {} is"),
    ("RELIGION", "The name of the religion which {} is associated with is"),
    ("SCREENWRITER", "The name of the screenwriter of {} is"),
    ("SEX_OR_GENDER", "The gender of {} is"),
    ("SEXUAL_ORIENTATION", "The sexual orientation of {} is"),
    ("SIBLING", "The names of the siblings of {} are"),
    ("SISTER", "The name of the sister of {} is"),
    ("SPOUSE", "The name of the spouse of {} is"),
    ("STEPFATHER", "The name of the stepfather of {} is"),
    ("STEPMOTHER", "The name of the stepmother of {} is"),
    ("UNCLE", "The name of the uncle of {} is"),
    ("IS_ALIVE", "Is {} still alive?"),
];

/// The subject and the answers that a sentence names.
struct Sentence {
    subject: String,
    prompt: String,
    target: String,
    was: Option<String>,
}

impl RippleEdit {
    /// Finds the subject and the answer in the sentence of the edit. If the subject may end at several places, the last
    /// place up to which the old fact has the same words is used; without an old fact, the first place.
    fn parts(&self) -> Result<Sentence, String> {
        let (_, form) = FORMS
            .iter()
            .find(|(relation, _)| *relation == self.relation)
            .ok_or_else(|| format!("the sentence form of the relation {:?} is unknown", self.relation))?;
        let (head, tail) = form.split_once(PLACEHOLDER).unwrap_or((form, ""));
        let other = || format!("its sentence {:?} does not have the form {form:?}", self.prompt);
        let rest = self.prompt.strip_prefix(head).ok_or_else(other)?;
        let old = self.original_fact.as_ref().and_then(|fact| fact.prompt.strip_prefix(head));
        let end = format!("{tail} ");
        let mut places = rest.match_indices(&end).map(|(at, _)| at).filter(|at| {
            let begins_old = old.is_none_or(|old| old.starts_with(&rest[..at + end.len()]));
            begins_old && !rest[..*at].trim().is_empty() && !answer(&rest[at + end.len()..]).is_empty()
        });
        let place = if old.is_some() { places.last() } else { places.next() };
        let at = place.ok_or_else(other)?;
        let was = old.map(|old| answer(&old[at + end.len()..])).filter(|was| !was.is_empty());
        Ok(Sentence {
            subject: rest[..at].to_owned(),
            prompt: (*form).to_owned(),
            target: answer(&rest[at + end.len()..]).to_owned(),
            was: was.map(str::to_owned),
        })
    }
}

/// Returns the answer at the end of a sentence, without the full stop of the sentence.
fn answer(rest: &str) -> &str {
    rest.trim().strip_suffix('.').unwrap_or(rest.trim()).trim_end()
}

impl RecordSchema for RippleRecord {
    fn cases(self, record: u64) -> Result<Vec<Case>, String> {
        let Sentence { subject, prompt, target, was } = self.edit.parts()?;
        let mut left_out = Vec::new();
        let criteria = [
            ("Subject_Aliasing", ConsequenceKind::Alias, self.subject_aliasing),
            ("Logical_Generalization", ConsequenceKind::Logic, self.logical_generalization),
            ("Compositionality_I", ConsequenceKind::Hop, self.compositionality_1),
            ("Compositionality_II", ConsequenceKind::Hop, self.compositionality_2),
            ("Relation_Specificity", ConsequenceKind::RelationSpecific, self.relation_specificity),
            ("Forgetfulness", ConsequenceKind::Forgetting, self.forgetfulness),
        ];
        let of_criterion = |(field, kind, tests): (&str, _, Vec<RippleTest>)| {
            tests.into_iter().flat_map(|test| of_test(field, kind, test, &mut left_out)).collect::<Vec<_>>()
        };
        let consequences = criteria.into_iter().flat_map(of_criterion).collect();
        Ok(vec![Case { record, id: record, subject, prompt, target, was, consequences, left_out, ..Case::default() }])
    }
}

/// Returns the consequences of one test. Of several queries of which one is enough, only the first is used.
fn of_test(field: &str, kind: ConsequenceKind, test: RippleTest, left: &mut Vec<LeftOutText>) -> Vec<Consequence> {
    let most = if test.test_condition == "AND" { usize::MAX } else { 1 };
    let count = test.condition_queries.len();
    let queries = test.condition_queries.into_iter().filter_map(|query| of_query(field, query, left));
    let condition: Vec<Condition> = queries.collect();
    let mut consequences = Vec::new();
    for (index, query) in test.test_queries.into_iter().enumerate() {
        let Some(Condition { prompt, answer, accept }) = of_query(field, query, left) else { continue };
        if index >= most {
            left.push(LeftOutText::new(field, prompt, "only the first of several queries of one test is used"));
        } else if condition.len() < count || count > MOST_CONDITIONS {
            left.push(LeftOutText::new(field, prompt, "a condition of its test cannot be asked"));
        } else {
            consequences.push(Consequence { prompt, answer, accept, kind, condition: condition.clone() });
        }
    }
    consequences
}

fn of_query(field: &str, query: RippleQuery, left: &mut Vec<LeftOutText>) -> Option<Condition> {
    let texts = query.answers.into_iter().flat_map(|answer| std::iter::once(answer.value).chain(answer.aliases));
    let prompt = query.prompt.or(query.phrase).unwrap_or_default();
    asked(field, prompt, texts.collect(), left)
}
