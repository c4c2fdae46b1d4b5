//! Escapes untrusted texts for an HTML page, and writes the digests by which the page's content security policy allows
//! a script or a style.

use std::fmt::Write as _;

use crate::diagnostics::escape_controls;
use crate::digest::Digest;

/// Escapes a text for the content of an element or for a quoted attribute.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in escape_controls(text).chars() {
        if matches!(character, '<' | '>' | '&' | '"' | '\'' | '`') {
            // Writing to a `String` cannot fail.
            let _ = write!(out, "&#{};", u32::from(character));
        } else {
            out.push(character);
        }
    }
    out
}

/// Returns an HTML element that shows the text with its white space. Returns an empty string for an empty text.
pub(super) fn text(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("<span class=\"text\">{}</span>", escape(text)) }
}

/// Returns the item of a content security policy that allows a script or a style with this content. The item contains
/// the digest of the content, so it allows no other content.
pub(super) fn allowed(content: &str) -> String {
    format!("'sha256-{}'", base64(Digest::of(content.as_bytes()).bytes()))
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for group in bytes.chunks(3) {
        let whole = group.iter().fold(0, |whole, byte| whole << 8 | usize::from(*byte)) << (8 * (3 - group.len()));
        for digit in 0..4 {
            let sextet = whole >> (18 - 6 * digit) & 63;
            out.push(if digit <= group.len() { char::from(DIGITS[sextet]) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_is_escaped() {
        assert_eq!(
            escape("</script><b a='x' b=\"y\">&amp;"),
            "&#60;/script&#62;&#60;b a=&#39;x&#39; b=&#34;y&#34;&#62;&#38;amp;"
        );
        assert_eq!(escape("\u{0}\u{202e}`"), "\\u{0}\\u{202e}&#96;");
        assert_eq!(text(""), "");
    }

    #[test]
    fn digests_in_base64() {
        assert_eq!(
            [b"".as_slice(), b"f", b"fo", b"foo", b"foob"].map(base64),
            ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg=="]
        );
        assert_eq!(allowed("abc"), "'sha256-ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0='");
    }
}
