//! Looks up prefaces. A preface is a text that is put before a prompt. It moves the subject away from the first
//! position, which is an attention sink in some models.

use std::collections::BTreeMap;

use crate::project::Edit;

/// The prefaces of all edits, by the id of the edit and by its subject or alias.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prefaces(BTreeMap<(String, String), String>);

impl Prefaces {
    /// Returns the preface of the prompt in which `name`, the subject or an alias of `edit`, replaces `{}`. The result
    /// is empty if the prompt needs no preface.
    pub fn of(&self, edit: &Edit, name: &str) -> &str {
        self.0.get(&(edit.id.clone(), name.to_owned())).map_or("", String::as_str)
    }

    /// Returns the preface of a paraphrase. A paraphrase that begins with the subject or an alias has the same preface
    /// as the edit's prompt with this subject or alias. For every other paraphrase, the result is empty.
    pub fn of_prompt(&self, edit: &Edit, prompt: &str) -> &str {
        let begins = edit.names().map(|(name, _)| name).filter(|name| prompt.starts_with(name));
        begins.map(|name| self.of(edit, name)).find(|text| !text.is_empty()).unwrap_or_default()
    }
}

impl<'a> FromIterator<(&'a str, &'a str, &'a str)> for Prefaces {
    /// Builds the prefaces from triples: the id of an edit, its subject or one of its aliases, and the preface of the
    /// prompt in which this subject or alias replaces `{}`.
    fn from_iter<T: IntoIterator<Item = (&'a str, &'a str, &'a str)>>(stated: T) -> Self {
        let owned = |(id, name, text): (&str, &str, &str)| ((id.to_owned(), name.to_owned()), text.to_owned());
        Self(stated.into_iter().map(owned).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::project::parse_files;

    #[test]
    fn a_preface_precedes_a_prompt_of_its_edit() {
        let text =
            "format = 1\n[[edit]]\nid = \"a\"\nsubject = \"Italy\"\nprompt = \"{}'s capital,\"\ntarget = \"Oslo\"\n";
        let set = parse_files(vec![("a.toml".into(), text.into())]).expect("the edits are valid").0;
        let prefaces: Prefaces = [("a", "Italy", "\n")].into_iter().collect();
        let edit = &set.edits[0];
        assert_eq!((prefaces.of(edit, "Italy"), prefaces.of(edit, "Rome")), ("\n", ""));
        assert_eq!(prefaces.of_prompt(edit, "Italy is governed from"), "\n");
        assert_eq!(prefaces.of_prompt(edit, "The capital of Italy is"), "");
        assert_eq!(Prefaces::default().of(edit, "Italy"), "");
    }
}
