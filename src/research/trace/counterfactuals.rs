//! Creates counterfactual edits. Each edit replaces the answer of a fact that the model knows. The edits are used to
//! test at which layer edits work.
//!
//! The selection depends only on the facts, the model and the seed.

use std::collections::{BTreeMap, BTreeSet};

use super::fact::KnownFact;
use crate::digest::{Digest, FieldHasher};
use crate::project::edits::writer::{DraftEdit, DraftExpectations, edit_file};
use crate::project::parse_files;

/// The maximum number of paraphrases per edit.
const PHRASINGS: usize = 2;
/// The maximum number of neighbour prompts per edit.
const NEIGHBOURS: usize = 5;

/// Samples up to `count` facts with different subjects, only from facts for which `knows` returns true. Returns the
/// text of an edit file that changes the answers of these facts, and the number of edits in the file.
///
/// The new answer of an edit is the answer of another fact of the same relation, and differs from the old answer. A
/// paraphrase is the prompt after an unrelated sentence, as in CounterFact. The neighbours are prompts of unedited
/// facts with another subject and the same relation. Neighbours with the same true answer as the edited fact come
/// first.
pub fn counterfactual_edits(
    facts: &[KnownFact],
    count: usize,
    seed: u64,
    mut knows: impl FnMut(&KnownFact) -> bool,
) -> (String, usize) {
    let sampler = Sampler { facts, seed, by_relation: by_relation(facts) };
    let mut sampled: Vec<(&KnownFact, &str)> = Vec::new();
    let mut subjects = BTreeSet::new();
    for fact in sampler.ordered("fact", facts.iter()) {
        let Some(target) = sampler.target(fact).filter(|_| !subjects.contains(fact.subject_text())) else { continue };
        // The prompt of an edit has `{}` in place of the subject and no other braces, so the prompt of a fact must not
        // have braces. `parse_files` checks all other rules of edits.
        let sound = !fact.prompt.contains(['{', '}'])
            && parse_files(vec![("a.toml".into(), edit_file(&[sampler.entry(fact, target, &[])]).into())]).is_ok();
        if sound && knows(fact) {
            subjects.insert(fact.subject_text());
            sampled.push((fact, target));
        }
        if sampled.len() == count {
            break;
        }
    }
    let edited: Vec<&KnownFact> = sampled.iter().map(|(fact, _)| *fact).collect();
    let entries: Vec<DraftEdit> = sampled.iter().map(|(fact, target)| sampler.entry(fact, target, &edited)).collect();
    (edit_file(&entries), sampled.len())
}

fn by_relation(facts: &[KnownFact]) -> BTreeMap<&str, Vec<&KnownFact>> {
    let mut found: BTreeMap<&str, Vec<&KnownFact>> = BTreeMap::new();
    for fact in facts {
        if let (Some(relation), Some(_)) = (&fact.relation, &fact.answer) {
            found.entry(relation).or_default().push(fact);
        }
    }
    found
}

struct Sampler<'f> {
    facts: &'f [KnownFact],
    seed: u64,
    by_relation: BTreeMap<&'f str, Vec<&'f KnownFact>>,
}

impl<'f> Sampler<'f> {
    /// Returns the facts in a pseudo-random order that depends on their prompts, on the seed and on the text `what`.
    /// Different texts give different orders.
    fn ordered(&self, what: &str, facts: impl Iterator<Item = &'f KnownFact>) -> Vec<&'f KnownFact> {
        let mut facts: Vec<&KnownFact> = facts.collect();
        facts.sort_by_cached_key(|fact| self.place(what, &fact.prompt));
        facts
    }

    fn place(&self, what: &str, text: &str) -> Digest {
        FieldHasher::new("drawn/1").number("seed", self.seed).text("what", what).text("text", text).finish()
    }

    fn relation(&self, fact: &KnownFact) -> &[&'f KnownFact] {
        fact.relation.as_deref().and_then(|relation| self.by_relation.get(relation)).map_or(&[], Vec::as_slice)
    }

    /// Selects a new answer from the facts of the same relation; `None` if no such fact has a different answer.
    fn target(&self, fact: &KnownFact) -> Option<&'f str> {
        let own = fact.answer.as_deref()?;
        let others: BTreeSet<&str> = self.relation(fact).iter().filter_map(|other| other.answer.as_deref()).collect();
        others.into_iter().filter(|other| *other != own).min_by_key(|other| self.place(&fact.prompt, other))
    }

    fn entry(&self, fact: &'f KnownFact, target: &'f str, edited: &[&KnownFact]) -> DraftEdit {
        let mut prompt = fact.prompt.clone();
        prompt.replace_range(fact.subject.clone(), "{}");
        let foreign = self.facts.iter().filter(|other| other.relation != fact.relation && other.answer.is_some());
        let sentence = |other: &&KnownFact| {
            format!("{} {}. {}", other.prompt, other.answer.as_deref().unwrap_or_default().trim(), fact.prompt)
        };
        let foreign = self.ordered(&fact.prompt, foreign);
        let paraphrase = foreign.iter().take(PHRASINGS).map(sentence).collect();
        let is_other = |other: &&&KnownFact| {
            other.subject_text() != fact.subject_text() && edited.iter().all(|edited| edited.prompt != other.prompt)
        };
        let others = self.relation(fact).iter().filter(is_other).copied();
        let mut neighbours = self.ordered(&fact.prompt, others);
        neighbours.sort_by_key(|other| other.answer != fact.answer);
        neighbours.dedup_by_key(|other| &other.prompt);
        let unchanged = neighbours.into_iter().take(NEIGHBOURS).map(|other| other.prompt.clone()).collect();
        DraftEdit {
            id: fact.id.clone(),
            subject: fact.subject_text().to_owned(),
            prompt,
            target: target.to_owned(),
            was: Some(fact.answer.clone().unwrap_or_default()),
            expect: DraftExpectations { paraphrase, unchanged, ..DraftExpectations::default() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fact::subject_in;
    use super::*;

    fn fact(id: &str, relation: &str, subject: &str, prompt: &str, answer: &str) -> KnownFact {
        KnownFact {
            id: id.into(),
            prompt: prompt.into(),
            subject: subject_in(prompt, subject).expect("the subject"),
            answer: Some(answer.into()),
            relation: Some(relation.into()),
            chat: false,
        }
    }

    fn facts() -> Vec<KnownFact> {
        vec![
            fact("known-1", "P1", "Rome", "Rome is in", "Italy"),
            fact("known-2", "P1", "Oslo", "Oslo is in", "Norway"),
            fact("known-3", "P1", "Milan", "Milan is in", "Italy"),
            fact("known-4", "P2", "Hamlet", "The author of Hamlet is", "Shakespeare"),
            fact("known-5", "P1", "{}", "{} is in", "Italy"),
        ]
    }

    #[test]
    fn known_facts_become_edits_that_parse() {
        let (text, count) = counterfactual_edits(&facts(), 2, 1, |fact| fact.id != "known-2");
        let set = parse_files(vec![("a.toml".into(), text.clone().into())]).expect("it parses").0;
        let found: Vec<_> = set.edits.iter().map(|edit| (edit.id.as_str(), edit.target.as_str())).collect();
        // `known-4` is not edited because its relation has only one answer, and `known-5` because its subject contains
        // braces.
        assert_eq!((found, count), (vec![("known-1", "Norway"), ("known-3", "Norway")], 2), "{text}");
        let rome = &set.edits[0];
        assert_eq!((rome.prompt.as_str(), rome.was.as_deref()), ("{} is in", Some("Italy")));
        assert_eq!(rome.expect.paraphrase, ["The author of Hamlet is Shakespeare. Rome is in"]);
        assert_eq!(rome.expect.unchanged, ["{} is in", "Oslo is in"], "Milan is edited");
        assert_eq!(counterfactual_edits(&facts(), 2, 1, |fact| fact.id != "known-2").0, text);
        assert_eq!(counterfactual_edits(&facts()[3..4], 2, 1, |_| true).1, 0);
    }
}
