//! Reads the `[policy]` table of `corrigenda.toml`, and checks the edits against its rules.
//!
//! The limits on a patch are only read here; `build` and `test` check them. A finding about a broken rule marks the
//! rule in `corrigenda.toml` and states the reason that the policy gives for it.

use std::collections::BTreeMap;
use std::ops::Range;

use jiff::civil::Date;
use toml::Spanned;
use toml::de::DeValue;
use unicode_normalization::UnicodeNormalization;

use crate::diagnostics::{Code, Diagnostic, FileId, Severity, list_in_words, nearest};
use crate::project::edits::EditSet;
use crate::project::edits::edit::Edit;
use crate::project::read::numbers::LowerBound;
use crate::project::read::rules;
use crate::project::read::toml_reader::{TomlReader, TomlTable, TomlText};

pub(crate) const POLICY_KEYS: &[&str] = &[
    "require",
    "max-edits",
    "max-relative-norm",
    "min-efficacy",
    "min-paraphrase",
    "min-consequence",
    "min-unchanged",
    "max-neighbourhood-kl",
    "max-damage",
    "max-perplexity",
    "max-task-loss",
    "protected",
    "levels",
    "reasons",
];
pub(crate) const PROTECTED_KEYS: &[&str] = &["subject", "reason"];
/// The values that `require` under `[policy]` accepts: the fields of an edit that a project can make mandatory.
pub(crate) const REQUIRABLE: &[&str] =
    &["was", "reason", "source", "owner", "ticket", "expires", "paraphrase", "unchanged"];

/// The content of `[policy]`. A limit that is `None` is not checked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policy {
    /// The id of `corrigenda.toml` in `Sources`, for the labels of findings; `None` if the file has no `[policy]`
    /// table.
    file: Option<FileId>,
    /// The fields that every edit must have, each with its byte range in the project file.
    require: Vec<(String, Range<usize>)>,
    pub max_edits: Option<Limit>,
    /// The maximum of `‖Δ‖ / ‖W‖` (Frobenius norms) for each changed tensor, where Δ is the change of the weight W.
    pub max_relative_norm: Option<Limit>,
    pub min_efficacy: Option<Limit>,
    pub min_paraphrase: Option<Limit>,
    /// The minimum share of consequences for which the patched model gives the answer.
    pub min_consequence: Option<Limit>,
    /// The minimum share of neighbour prompts whose answer stays unchanged.
    pub min_unchanged: Option<Limit>,
    /// The maximum KL divergence between base and patched model on any neighbour prompt, in nats.
    pub max_neighbourhood_kl: Option<Limit>,
    /// The maximum mean KL divergence between base and patched model on neutral text, in nats.
    pub max_damage: Option<Limit>,
    /// The maximum relative growth of the perplexity of neutral text from the base model to the patched model; 0.1
    /// means 10 %.
    pub max_perplexity: Option<Limit>,
    /// The maximum fall of the accuracy of any task from the base model to the patched model; 0.02 means 2 percentage
    /// points.
    pub max_task_loss: Option<Limit>,
    protected: Vec<Protected>,
    levels: BTreeMap<Code, (Level, Range<usize>)>,
    reasons: BTreeMap<String, String>,
}

/// A minimum or maximum that the policy sets, with its byte range in `corrigenda.toml`.
#[derive(Clone, Debug, PartialEq)]
pub struct Limit {
    pub value: f64,
    span: Range<usize>,
}

impl Limit {
    /// Returns whether the measured value `figure` is at most the limit; false for NaN. The limit must be a maximum,
    /// not a minimum.
    pub fn allows(&self, figure: f64) -> bool {
        figure <= self.value
    }
}

/// An entry of `[[policy.protected]]`. It forbids edits whose subject or alias matches the pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Protected {
    /// The pattern that is compared with the subject and its aliases; `*` matches any text, and case is ignored.
    pattern: String,
    span: Range<usize>,
    reason: Option<String>,
}

/// The severity that `[policy.levels]` sets for all findings with one code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// The finding is an error, so `check` and `build` fail.
    Deny,
    Warn,
    Allow,
}

impl Level {
    pub(crate) const NAMES: [(&'static str, Self); 3] =
        [("deny", Self::Deny), ("warn", Self::Warn), ("allow", Self::Allow)];
}

impl Policy {
    /// Reads `[policy]`. An invalid rule gives a finding and is ignored. Without this table, the policy has no rules.
    pub(crate) fn read(reader: &mut TomlReader, top: &TomlTable<'_, '_>) -> Self {
        let Some(table) = reader.table(top, "policy", "`[policy]`") else { return Self::default() };
        reader.known_keys(&table, POLICY_KEYS);
        let span = |key: &str| table.table.get(key).map_or(0..0, Spanned::span);
        let limit = |value: Option<f64>, key| value.map(|value| Limit { value, span: span(key) });
        let edits = reader.integer(&table, "max-edits", 1..=i64::from(u32::MAX));
        #[expect(clippy::cast_precision_loss, reason = "the number is far below 2^53, so the conversion is exact")]
        let max_edits = limit(edits.map(|edits| edits as f64), "max-edits");
        Self {
            file: Some(reader.file),
            require: required(reader, &table),
            max_edits,
            max_relative_norm: limit(
                reader.number(&table, "max-relative-norm", LowerBound::ExcludesZero),
                "max-relative-norm",
            ),
            min_efficacy: limit(reader.share(&table, "min-efficacy"), "min-efficacy"),
            min_paraphrase: limit(reader.share(&table, "min-paraphrase"), "min-paraphrase"),
            min_consequence: limit(reader.share(&table, "min-consequence"), "min-consequence"),
            min_unchanged: limit(reader.share(&table, "min-unchanged"), "min-unchanged"),
            max_neighbourhood_kl: limit(
                reader.number(&table, "max-neighbourhood-kl", LowerBound::ExcludesZero),
                "max-neighbourhood-kl",
            ),
            max_damage: limit(reader.number(&table, "max-damage", LowerBound::ExcludesZero), "max-damage"),
            max_perplexity: limit(reader.number(&table, "max-perplexity", LowerBound::ExcludesZero), "max-perplexity"),
            max_task_loss: limit(reader.share(&table, "max-task-loss"), "max-task-loss"),
            protected: protected(reader, &table),
            levels: levels(reader, &table),
            reasons: reasons(reader, &table),
        }
    }

    /// Checks the rules that can be checked without a model: the required fields, the protected subjects, and the
    /// number of edits.
    pub(crate) fn judge(&self, edits: &EditSet) -> Vec<Diagnostic> {
        let mut found: Vec<Diagnostic> =
            edits.edits.iter().chain(&edits.parked).flat_map(|edit| self.judge_edit(edit)).collect();
        if let Some(limit) = self.max_edits.as_ref().filter(|limit| edits.edits.len() as f64 > limit.value) {
            let message = format!("the set holds {} edits; the policy allows {}", edits.edits.len(), limit.value);
            found.push(self.rule(Diagnostic::new(Code::MaxEdits, message), &limit.span, "max-edits"));
        }
        found
    }

    fn judge_edit(&self, edit: &Edit) -> Vec<Diagnostic> {
        let (mut found, place) = (Vec::new(), &edit.spans);
        for (field, span) in self.require.iter().filter(|(field, _)| !has(edit, field)) {
            let finding = Diagnostic::new(Code::FieldRequired, format!("edit `{}` has no `{field}`", edit.id)).at(
                place.file,
                &place.id,
                "this edit",
            );
            found.push(self.rule(finding, span, "require"));
        }
        for (name, span) in edit.names() {
            let Some(rule) = self.protected.iter().find(|rule| is_about(&rule.pattern, edit.before_subject(), name))
            else {
                continue;
            };
            let message = format!("edit `{}`: its subject is protected", edit.id);
            let finding = Diagnostic::new(Code::ProtectedSubject, message).at(place.file, span, "protected");
            found.push(self.because(finding, &rule.span, rule.reason.as_deref()));
        }
        found
    }

    /// Returns a finding for every edit that expires on `today` or earlier, with the severity that the policy sets.
    /// Edits with `status = "parked"` are included.
    pub fn expired(&self, edits: &EditSet, today: Date) -> Vec<Diagnostic> {
        let finding = |edit: &Edit| {
            let (day, span) = edit.expires.filter(|day| *day <= today).zip(edit.spans.expires.as_ref())?;
            let message = format!("edit `{}` expired on {day}", edit.id);
            let finding = Diagnostic::new(Code::EditExpired, message).at(edit.spans.file, span, "expired");
            Some(finding.help("review the fact: remove the edit, or set a later date"))
        };
        self.apply(edits.edits.iter().chain(&edits.parked).filter_map(finding).collect())
    }

    /// Gives each finding the severity that `[policy.levels]` sets for its code, and removes findings with the level
    /// `allow`.
    #[must_use]
    pub fn apply(&self, findings: Vec<Diagnostic>) -> Vec<Diagnostic> {
        let weighed = |mut finding: Diagnostic| {
            let Some((level, span)) = self.levels.get(&finding.code) else { return Some(finding) };
            finding.severity = match level {
                Level::Allow => return None,
                Level::Warn => Severity::Warning,
                Level::Deny => Severity::Error,
            };
            if *level == Level::Deny && finding.code.severity() == Severity::Warning {
                let reason = self.reasons.get(finding.code.as_str()).map(String::as_str);
                finding = self.because(finding, span, reason);
            }
            Some(finding)
        };
        findings.into_iter().filter_map(weighed).collect()
    }

    /// Returns a finding about a measured value that breaks `limit`; a label marks the limit in `corrigenda.toml`.
    pub fn broken(&self, code: Code, message: String, limit: &Limit) -> Diagnostic {
        self.point(Diagnostic::new(code, message), limit)
    }

    /// Adds a label to a finding about a broken limit. The label marks the limit in `corrigenda.toml` and states the
    /// reason from `[policy.reasons]`.
    #[must_use]
    pub fn point(&self, finding: Diagnostic, limit: &Limit) -> Diagnostic {
        let key = finding.code.as_str();
        self.rule(finding, &limit.span, key)
    }

    fn rule(&self, finding: Diagnostic, span: &Range<usize>, key: &str) -> Diagnostic {
        self.because(finding, span, self.reasons.get(key).map(String::as_str))
    }

    /// Adds a label to a finding about a broken rule. The label marks the rule in `corrigenda.toml` and states
    /// `reason`.
    fn because(&self, finding: Diagnostic, span: &Range<usize>, reason: Option<&str>) -> Diagnostic {
        let Some(file) = self.file else { return finding };
        let label = reason.map_or_else(|| "the policy".to_owned(), |reason| format!("the policy: {reason}"));
        if finding.primary().is_some() { finding.with(file, span, label) } else { finding.at(file, span, label) }
    }
}

fn has(edit: &Edit, field: &str) -> bool {
    let written = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.trim().is_empty());
    match field {
        "was" => written(&edit.was),
        "reason" => written(&edit.reason),
        "source" => written(&edit.source),
        "owner" => written(&edit.owner),
        "ticket" => written(&edit.ticket),
        "expires" => edit.expires.is_some(),
        "paraphrase" => !edit.expect.paraphrase.is_empty(),
        _ => !edit.expect.unchanged.is_empty(),
    }
}

/// Returns whether a pattern of a protected subject matches `name`, or `name` together with words directly before it.
/// These words are in `head`, the part of the prompt before `{}`. For example, the pattern "Marie Curie" matches the
/// name "Curie" in the prompt "Marie {} was born in".
fn is_about(pattern: &str, head: &str, name: &str) -> bool {
    let (pattern, words) = (usual(pattern), usual(&[head, name].concat()));
    let own = words.len() - usual(name).len().min(words.len());
    let begins = |at: usize| at == 0 || words[..at].ends_with(|before: char| !before.is_alphanumeric());
    let starts = words.char_indices().map(|(at, _)| at).take_while(|at| *at <= own);
    starts.filter(|at| *at == own || begins(*at)).any(|at| is_like(&pattern, &words[at..]))
}

/// Normalises a text for comparison: Unicode NFC, lower case, single spaces.
fn usual(text: &str) -> String {
    let text: String = text.nfc().collect::<String>().to_lowercase();
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ")
}

/// Returns whether a pattern matches the whole `name`; `*` in the pattern matches any text, including an empty text.
fn is_like(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let Some(last) = pattern.rsplit_once('*').map(|(_, last)| last) else { return rest.is_empty() };
    let middle: Vec<&str> = parts.collect();
    for part in &middle[..middle.len() - 1] {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

fn required(reader: &mut TomlReader, table: &TomlTable<'_, '_>) -> Vec<(String, Range<usize>)> {
    let fields = reader.texts(table, "require", REQUIRABLE.len());
    for TomlText { value, span } in fields.iter().filter(|field| !REQUIRABLE.contains(&field.value.as_str())) {
        let finding = Diagnostic::new(Code::UnknownKey, format!("a policy cannot require the field `{value}`")).at(
            reader.file,
            span,
            "unknown field",
        );
        let otherwise = format!("the fields that can be required are {}", list_in_words(REQUIRABLE));
        reader.push(finding.suggest(nearest(value, REQUIRABLE), otherwise));
    }
    let known = fields.into_iter().filter(|field| REQUIRABLE.contains(&field.value.as_str()));
    known.map(|field| (field.value, field.span)).collect()
}

fn protected(reader: &mut TomlReader, table: &TomlTable<'_, '_>) -> Vec<Protected> {
    let entries = reader.tables(table, "protected", "this entry of `protected`");
    let read = |entry: &TomlTable<'_, '_>| {
        reader.known_keys(entry, PROTECTED_KEYS);
        let subject = reader.required_text(entry, "subject").inspect(|text| rules::fact(reader, "subject", text))?;
        let reason = reader.text(entry, "reason").inspect(|text| rules::record(reader, "reason", text));
        Some(Protected { pattern: subject.value, span: subject.span, reason: reason.map(|text| text.value) })
    };
    entries.iter().filter_map(read).collect()
}

fn levels(reader: &mut TomlReader, table: &TomlTable<'_, '_>) -> BTreeMap<Code, (Level, Range<usize>)> {
    let Some(entries) = reader.table(table, "levels", "`[policy.levels]`") else { return BTreeMap::new() };
    let mut levels = BTreeMap::new();
    for (key, value) in entries.table {
        let name = key.get_ref().as_ref();
        let Some(code) = adjustable(reader, name, &key.span()) else { continue };
        let level = level_of(value);
        match level {
            Some(level) => drop(levels.insert(code, (level, value.span()))),
            None => {
                let message = format!("the level of `{name}` must be \"deny\", \"warn\" or \"allow\"");
                reader.note(Code::WrongType, message, &value.span(), "not a level");
            }
        }
    }
    levels
}

fn level_of(value: &Spanned<DeValue<'_>>) -> Option<Level> {
    let DeValue::String(text) = value.get_ref() else { return None };
    Level::NAMES.iter().find(|(name, _)| name == text).map(|(_, level)| *level)
}

/// Returns the finding code with this name. If the code does not exist, or if a policy cannot change its severity, adds
/// a finding and returns `None`.
fn adjustable(reader: &mut TomlReader, name: &str, span: &Range<usize>) -> Option<Code> {
    let code = Code::ALL.iter().copied().find(|code| code.as_str() == name);
    match code {
        Some(code) if code.is_adjustable() => return Some(code),
        Some(_) => {
            let finding =
                Diagnostic::new(Code::LevelFixed, format!("the level of `{name}` is fixed: a policy cannot change it"))
                    .at(reader.file, span, "fixed level");
            reader.push(finding);
        }
        None => {
            let names: Vec<&str> = Code::ALL.iter().filter(|one| one.is_adjustable()).map(|one| one.as_str()).collect();
            let finding = Diagnostic::new(Code::UnknownKey, format!("there is no finding `{name}`")).at(
                reader.file,
                span,
                "unknown code",
            );
            let otherwise = format!("the findings with a level are {}", list_in_words(&names));
            reader.push(finding.suggest(nearest(name, &names), otherwise));
        }
    }
    None
}

fn reasons(reader: &mut TomlReader, table: &TomlTable<'_, '_>) -> BTreeMap<String, String> {
    let Some(entries) = reader.table(table, "reasons", "`[policy.reasons]`") else { return BTreeMap::new() };
    let codes = Code::ALL.iter().filter(|code| code.is_adjustable()).map(|code| code.as_str());
    let known: Vec<&str> = POLICY_KEYS[..POLICY_KEYS.len() - 3].iter().copied().chain(codes).collect();
    reader.known_keys(&entries, &known);
    let keys: Vec<String> = entries.table.keys().map(|key| key.get_ref().to_string()).collect();
    let read = |key: String| {
        let text = reader.text(&entries, &key).inspect(|text| rules::record(reader, &key, text))?;
        Some((key, text.value))
    };
    keys.into_iter().filter_map(read).collect()
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
