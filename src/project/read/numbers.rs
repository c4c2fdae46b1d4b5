//! Reads numbers, booleans and dates from TOML. An invalid value gives a finding, and the result is `None`.

use std::ops::{Range, RangeInclusive};

use jiff::civil::Date;
use toml::Spanned;
use toml::de::DeValue;

use super::toml_reader::{TomlReader, TomlTable, in_backticks};
use crate::diagnostics::Code;

/// Whether zero is valid for a number that must not be negative.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum LowerBound {
    IncludesZero,
    ExcludesZero,
}

impl TomlReader {
    /// Reads the optional integer `key`. An integer outside `range` gives a finding.
    pub(crate) fn integer(&mut self, entry: &TomlTable<'_, '_>, key: &str, range: RangeInclusive<i64>) -> Option<i64> {
        let value = self.optional(entry, key)?;
        let DeValue::Integer(digits) = value.get_ref() else {
            self.wrong_type(&in_backticks(key), "an integer", value);
            return None;
        };
        let number = i64::from_str_radix(digits.as_str(), digits.radix()).ok().filter(|n| range.contains(n));
        if number.is_none() {
            let message = if *range.end() == i64::MAX {
                format!("`{key}` must be an integer of at least {}", range.start())
            } else {
                format!("`{key}` must be an integer from {} to {}", range.start(), range.end())
            };
            self.note(Code::OutOfRange, message, &value.span(), "out of range");
        }
        number
    }

    /// Reads the optional number `key`, which may be written as an integer. The number must be finite and must not be
    /// negative. If `bound` is `ExcludesZero`, it must not be zero either.
    pub(crate) fn number(&mut self, entry: &TomlTable<'_, '_>, key: &str, bound: LowerBound) -> Option<f64> {
        let value = self.optional(entry, key)?;
        let number = match value.get_ref() {
            DeValue::Float(digits) => digits.as_str().parse::<f64>().ok(),
            #[expect(
                clippy::cast_precision_loss,
                reason = "an integer may be written for a real number, and is rounded"
            )]
            DeValue::Integer(digits) => i64::from_str_radix(digits.as_str(), digits.radix()).ok().map(|n| n as f64),
            _ => {
                self.wrong_type(&in_backticks(key), "a number", value);
                return None;
            }
        };
        let fits = |n: &f64| n.is_finite() && (*n > 0.0 || (*n == 0.0 && bound == LowerBound::IncludesZero));
        let number = number.filter(fits);
        if number.is_none() {
            let range = if bound == LowerBound::IncludesZero { "of at least 0" } else { "above 0" };
            let message = format!("`{key}` must be a finite number {range}");
            self.note(Code::OutOfRange, message, &value.span(), "out of range");
        }
        number
    }

    /// Reads the optional boolean `key`, and returns it with its byte range. The result is `None` if the key is missing
    /// or has another type.
    pub(crate) fn boolean(&mut self, entry: &TomlTable<'_, '_>, key: &str) -> Option<(bool, Range<usize>)> {
        let value = self.optional(entry, key)?;
        match value.get_ref() {
            DeValue::Boolean(truth) => Some((*truth, value.span())),
            _ => {
                self.wrong_type(&in_backticks(key), "true or false", value);
                None
            }
        }
    }

    /// Reads the optional share `key`, a number from 0 to 1.
    pub(crate) fn share(&mut self, entry: &TomlTable<'_, '_>, key: &str) -> Option<f64> {
        let number = self.number(entry, key, LowerBound::IncludesZero)?;
        if number > 1.0 {
            let span = entry.table.get(key).map_or(0..0, Spanned::span);
            let message = format!("`{key}` is a share: it must be from 0 to 1");
            self.note(Code::OutOfRange, message, &span, "out of range");
        }
        (number <= 1.0).then_some(number)
    }

    /// Reads the optional day `key` with its byte range. A day is written as a TOML date, or as a string such as
    /// `2027-01-31`.
    pub(crate) fn date(&mut self, entry: &TomlTable<'_, '_>, key: &str) -> Option<(Date, Range<usize>)> {
        let value = self.optional(entry, key)?;
        let text = match value.get_ref() {
            DeValue::Datetime(day) => day.to_string(),
            DeValue::String(text) => text.to_string(),
            _ => {
                self.wrong_type(&in_backticks(key), "a date", value);
                return None;
            }
        };
        // `parse` also accepts a date with a time of day, which must be rejected here.
        let day = text.parse::<Date>().ok().filter(|day| day.to_string() == text);
        if day.is_none() {
            let message = format!("`{key}` must be a day such as 2027-01-31");
            self.note(Code::WrongType, message, &value.span(), "not a day");
        }
        day.map(|day| (day, value.span()))
    }
}
