//! Tests HTML pages: their content, that they load no external resource, and that no text of a report acts as markup.

use std::collections::BTreeSet;

use super::super::{ReportVerb, samples};
use super::*;

fn between<'a>(page: &'a str, start: &str, end: &str) -> &'a str {
    page.split_once(start).and_then(|(_, rest)| rest.split_once(end)).expect("the page contains both markers").0
}

/// Returns the tags of a page in order, without the values of their attributes. The style and the script of the page
/// are left out.
fn bones(page: &str) -> Vec<String> {
    let page = format!("{}{}", between(page, "<html", "<style>"), between(page, "</style>", "<script>"));
    let mut tags = Vec::new();
    for tag in page.split('<').skip(1) {
        let (tag, _) = tag.split_once('>').expect("every tag ends");
        let quoted = tag.split('"').step_by(2).collect::<Vec<_>>();
        tags.push(quoted.join("\"\""));
    }
    tags
}

#[test]
fn pages() {
    for report in [samples::diff(), samples::test(), samples::check(), samples::empty()] {
        let page = render(&report);
        insta::assert_snapshot!(format!("html_{}", samples::name(&report)), between(&page, "<main>", "</main>"));
    }
}

#[test]
fn a_page_loads_and_allows_nothing() {
    let page = render(&samples::diff());
    let policy = between(&page, "Content-Security-Policy\" content=\"", "\"");
    assert_eq!(
        policy,
        format!(
            "default-src 'none'; style-src {}; script-src {}; base-uri 'none'; form-action 'none'",
            allowed(between(&page, "<style>", "</style>")),
            allowed(between(&page, "<script>", "</script>"))
        )
    );
    for word in ["http:", "https:", "url(", "@import", "@font-face", "fetch(", "XMLHttpRequest", "innerHTML", "eval("] {
        assert!(!page.contains(word), "{word}");
    }
    // The page's content security policy would block style attributes and event handlers.
    assert!(!page.contains(" style=") && !page.contains(" onclick="));
}

/// Returns the contrast ratio of two colours, as WCAG defines it.
fn contrast(one: &str, other: &str) -> f64 {
    let light = |color: &str| {
        let part = |at: usize| {
            let value = f64::from(u8::from_str_radix(&color[at..at + 2], 16).expect("two digits")) / 255.0;
            if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * part(0) + 0.7152 * part(2) + 0.0722 * part(4) + 0.05
    };
    let (one, other) = (light(one), light(other));
    (one / other).max(other / one)
}

#[test]
fn contrast_suffices_in_both_schemes() {
    assert!((contrast("ffffff", "000000") - 21.0).abs() < 1e-9);
    let schemes: Vec<&str> = STYLE.split(":root {").skip(1).take(2).collect();
    assert_eq!(schemes.len(), 2);
    for scheme in schemes {
        let color = |name: &str| &between(scheme, &format!("--{name}: #"), ";")[..6];
        for back in ["paper", "sheet", "faint"] {
            for front in ["ink", "soft", "accent", "fail"] {
                assert!(contrast(color(front), color(back)) >= 4.5, "{front} on {back}");
            }
        }
        for back in ["cut", "new"] {
            assert!(contrast(color("ink"), color(back)) >= 7.0, "ink on {back}");
        }
    }
}

#[test]
fn ids_are_unique_and_tags_are_closed() {
    let page = render(&samples::hostile(ReportVerb::Diff, "x"));
    let ids: Vec<&str> = page.split(" id=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "{ids:?}");
    let mut open = Vec::new();
    for tag in bones(&page) {
        let name = tag.split(' ').next().unwrap_or_default().to_owned();
        match name.strip_prefix('/') {
            Some(name) => assert_eq!(open.pop().as_deref(), Some(name)),
            None if tag.ends_with('/') || matches!(name.as_str(), "br" | "meta" | "input") => {}
            None => open.push(name),
        }
    }
    assert_eq!(open, ["body"], "only body is open at the script");
}

#[test]
fn no_text_is_acted_on() {
    let plain = bones(&render(&samples::hostile(ReportVerb::Diff, "plain")));
    for attack in [
        "</script><script>alert(1)</script>",
        "\" onmouseover=\"alert(1)",
        "' autofocus onfocus='alert(1)",
        "javascript:alert(1)",
        "<!-- --><![CDATA[ <style>*{display:none}</style>",
        "&lt;b&gt;</td></table></main>",
        "\u{0}\u{1b}[31m\u{202e}\u{2028}",
    ] {
        let page = render(&samples::hostile(ReportVerb::Diff, attack));
        assert_eq!(bones(&page), plain, "{attack}");
        assert!(!page.contains('\u{202e}') && !page.contains('\u{0}'));
        assert!(page.contains(&escape(attack)));
    }
}

#[test]
fn bars_stay_in_their_frame() {
    let shares = [None, Some(f64::NAN), Some(f64::INFINITY), Some(-1.0), Some(2.0), Some(0.25)];
    assert_eq!(shares.map(bar_width), ["0.00", "0.00", "0.00", "0.00", "100.00", "25.00"]);
}
