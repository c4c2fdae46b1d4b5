//! Escapes untrusted texts for a comment on a pull request, so that no character of a text acts as Markdown or HTML
//! markup.

use std::fmt::Write as _;

use super::format::cut;
use crate::diagnostics::escape_controls;

/// The characters with a meaning in GitHub-flavoured Markdown, in HTML, or in GitHub's processing after the Markdown
/// parser.
///
/// The colon is escaped because GitHub would make `https://…` into a link and `:smile:` into an emoji.
const ACTIVE: &str = "<>&\"'`|*_[](){}!#~@$\\^=+:";

/// Escapes a text: every character with a special meaning (see [`ACTIVE`]) becomes a character reference, which the
/// Markdown parser treats as text.
///
/// After parsing, GitHub makes mail addresses in text nodes into links. An empty HTML comment after each `@` splits the
/// text, so that no text node contains a complete address. GitHub also looks for mentions, issues, commits and emoji,
/// but not inside `<code>`. Texts are therefore shown with [`code`].
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut before = ' ';
    for character in escape_controls(text).chars() {
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

/// Formats a text as a `<code>` element, shortened to `most` characters. Returns an empty string for an empty text.
pub(super) fn code(text: &str, most: usize) -> String {
    wrapped("code", text, most)
}

/// Returns an HTML element with the escaped text, shortened to `most` characters. Returns an empty string for an empty
/// text.
pub(super) fn wrapped(element: &str, text: &str, most: usize) -> String {
    if text.is_empty() {
        return String::new();
    }
    // Escaping control characters lengthens the text, so the limit applies to the escaped text.
    format!("<{element}>{}</{element}>", escape(&cut(&escape_controls(text), most)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::diagnostics::{is_bidi, is_control};

    /// Returns the text that a browser shows for `escaped`. The tests use it to check that escaping loses nothing.
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
    fn active_markup_is_escaped() {
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
        fn escaped_text_is_inert_and_readable(text in "(\\PC|[<>&`|*_!#~@$:\\\\\n\u{1b}\u{202e}]|www\\.|https://){0,40}") {
            let escaped = escape(&text);
            prop_assert!(is_inert(&escaped), "{escaped}");
            prop_assert_eq!(read(&escaped), escape_controls(&text));
        }
    }
}
