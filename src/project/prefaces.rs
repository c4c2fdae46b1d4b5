//! The texts after which facts are stated whose subjects begin their prompts at an attention sink.

use std::collections::BTreeMap;

use super::Edit;

/// Prefaces by the id of an edit and the name of its subject.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prefaces(BTreeMap<(String, String), String>);

impl Prefaces {
    /// The text after which an edit is asked under one name of its subject; empty where it is asked as it stands.
    pub fn of(&self, edit: &Edit, name: &str) -> &str {
        self.0.get(&(edit.id.clone(), name.to_owned())).map_or("", String::as_str)
    }

    /// The text after which another prompt of an edit is asked: that of the name which the prompt begins with.
    pub fn of_prompt(&self, edit: &Edit, prompt: &str) -> &str {
        let begins = edit.names().map(|(name, _)| name).filter(|name| prompt.starts_with(name));
        begins.map(|name| self.of(edit, name)).find(|text| !text.is_empty()).unwrap_or_default()
    }
}

impl<'a> FromIterator<(&'a str, &'a str, &'a str)> for Prefaces {
    /// From ids, names and texts.
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
    fn a_prompt_that_begins_with_the_name_is_asked_after_its_preface() {
        let text =
            "format = 1\n[[edit]]\nid = \"a\"\nsubject = \"Italy\"\nprompt = \"{}'s capital,\"\ntarget = \"Oslo\"\n";
        let set = parse_files(vec![("a.toml".into(), text.into())]).expect("valid").0;
        let prefaces: Prefaces = [("a", "Italy", "\n")].into_iter().collect();
        let edit = &set.edits[0];
        assert_eq!((prefaces.of(edit, "Italy"), prefaces.of(edit, "Rome")), ("\n", ""));
        assert_eq!(prefaces.of_prompt(edit, "Italy is governed from"), "\n");
        assert_eq!(prefaces.of_prompt(edit, "The capital of Italy is"), "");
        assert_eq!(Prefaces::default().of(edit, "Italy"), "");
    }
}
