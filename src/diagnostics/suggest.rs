//! Formats names for messages: suggests the name that the user probably meant, and lists or shortens names.

use super::Diagnostic;

/// Returns the known name with the smallest Damerau-Levenshtein distance to `name`. Returns `None` if this distance is
/// more than 1 and also more than a third of the length of `name`.
pub fn nearest<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    let near = known.iter().map(|key| (strsim::damerau_levenshtein(name, key), *key)).min()?;
    (near.0 <= (name.chars().count() / 3).max(1)).then_some(near.1)
}

/// Returns the known name with the highest Jaro-Winkler similarity to `name`; `None` if no similarity is above 0.8. The
/// similarity of two names is higher if they have the same beginning. Of equally similar names, the last one is
/// returned.
pub fn most_similar<'k>(name: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let similar = known.into_iter().map(|known| (strsim::jaro_winkler(known, name), known));
    similar.max_by(|a, b| a.0.total_cmp(&b.0)).filter(|(similarity, _)| *similarity > 0.8).map(|(_, found)| found)
}

pub fn did_you_mean(name: &str) -> String {
    format!("did you mean `{name}`?")
}

impl Diagnostic {
    /// Adds the help line "did you mean `NAME`?" if `name` is given. Otherwise adds the help line `otherwise`.
    #[must_use]
    pub fn suggest(self, name: Option<&str>, otherwise: impl Into<String>) -> Self {
        self.help(name.map_or_else(|| otherwise.into(), did_you_mean))
    }
}

/// Shortens a text of more than 80 characters to its first 80 characters and `…`.
pub fn shorten(text: &str) -> String {
    const MOST: usize = 80;
    match text.char_indices().nth(MOST) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// Joins names into a phrase for a message, such as "`a`, `b` and `c`".
pub fn list_in_words(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_name_is_suggested() {
        assert_eq!(nearest("subjct", &["subject", "target"]), Some("subject"));
        assert_eq!(nearest("colour", &["subject", "target"]), None);
        assert_eq!(most_similar("eiffel-towr", ["louvre.city", "eiffel-tower.city"]), Some("eiffel-tower.city"));
        assert_eq!(most_similar("x", ["louvre.city"]), None);
    }

    #[test]
    fn names_are_listed_in_words() {
        assert_eq!(list_in_words(&["a", "b", "c"]), "`a`, `b` and `c`");
        assert_eq!(list_in_words(&["a"]), "`a`");
    }
}
