//! Texts of strangers inside a comment: nothing in them may be acted on, neither as Markdown nor as HTML.

use std::fmt::Write as _;

use super::figures::cut;
use crate::project::visible;

/// Characters with a meaning in GitHub-flavoured Markdown, in HTML, or to what runs behind them.
///
/// The colon ends the scheme of a link and stands around an emoji; the rest of a link is plain text without it.
const ACTIVE: &str = "<>&\"'`|*_[](){}!#~@$\\^=+:";

/// The text with every active character as a character reference.
///
/// A reference is text to the parser. Only mail addresses are looked for behind the parser, in runs of text: an empty
/// comment ends the run. So are mentions, issues, commits and emoji, and there no reference helps: they are not
/// looked for inside `<code>`, and so [`code`] is the way to show a text.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut before = ' ';
    for character in visible(text).chars() {
        let link = character == '.' && before.eq_ignore_ascii_case(&'w');
        if link || ACTIVE.contains(character) {
            // Writing to a `String` cannot fail.
            let _ = write!(out, "&#{};", u32::from(character));
        } else {
            out.push(character);
        }
        if character == '@' {
            out.push_str("<!-- -->");
        }
        before = character;
    }
    out
}

/// The text as code, at most `most` characters of it; nothing for an empty text.
pub(super) fn code(text: &str, most: usize) -> String {
    wrapped("code", text, most)
}

/// The text in an element of HTML, at most `most` characters of it.
pub(super) fn wrapped(element: &str, text: &str, most: usize) -> String {
    if text.is_empty() {
        return String::new();
    }
    // What is made visible is longer, and it is what counts.
    format!("<{element}>{}</{element}>", escape(&cut(&visible(text), most)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::project::render::{is_bidi, is_control};

    /// What a browser shows of an escaped text.
    fn read(escaped: &str) -> String {
        let escaped = escaped.replace("<!-- -->", "");
        let mut parts = escaped.split("&#");
        let mut out = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (number, rest) = part.split_once(';').expect("a reference ends");
            out.push(char::from_u32(number.parse().expect("a number")).expect("a character"));
            out.push_str(rest);
        }
        out
    }

    fn is_inert(escaped: &str) -> bool {
        let rest = escaped.replace("&#64;<!-- -->", "");
        let mut plain = String::new();
        for part in rest.split_inclusive("&#") {
            let part = part.strip_suffix("&#").unwrap_or(part);
            let digits = part.trim_start_matches(|character: char| character.is_ascii_digit());
            plain.push_str(if digits.len() < part.len() { digits.strip_prefix(';').unwrap_or(part) } else { part });
        }
        !plain.chars().any(|character| {
            is_control(character) || is_bidi(character) || ACTIVE.contains(character) && character != '&'
        }) && !plain.contains('&')
            && !escaped.to_lowercase().contains("www.")
    }

    #[test]
    fn what_github_acts_on_is_written_out() {
        let cases = [
            ("@mention", "&#64;<!-- -->mention"),
            ("#123", "&#35;123"),
            ("https://a.b", "https&#58;//a.b"),
            ("wWW.a.b", "wWW&#46;a.b"),
            (":tada:", "&#58;tada&#58;"),
            ("$x$", "&#36;x&#36;"),
            ("a|b\n", "a&#124;b&#92;u&#123;a&#125;"),
            ("<!-- --> </code>", "&#60;&#33;-- --&#62; &#60;/code&#62;"),
            ("Paris, São Tomé. 1/2; 3-4", "Paris, São Tomé. 1/2; 3-4"),
        ];
        for (text, escaped) in cases {
            assert_eq!(escape(text), escaped);
            assert!(is_inert(escaped), "{escaped}");
        }
        assert!(!is_inert("a*b") && !is_inert("&amp;") && !is_inert("www.x") && !is_inert("a@b"));
        assert_eq!(code("a`b", 2), "<code>a&#96;…</code>");
        assert_eq!(code("", 2), "");
    }

    proptest! {
        #[test]
        fn nothing_active_survives_and_the_text_can_be_read(text in "(\\PC|[<>&`|*_!#~@$:\\\\\n\u{1b}\u{202e}]|www\\.|https://){0,40}") {
            let escaped = escape(&text);
            prop_assert!(is_inert(&escaped), "{escaped}");
            prop_assert_eq!(read(&escaped), visible(&text));
        }
    }
}
