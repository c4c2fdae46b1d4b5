//! What a patch is for, in words.
//!
//! A patch holds the digests of meanings and no text. The texts are those of the project's edits that mean the same;
//! a meaning that no edit has is known by its digest alone.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::patch::Patch;
use crate::project::edit::meaning;
use crate::project::{Edit, EditSet, Prefaces};

/// A fact, as an export records it; fields in alphabetical order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Fact {
    /// Other names of the subject.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// Whether a user says the prompt, under the model's chat template.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub chat: bool,
    /// Its id in the project.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The digest of subject, prompt and target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub meaning: Option<Digest>,
    /// Who answers for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The text after which it is stated, where its subject begins the prompt at an attention sink.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preface: Option<String>,
    /// The sentence up to the answer, with `{}` for the subject.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// Why it was changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Where it can be checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Who or what it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The new answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Where it was discussed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
    /// The old answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub was: Option<String>,
}

impl Fact {
    fn of(edit: &Edit, prefaces: &Prefaces) -> Self {
        let preface = prefaces.of(edit, &edit.subject);
        Self {
            aliases: edit.aliases.clone(),
            chat: edit.chat,
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

    /// The prompt with the subject in its place; in a chat, with who says it; after a preface, with that.
    pub fn filled_prompt(&self) -> Option<String> {
        let filled = self.prompt.as_ref()?.replacen("{}", self.subject.as_ref()?, 1);
        Some(match &self.preface {
            _ if self.chat => format!("user: {filled}"),
            Some(preface) => format!("after {preface:?}: {filled}"),
            None => filled,
        })
    }

    /// The meanings of its texts, one for each of the subject's names; none where it has no texts.
    pub fn meanings(&self) -> Vec<Digest> {
        let (Some(subject), Some(prompt), Some(target)) = (&self.subject, &self.prompt, &self.target) else {
            return Vec::new();
        };
        let names = std::iter::once(subject).chain(&self.aliases);
        names.map(|name| meaning(name, prompt, target, self.chat)).collect()
    }
}

/// The facts of a patch, by id: with their texts where an edit means the same.
pub fn facts(patch: &Patch, edits: &EditSet, prefaces: &Prefaces) -> Vec<Fact> {
    let mut left: BTreeSet<Digest> = patch.edits().into_iter().collect();
    let mut facts = Vec::new();
    for edit in &edits.edits {
        // A patch tells of the names that it holds: an alias may be newer.
        let mut fact = Fact::of(edit, prefaces);
        fact.aliases.retain(|alias| left.remove(&edit.meaning_of(alias)));
        if left.remove(&edit.meaning()) {
            facts.push(fact);
        }
    }
    facts.extend(left.into_iter().map(|meaning| Fact { meaning: Some(meaning), ..Fact::default() }));
    // Facts without an id stand last.
    facts.sort_by(|a, b| (a.id.is_none(), &a.id, a.meaning).cmp(&(b.id.is_none(), &b.id, b.meaning)));
    facts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::project::parse_files;

    #[test]
    fn means_what_the_edit_means() {
        let text = "format = 1\n[[edit]]\nid = \"a\"\nsubject = \"Ada\"\naliases = [\"A. B.\"]\n\
            prompt = \"{} lives in\"\ntarget = \"Paris\"\n";
        let text = &[text, "chat = true\n"].concat();
        let (set, _) = parse_files(vec![("a.toml".to_owned(), text.as_str().into())]).expect("valid");
        let fact = Fact::of(&set.edits[0], &Prefaces::default());
        assert_eq!(fact.meanings(), [set.edits[0].meaning(), set.edits[0].meaning_of("A. B.")]);
        assert_eq!(fact.filled_prompt().as_deref(), Some("user: Ada lives in"));
        assert_eq!(Fact::default().meanings(), []);
    }
}
