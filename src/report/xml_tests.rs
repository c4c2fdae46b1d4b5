//! A strict XML reader for tests. It accepts only the subset of XML that this program writes.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[derive(Debug, Default)]
pub(in super::super) struct Element {
    pub(in super::super) name: String,
    pub(in super::super) attributes: BTreeMap<String, String>,
    pub(in super::super) text: String,
    pub(in super::super) elements: Vec<Self>,
}

/// Parses an XML document and returns its root element. The document must begin with an XML declaration.
pub(in super::super) fn read(document: &str) -> Result<Element, String> {
    let allowed = |character: char| matches!(character, '\n' | ' '..='\u{7e}' | '\u{a0}'..='\u{fffd}' | '\u{10000}'..);
    if let Some(character) = document.chars().find(|character| !allowed(*character)) {
        return Err(format!("the character {character:?}"));
    }
    let rest = document.strip_prefix("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n").ok_or("no declaration")?;
    let (element, rest) = element(rest.strip_prefix('<').ok_or("no element")?)?;
    if rest.trim().is_empty() { Ok(element) } else { Err(format!("text after the end: {rest}")) }
}

fn element(rest: &str) -> Result<(Element, &str), String> {
    let (tag, mut rest) = rest.split_once('>').ok_or("a tag without an end")?;
    let (tag, closed) = tag.strip_suffix('/').map_or((tag, false), |tag| (tag, true));
    let mut element = head(tag)?;
    if closed {
        return Ok((element, rest));
    }
    loop {
        let (text, after) = rest.split_once('<').ok_or("an element without an end")?;
        element.text += &plain(text)?;
        if let Some(end) = after.strip_prefix('/') {
            let (name, remaining) = end.split_once('>').ok_or("a tag without an end")?;
            return if name == element.name {
                Ok((element, remaining))
            } else {
                Err(format!("{name} ends {}", element.name))
            };
        }
        let (inner, after) = self::element(after)?;
        element.elements.push(inner);
        rest = after;
    }
}

fn head(tag: &str) -> Result<Element, String> {
    let (name, mut rest) = tag.split_once(' ').unwrap_or((tag, ""));
    let is_name = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
    if !is_name(name) {
        return Err(format!("the name {name:?}"));
    }
    let mut element = Element { name: name.to_owned(), ..Element::default() };
    while !rest.is_empty() {
        let (attribute, after) = rest.split_once("=\"").ok_or("an attribute without a value")?;
        let (value, after) = after.split_once('"').ok_or("a value without an end")?;
        if !is_name(attribute) || element.attributes.insert(attribute.to_owned(), plain(value)?).is_some() {
            return Err(format!("the attribute {attribute:?}"));
        }
        rest = match after.strip_prefix(' ') {
            Some(next) => next,
            None if after.is_empty() => after,
            None => return Err(format!("text after a value: {after}")),
        };
    }
    Ok(element)
}

fn plain(text: &str) -> Result<String, String> {
    let mut parts = text.split('&');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (number, rest) = part.strip_prefix('#').and_then(|part| part.split_once(';')).ok_or("a bare &")?;
        out.push(number.parse().ok().and_then(char::from_u32).ok_or("no such character")?);
        out += rest;
    }
    Ok(out)
}

#[test]
fn invalid_documents_are_rejected() {
    let document = |body: &str| read(&format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{body}"));
    assert!(document("<a b=\"c\">d<e/></a>\n").is_ok());
    for wrong in ["<a>", "<a></b>", "<a b=c/>", "<a b=\"1\" b=\"2\"/>", "<a>&</a>", "<a>\u{1b}</a>", "<a/><b/>"] {
        assert!(document(wrong).is_err(), "{wrong}");
    }
}

proptest! {
    #[test]
    fn any_text_is_read_back(any in "(\\PC|[<>&\"'\n\u{0}\u{1b}\u{fffe}\u{ffff}]){0,40}") {
        let document =
            format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<a b=\"{}\">{}</a>", attribute(&any), text(&any));
        let element = read(&document).expect("valid");
        let shown = |text: &str| {
            escape_controls(text).replace('\u{fffe}', "\\u{fffe}").replace('\u{ffff}', "\\u{ffff}")
        };
        prop_assert_eq!(&element.attributes["b"], &shown(&any));
        prop_assert_eq!(element.text, any.split('\n').map(shown).collect::<Vec<_>>().join("\n"));
    }
}
