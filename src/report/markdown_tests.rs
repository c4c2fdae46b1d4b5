use proptest::prelude::*;

use super::super::markdown_page::MOST;
use super::super::{ReportVerb, samples};
use super::*;
use crate::diagnostics::{is_bidi, is_control};

/// Panics if the comment is too long, has an incomplete table row, tag or collapsed section, or contains a control
/// character.
fn assert_whole(comment: &str) {
    assert!(comment.len() < MOST, "{} bytes", comment.len());
    let mut columns = None;
    for line in comment.lines() {
        let count = |pattern: &str| line.matches(pattern).count();
        for element in ["code", "del", "ins", "sub", "summary"] {
            assert_eq!(count(&format!("<{element}>")), count(&format!("</{element}>")), "{line}");
        }
        let row = line.starts_with('|').then(|| line.matches(" | ").count());
        if let Some(cells) = row {
            assert!(line.ends_with(" |") && cells == columns.unwrap_or(cells), "{line}");
        }
        columns = row;
        assert!(!line.chars().any(|character| is_control(character) || is_bidi(character)), "{line}");
    }
    assert_eq!(comment.matches("<details>").count(), comment.matches("</details>").count());
}

#[test]
fn comments() {
    for report in [samples::diff(), samples::test(), samples::check(), samples::empty()] {
        let comment = render(&report);
        assert_whole(&comment);
        assert!(comment.starts_with(&format!("<!-- corrigenda:{} -->\n\n**", report.verb.as_str())));
        insta::assert_snapshot!(format!("markdown_{}", samples::name(&report)), comment);
    }
}

/// Returns the comment without the texts inside `<code>` elements, so that only the comment's structure remains.
fn bones(comment: &str) -> String {
    let mut parts = comment.split("<code>");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (inside, rest) = part.split_once("</code>").expect("every code ends");
        // The tags `<ins>` and `<del>` are part of the structure, so they are kept. They mark the words of a
        // continuation that only one of the two models generates.
        out.extend(["<ins>", "<del>"].into_iter().filter(|element| inside.contains(element)));
        out += rest;
    }
    out
}

#[test]
fn no_text_is_acted_on() {
    let attacks = [
        "</code></details><img src=x onerror=alert(1)>",
        "`x` **b** _i_ ~~s~~ [a](http://a.b) ![i](https://a.b/c.png) | c |",
        "@someone #1 :tada: $x$ www.a.b GH-1 a@b.c \\| &lt;",
        "a\n\n# head\n\n- [ ] task\n<!-- x\n```",
        "--> <!-- corrigenda:test -->",
    ];
    for verb in [ReportVerb::Diff, ReportVerb::Test, ReportVerb::Check] {
        let plain = bones(&render(&samples::hostile(verb, "plain")));
        for attack in attacks {
            let comment = render(&samples::hostile(verb, attack));
            assert_whole(&comment);
            assert_eq!(bones(&comment), plain, "{attack}");
            assert!(!comment.contains(attack));
        }
    }
}

fn huge(verb: ReportVerb, text: &str, count: usize) -> Report {
    let mut report = samples::hostile(verb, text);
    report.notes = vec![text.to_owned(); 100];
    let fill = |length: usize| (0..count).map(move |index| index % length);
    report.answers = fill(report.answers.len()).map(|index| report.answers[index].clone()).collect();
    report.findings = fill(report.findings.len()).map(|index| report.findings[index].clone()).collect();
    report.facts = fill(1).map(|index| report.facts[index].clone()).collect();
    report.continuations = fill(1).map(|index| report.continuations[index].clone()).collect();
    report.culprits = fill(1).map(|index| report.culprits[index].clone()).collect();
    report
}

#[test]
fn a_comment_stays_below_its_limit() {
    let many = render(&huge(ReportVerb::Diff, "a short text", 100_000));
    assert_whole(&many);
    assert!(many.contains("All answers (100,000)") && many.contains(" more: run <code>a short text</code>"), "{many}");
    assert!(many.len() > MOST * 3 / 4, "the available space is used");
    for text in ["\u{1b}", "`", "@", "😀", "<", "www."] {
        for verb in [ReportVerb::Diff, ReportVerb::Test, ReportVerb::Check] {
            let text = text.repeat(4096 / text.len());
            assert_whole(&render(&huge(verb, &text, 200)));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_text_and_any_count_fit(text in "(\\PC|[`@<|\n\u{0}]){0,400}", count in 0_usize..400) {
        for verb in [ReportVerb::Diff, ReportVerb::Test] {
            assert_whole(&render(&huge(verb, &text, count)));
        }
    }
}

#[test]
fn the_largest_change_is_first() {
    let comment = render(&samples::diff());
    let moved = comment.split("What else changed").nth(1).expect("the section");
    assert!(moved.find("Orsay") < moved.find("Italy"), "{moved}");
    let test_comment = render(&samples::test());
    let edits = test_comment.split("#### Edits").nth(1).expect("the section");
    assert!(edits.find("louvre") < edits.find("eiffel"), "{edits}");
}
