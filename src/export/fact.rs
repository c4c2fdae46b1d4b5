//! Collects the texts of the facts in a patch.
//!
//! A patch identifies a fact only by its meaning digest, the digest of subject, prompt, target and chat flag. The texts
//! come from the project's edit with the same meaning digest. If the project does not have the edit, the fact has no
//! texts.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::patch::Patch;
use crate::project::edits::edit::meaning;
use crate::project::{Edit, EditSet, EndMark, Prefaces};

/// A fact as recorded in an export. The fields are in alphabetical order, which is the order of the keys in the
/// manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ExportedFact {
    /// The aliases of the subject for which the patch also changes the answer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// Whether the prompt is a user message in the model's chat template.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub chat: bool,
    /// What the model should give directly after the answer, if the edit states it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<EndMark>,
    /// The id of the edit in the project; absent if the project does not have the edit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The digest of subject, prompt, target and chat flag, by which the patch identifies the fact.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub meaning: Option<Digest>,
    /// The person or team responsible for the fact.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The text that is put before the prompt because the subject would otherwise be at an attention sink; absent if
    /// the prompt needs no such text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preface: Option<String>,
    /// The text before the answer, with `{}` in place of the subject.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// The reason for the change; absent if the edit does not state it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The source where the fact can be checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The entity that the fact is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The new answer, which follows the prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The ticket of the change in an issue tracker; absent if the edit does not state it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
    /// The answer that was correct before the edit; absent if the edit does not state it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub was: Option<String>,
}

impl ExportedFact {
    fn of(edit: &Edit, prefaces: &Prefaces) -> Self {
        let preface = prefaces.of(edit, &edit.subject);
        Self {
            aliases: edit.aliases.clone(),
            chat: edit.chat,
            end: edit.end,
            id: Some(edit.id.clone()),
            meaning: Some(edit.meaning()),
            owner: edit.owner.clone(),
            preface: Some(preface.to_owned()).filter(|text| !text.is_empty()),
            prompt: Some(edit.prompt.clone()),
            reason: edit.reason.clone(),
            source: edit.source.clone(),
            subject: Some(edit.subject.clone()),
            target: Some(edit.target.clone()),
            ticket: edit.ticket.clone(),
            was: edit.was.clone(),
        }
    }

    /// Returns the prompt with the subject filled in, for display. A chat message becomes `user: …`, and a prompt with
    /// a preface becomes `after "…": …`. `None` if the fact has no texts.
    pub fn filled_prompt(&self) -> Option<String> {
        let filled = self.prompt.as_ref()?.replacen("{}", self.subject.as_ref()?, 1);
        Some(match &self.preface {
            _ if self.chat => format!("user: {filled}"),
            Some(preface) => format!("after {preface:?}: {filled}"),
            None => filled,
        })
    }

    /// Computes the meaning digests, by which a patch identifies the fact, from the texts of the fact: first the digest
    /// for the subject, then one for each alias. Empty if the fact has no texts.
    pub fn meanings(&self) -> Vec<Digest> {
        let (Some(subject), Some(prompt), Some(target)) = (&self.subject, &self.prompt, &self.target) else {
            return Vec::new();
        };
        let names = std::iter::once(subject).chain(&self.aliases);
        names.map(|name| meaning(name, prompt, target, (self.chat, self.end))).collect()
    }
}

/// Returns the facts of a patch, sorted by id. A patch contains only the meaning digests of its facts, so the texts of
/// a fact are copied from the edit in `edits` with the same meaning digest. Without such an edit, the fact has no
/// texts.
pub fn facts(patch: &Patch, edits: &EditSet, prefaces: &Prefaces) -> Vec<ExportedFact> {
    let mut left: BTreeSet<Digest> = patch.edits().into_iter().collect();
    let mut facts = Vec::new();
    for edit in &edits.edits {
        // An alias that was added to the edit after the build is not in the patch. It is therefore left out of the
        // exported fact.
        let mut fact = ExportedFact::of(edit, prefaces);
        fact.aliases.retain(|alias| left.remove(&edit.meaning_of(alias)));
        if left.remove(&edit.meaning()) {
            facts.push(fact);
        }
    }
    facts.extend(left.into_iter().map(|meaning| ExportedFact { meaning: Some(meaning), ..ExportedFact::default() }));
    // Facts without an id come last.
    facts.sort_by(|a, b| (a.id.is_none(), &a.id, a.meaning).cmp(&(b.id.is_none(), &b.id, b.meaning)));
    facts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::project::parse_files;

    #[test]
    fn meanings_equal_those_of_the_edit() {
        let text = "format = 1\n[[edit]]\nid = \"a\"\nsubject = \"Ada\"\naliases = [\"A. B.\"]\n\
            prompt = \"{} lives in\"\ntarget = \"Paris\"\n";
        let text = &[text, "chat = true\n"].concat();
        let (set, _) = parse_files(vec![("a.toml".to_owned(), text.as_str().into())]).expect("valid");
        let fact = ExportedFact::of(&set.edits[0], &Prefaces::default());
        assert_eq!(fact.meanings(), [set.edits[0].meaning(), set.edits[0].meaning_of("A. B.")]);
        assert_eq!(fact.filled_prompt().as_deref(), Some("user: Ada lives in"));
        assert_eq!(ExportedFact::default().meanings(), []);
    }
}
