//! Parses the numeric settings of `--set`.

use crate::research::bench::editors::NUMBERS;
use crate::research::hypernetworks::settings::{Method, TRAINING_NUMBERS};

/// Name endings of the settings that are counts or layer indices, such as `rome.refine-steps`. Only whole numbers are
/// accepted for these settings.
const WHOLE: [&str; 8] = ["-steps", "-layers", ".layers", ".layer", ".epochs", "-contexts", "-sentences", "-from"];

/// The value of `--set`: the name of a numeric setting of an editor, such as `rome.refine-steps`, and its new value.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct EditorSetting(pub String, pub f64);

impl std::str::FromStr for EditorSetting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = || {
            let names: Vec<String> = NUMBERS.iter().map(|(name, what)| format!("  {name}: {what}")).collect();
            format!("known numbers:\n{}", names.join("\n"))
        };
        let (name, number) = text.split_once('=').ok_or_else(known)?;
        if NUMBERS.iter().all(|(other, _)| *other != name) {
            return Err(known());
        }
        let number = parse(text, name, number, WHOLE.iter().any(|end| name.ends_with(end)))?;
        Ok(Self(name.to_owned(), number))
    }
}

/// Parses a number of at least 0, which must be whole if `whole` is true. `text` is the whole argument.
fn parse(text: &str, name: &str, number: &str, whole: bool) -> Result<f64, String> {
    let number = number.parse::<f64>().ok().filter(|number| number.is_finite() && *number >= 0.0);
    let number = number.ok_or_else(|| format!("{text}: the value must be a number of at least 0"))?;
    if whole && number.fract() != 0.0 { Err(format!("{name} must be a whole number")) } else { Ok(number) }
}

/// The value of `--set` of `bench train`: the name of a setting of the training, such as `rank`, and its new value.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TrainingSetting(pub String, pub f64);

impl std::str::FromStr for TrainingSetting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = || {
            let line = |(method, name, _, what): &(Option<Method>, &str, bool, &str)| {
                let only = method.map_or_else(String::new, |method| format!(" (only {})", method.name()));
                format!("  {name}: {what}{only}")
            };
            format!("known numbers:\n{}", TRAINING_NUMBERS.iter().map(line).collect::<Vec<_>>().join("\n"))
        };
        let (name, number) = text.split_once('=').ok_or_else(known)?;
        let found = TRAINING_NUMBERS.iter().find(|(_, other, ..)| *other == name).ok_or_else(known)?;
        let number = parse(text, name, number, found.2)?;
        if found.2 && !(1.0..=MOST).contains(&number) {
            return Err(format!("{name} must be from 1 to {MOST}"));
        }
        if name == "edit-weight" && number == 0.0 {
            return Err("edit-weight must be above 0".to_owned());
        }
        Ok(Self(name.to_owned(), number))
    }
}

/// The largest value of a setting that is a count.
const MOST: f64 = 1e7;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_of_a_training_is_checked() {
        let of = |text: &str| text.parse::<TrainingSetting>();
        assert_eq!(of("rank=64"), Ok(TrainingSetting("rank".to_owned(), 64.0)));
        assert_eq!(of("rate=1e-4"), Ok(TrainingSetting("rate".to_owned(), 1e-4)));
        for (text, why) in [
            ("rank=1.5", "whole number"),
            ("rank=0", "from 1"),
            ("rate=-1", "at least 0"),
            ("rate=NaN", "at least 0"),
            ("edit-weight=0", "above 0"),
            ("ranc=4", "known numbers"),
            ("rank", "known numbers"),
        ] {
            let error = of(text).expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
