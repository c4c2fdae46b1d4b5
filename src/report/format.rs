//! Formats numbers and counts for people, in the same way in all report formats.

use super::{Answer, Culprit, Gate, GateName};

/// Formats a probability or a share in percent with one decimal. A value between 0 and 1 that would be rounded to 0 %
/// or 100 % is shown as `<0.1%` or `>99.9%`.
pub(crate) fn percent(share: f64) -> String {
    match share {
        share if share > 0.0 && share < 0.0005 => "<0.1%".to_owned(),
        share if share < 1.0 && share > 0.9995 => ">99.9%".to_owned(),
        share => format!("{:.1}%", 100.0 * share),
    }
}

/// Formats a KL divergence in nats with three decimals. A positive value below 0.0005 is shown as `<0.001`.
pub(crate) fn nats(divergence: f64) -> String {
    match divergence {
        small if small > 0.0 && small < 0.0005 => "<0.001".to_owned(),
        other => format!("{other:.3}"),
    }
}

/// Formats a number. The number of decimals depends on the magnitude: none from 1000, 1 from 10, 3 from 0.1 and 4 from
/// 0.0001. A number of a smaller magnitude is written with an exponent, and zero as `0`.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size >= 1000.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 0.1 => format!("{value:.3}"),
        size if size >= 0.0001 => format!("{value:.4}"),
        _ => format!("{value:.1e}"),
    }
}

/// Formats a measured value: a share in percent, any other quantity as a plain number.
pub(crate) fn gate(name: GateName, value: f64) -> String {
    if name.is_share() { percent(value) } else { number(value) }
}

/// Formats the limit of a measured value, with `≥` before a minimum and `≤` before a maximum; `None` if no limit is
/// set. Shares are in percent. Other limits are rounded only if their decimal form has more than eight characters.
pub(crate) fn limit(gate: &Gate) -> Option<String> {
    let sign = if gate.more_is_better { "≥" } else { "≤" };
    let limit = gate.limit?;
    let written = format!("{limit}");
    // A very small limit has up to three hundred decimals, so a limit of more than eight characters is rounded.
    let short = written.len() <= 8 && !gate.name.is_share();
    Some(format!("{sign} {}", if short { written } else { self::gate(gate.name, limit) }))
}

/// Formats a count with its noun: "1 edit", "2 edits".
pub(crate) fn plural(count: usize, noun: &str) -> String {
    format!("{} {noun}{}", thousands(count as u64), if count == 1 { "" } else { "s" })
}

/// Formats a whole number with commas between thousands.
pub(crate) fn thousands(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Shortens a digest to its first twelve hexadecimal digits. A text that is not a digest is returned unchanged.
pub(crate) fn short(digest: &str) -> &str {
    let hex = digest.strip_prefix("sha256:").unwrap_or(digest);
    let is_digest = hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_digest { &hex[..12] } else { digest }
}

/// Returns the first `most` characters of `text`, with an ellipsis if the text was shortened.
pub(crate) fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

/// Formats the number in `culprit.nearest`: `P 0.123`, the probability of the wanted answer, or `KL 0.123`, the
/// divergence in nats, for a prompt without a wanted answer. Returns `None` if `culprit.nearest` is `None`.
pub(crate) fn nearest(culprit: &Culprit, answers: &[Answer]) -> Option<String> {
    let (_, value) = culprit.nearest.as_ref()?;
    let own = |one: &&Answer| (&one.id, &one.prompt) == (&culprit.id, &culprit.prompt);
    let wanted = answers.iter().find(own).is_some_and(|one| one.target.is_some());
    Some(format!("{} {value:.3}", if wanted { "P" } else { "KL" }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_people_read_them() {
        assert_eq!([0.0, 0.0001, 0.5, 0.9999, 1.0].map(percent), ["0.0%", "<0.1%", "50.0%", ">99.9%", "100.0%"]);
        assert_eq!([0.0, 0.0001, 0.0042, 2.5].map(nats), ["0.000", "<0.001", "0.004", "2.500"]);
        assert_eq!(
            [0.0, 0.000_012, 0.0042, 0.5, 12.34, 1234.5].map(number),
            ["0", "1.2e-5", "0.0042", "0.500", "12.3", "1234"]
        );
        assert_eq!([gate(GateName::Efficacy, 0.5), gate(GateName::Damage, 0.02)], ["50.0%", "0.0200"]);
        assert_eq!([plural(1, "edit"), plural(1_234_567, "edit")], ["1 edit", "1,234,567 edits"]);
    }

    #[test]
    fn limits_as_they_were_written() {
        let gate = |name, limit, more_is_better| Gate { name, value: 0.0, limit, more_is_better, pass: true };
        let shown = |name, limit, more| limit_of(&gate(name, limit, more));
        assert_eq!(shown(GateName::Damage, Some(0.01), false), "≤ 0.01");
        assert_eq!(shown(GateName::Damage, Some(1e-300), false), "≤ 1.0e-300");
        assert_eq!(shown(GateName::Efficacy, Some(0.95), true), "≥ 95.0%");
        assert_eq!(shown(GateName::Perplexity, None, false), "");
    }

    fn limit_of(gate: &Gate) -> String {
        limit(gate).unwrap_or_default()
    }

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!([cut("São", 3), cut("São Tomé", 3), cut("", 0)], ["São", "São…", ""]);
        assert_eq!(short(&format!("sha256:{}", "a".repeat(64))), "a".repeat(12));
        assert_eq!(short("sha256:é"), "sha256:é");
    }
}
