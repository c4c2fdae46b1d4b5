//! Reads the RoPE settings of a config.json. Older configs state the base and the scaling under separate keys. Newer
//! configs state all settings in the object `rope_parameters`.
//!
//! The reference is transformers 5. If two keys state different values of one setting, the config is rejected, because
//! programs disagree about which key takes precedence.

use std::collections::BTreeMap;

use serde_json::Value;

use super::config::ConfigReader;
use super::rope::{Rope, RopePairing, RopeScaling};
use crate::model::ModelError;

/// The RoPE base and the scaling parameters in config.json must be below this limit, which is far above published
/// values.
const MAX_BASE: f64 = 1e12;
const DEFAULT_BASE: f64 = 10_000.0;
/// The two keys of config.json that may contain an object with RoPE settings.
const SECTIONS: [&str; 2] = ["rope_parameters", "rope_scaling"];
/// The last part of each error message about two RoPE settings that contradict each other.
const DISAGREE: &str = "programs disagree on which one applies: keep the one that the model was trained with";

/// Reads the RoPE settings of a model. `head` is the number of elements per head. `base` is the family's key for the
/// RoPE base; the key `rope_theta` is read too. `part` is `None` if all elements of a head are rotated. Otherwise, it
/// contains the family's key for the fraction of rotated elements, and the default of this fraction.
pub(crate) fn read_rope(
    config: &ConfigReader<'_>,
    head: usize,
    base: &str,
    part: Option<(&str, f64)>,
) -> Result<Rope, ModelError> {
    let section = section(config)?;
    let theta = theta(config, section.as_ref(), base)?;
    let numbers = match part {
        None => head,
        Some((key, default)) => (share(config, section.as_ref(), key, default)? * head as f64) as usize,
    };
    let scaling = match &section {
        None => RopeScaling::None,
        Some(section) => scaling(config, section)?,
    };
    let numbers = check_rotated(config, part.map_or("head_dim", |(key, _)| key), numbers, head)?;
    Ok(Rope::new(RopePairing::Halves, numbers, theta, scaling))
}

/// The key of an object with RoPE settings in config.json, and the object.
type RopeSection<'a> = (&'static str, ConfigReader<'a>);

/// Returns the object `rope_parameters` or `rope_scaling`; `None` if the config has neither. Rejects a config with two
/// objects that state different settings.
fn section<'a>(config: &ConfigReader<'a>) -> Result<Option<RopeSection<'a>>, ModelError> {
    let mut found: Vec<RopeSection<'a>> = Vec::new();
    for key in SECTIONS {
        // An empty object states no settings, so it is ignored.
        if let Some(section) = config.object(key)?.filter(|section| section.entries().next().is_some()) {
            if let Some((kind, _)) = section.entries().find(|(_, value)| value.is_object()) {
                let problem =
                    format!("has settings for layers of the kind `{kind}`; one rotation for all is supported");
                return Err(config.error(key, &problem));
            }
            found.push((key, section));
        }
    }
    if let [(key, one), (other, two)] = &found[..]
        && canonical(config, one) != canonical(config, two)
    {
        return Err(config.error(other, &format!("differs from `{key}`; {DISAGREE}")));
    }
    Ok(found.into_iter().next())
}

/// Returns the RoPE settings of `section` by name. A missing scaling type or RoPE base gets its default, so that two
/// objects with the same meaning give equal results.
fn canonical(config: &ConfigReader<'_>, section: &ConfigReader<'_>) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_f64().map_or_else(|| value.to_string(), |number| number.to_string());
    let named = |key: &str| if key == "type" { "rope_type".to_owned() } else { key.to_owned() };
    let has = |key: &str| section.get(key).is_some();
    let stated = section.entries().filter(|(key, _)| *key != "type" || !has("rope_type"));
    let mut stated: BTreeMap<String, String> = stated.map(|(key, value)| (named(key), text(value))).collect();
    stated.entry("rope_type".into()).or_insert_with(|| text(&"default".into()));
    let outer = config.get("rope_theta").map_or_else(|| DEFAULT_BASE.to_string(), text);
    stated.entry("rope_theta".into()).or_insert(outer);
    stated
}

/// Returns the value of one setting that several keys may state. `stated` contains the name and the value of each key
/// that is present. Rejects values that differ. Returns `None` if no key is present.
fn agreed(config: &ConfigReader<'_>, stated: &[(String, f64)]) -> Result<Option<f64>, ModelError> {
    let Some((first, number)) = stated.first() else { return Ok(None) };
    match stated.iter().find(|(_, other)| other != number) {
        None => Ok(Some(*number)),
        Some((key, other)) => Err(config.error(key, &format!("is {other}, but `{first}` is {number}; {DISAGREE}"))),
    }
}

/// Reads the number under `key`, which must be above 0 and below `most`. Returns it with the key's full name for error
/// messages, such as `rope_scaling.factor`. The full name is `inside` followed by `key`. Returns `None` if the key is
/// absent.
fn number(reader: &ConfigReader<'_>, inside: &str, key: &str, most: f64) -> Result<Option<(String, f64)>, ModelError> {
    match reader.get(key) {
        None => Ok(None),
        Some(_) => Ok(Some((format!("{inside}{key}"), reader.positive(key, f64::NAN, most)?))),
    }
}

fn theta(config: &ConfigReader<'_>, section: Option<&RopeSection<'_>>, key: &str) -> Result<f64, ModelError> {
    let mut stated = Vec::new();
    if let Some((name, section)) = section {
        stated.extend(number(section, &format!("{name}."), "rope_theta", MAX_BASE)?);
    }
    let own = number(config, "", key, MAX_BASE)?;
    stated.extend(own);
    if key != "rope_theta"
        && let Some((name, theta)) = number(config, "", "rope_theta", MAX_BASE)?
    {
        if stated.is_empty() && theta != DEFAULT_BASE {
            return Err(config.error(&name, &format!("is {theta}, but this family's base is `{key}`; {DISAGREE}")));
        }
        stated.push((name, theta));
    }
    Ok(agreed(config, &stated)?.unwrap_or(DEFAULT_BASE))
}

/// Returns the fraction of a head's elements that are rotated. The fraction is read from `key` or
/// `partial_rotary_factor`; it is `default` if the config contains neither.
fn share(
    config: &ConfigReader<'_>,
    section: Option<&RopeSection<'_>>,
    key: &str,
    default: f64,
) -> Result<f64, ModelError> {
    const ALL: f64 = 1.000_001;
    let mut stated = Vec::new();
    if let Some((name, section)) = section {
        stated.extend(number(section, &format!("{name}."), "partial_rotary_factor", ALL)?);
    }
    stated.extend(number(config, "", key, ALL)?);
    stated.extend(number(config, "", "partial_rotary_factor", ALL)?);
    Ok(agreed(config, &stated)?.unwrap_or(default))
}

/// Checks that `numbers`, the number of rotated elements per head, is at most `head_width` and a positive even number,
/// because RoPE rotates pairs. Returns `numbers`.
pub(crate) fn check_rotated(
    config: &ConfigReader<'_>,
    key: &str,
    numbers: usize,
    head_width: usize,
) -> Result<usize, ModelError> {
    if numbers.is_multiple_of(2) && (2..=head_width).contains(&numbers) {
        return Ok(numbers);
    }
    let expected = "a positive even number of them was expected";
    Err(config.error(key, &format!("rotates {numbers} of the {head_width} numbers of a head; {expected}")))
}

fn scaling(config: &ConfigReader<'_>, (name, section): &RopeSection<'_>) -> Result<RopeScaling, ModelError> {
    let key = if section.get("rope_type").is_some() { "rope_type" } else { "type" };
    let needed = |wanted: &str| {
        let number = section.positive(wanted, f64::NAN, MAX_BASE)?;
        if number.is_nan() { Err(section.error(wanted, "is missing")) } else { Ok(number) }
    };
    match section.word(key, "default")? {
        "default" => Ok(RopeScaling::None),
        "linear" => Ok(RopeScaling::Linear { factor: needed("factor")? }),
        // Dynamic scaling has no effect up to the context length of the model, and longer texts are rejected.
        "dynamic" => needed("factor").map(|_| RopeScaling::None),
        "llama3" => {
            let (low, high) = (needed("low_freq_factor")?, needed("high_freq_factor")?);
            if low >= high {
                return Err(section.error("high_freq_factor", "must be above low_freq_factor"));
            }
            let length_key = "original_max_position_embeddings";
            let mut stated = vec![(format!("{name}.{length_key}"), needed(length_key)?)];
            stated.extend(number(config, "", length_key, MAX_BASE)?);
            let original = agreed(config, &stated)?.unwrap_or(f64::NAN);
            Ok(RopeScaling::Llama3 { factor: needed("factor")?, low, high, original })
        }
        other => Err(section.error(key, &format!("is {other:?}; supported: default, linear, llama3, dynamic"))),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};

    use super::*;

    fn read(config: &Value, base: &str, part: Option<(&str, f64)>) -> Result<Rope, String> {
        let config = ConfigReader::new(Path::new("config.json"), config.as_object().expect("an object"));
        read_rope(&config, 8, base, part).map_err(|error| error.to_string())
    }

    fn llama(config: &Value) -> Result<Rope, String> {
        read(config, "rope_theta", None)
    }

    fn rope_of(theta: f64, scaling: RopeScaling) -> Result<Rope, String> {
        Ok(Rope::new(RopePairing::Halves, 8, theta, scaling))
    }

    /// Regression test for configs that state the RoPE base in different places. Earlier versions misread some of these
    /// configs without an error. The expected values are those of transformers 5.24.
    #[test]
    fn the_base_counts_inside_and_outside() {
        let linear = RopeScaling::Linear { factor: 4.0 };
        for (config, want) in [
            (json!({}), rope_of(10_000.0, RopeScaling::None)),
            (json!({ "rope_theta": 5e5 }), rope_of(5e5, RopeScaling::None)),
            (json!({ "rope_parameters": { "rope_theta": 5e5 } }), rope_of(5e5, RopeScaling::None)),
            (
                json!({ "rope_theta": 5e5, "rope_parameters": { "rope_type": "linear", "factor": 4.0 } }),
                rope_of(5e5, linear),
            ),
            (json!({ "rope_scaling": { "type": "linear", "factor": 4.0, "rope_theta": 5e5 } }), rope_of(5e5, linear)),
            (
                json!({ "rope_theta": 500_000, "rope_parameters": { "rope_theta": 5e5 } }),
                rope_of(5e5, RopeScaling::None),
            ),
            (
                json!({ "rope_theta": 5e5, "rope_scaling": { "type": "dynamic", "factor": 2 } }),
                rope_of(5e5, RopeScaling::None),
            ),
        ] {
            assert_eq!(llama(&config), want, "{config}");
        }
    }

    /// Regression test: an earlier version ignored the scaling type `yarn` in `rope_scaling` if the config also had
    /// `rope_parameters`.
    #[test]
    fn two_places_must_agree() {
        let linear = json!({ "type": "linear", "factor": 4.0 });
        let same = json!({ "rope_type": "linear", "factor": 4, "rope_theta": 10_000 });
        let both = json!({ "rope_parameters": same, "rope_scaling": linear });
        assert_eq!(llama(&both), rope_of(10_000.0, RopeScaling::Linear { factor: 4.0 }));
        for nothing in [json!({}), json!(null)] {
            assert_eq!(llama(&json!({ "rope_parameters": same, "rope_scaling": nothing })), llama(&both));
        }
        for (config, names) in [
            (
                json!({ "rope_parameters": { "rope_theta": 1e6 }, "rope_scaling": { "type": "yarn", "factor": 4 } }),
                ["rope_scaling", "rope_parameters"],
            ),
            (
                json!({ "rope_parameters": same, "rope_scaling": { "type": "linear", "factor": 2.0 } }),
                ["rope_scaling", "rope_parameters"],
            ),
            (
                json!({ "rope_parameters": { "rope_theta": 5e5 }, "rope_theta": 1e4 }),
                ["`rope_theta` is 10000", "`rope_parameters.rope_theta` is 500000"],
            ),
            (
                json!({ "rope_parameters": { "full_attention": { "rope_theta": 1e6 } } }),
                ["rope_parameters", "full_attention"],
            ),
            (
                json!({
                    "original_max_position_embeddings": 4096,
                    "rope_scaling": { "rope_type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4,
                        "original_max_position_embeddings": 8192 }
                }),
                ["original_max_position_embeddings` is 4096", "8192"],
            ),
            (json!({ "rope_scaling": { "type": "dynamic" } }), ["factor", "is missing"]),
        ] {
            let stated = llama(&config).expect_err("two meanings");
            assert!(names.iter().all(|name| stated.contains(name)), "{stated}");
        }
    }

    #[test]
    fn neox_has_keys_of_its_own() {
        let neox = |config: &Value| read(config, "rotary_emb_base", Some(("rotary_pct", 0.25)));
        let want = |numbers, theta| Ok(Rope::new(RopePairing::Halves, numbers, theta, RopeScaling::None));
        assert_eq!(neox(&json!({})), want(2, 1e4));
        assert_eq!(neox(&json!({ "rotary_emb_base": 5e5, "rotary_pct": 1.0 })), want(8, 5e5));
        let inside = json!({ "rope_theta": 5e5, "partial_rotary_factor": 0.5 });
        assert_eq!(neox(&json!({ "rope_parameters": inside })), want(4, 5e5));
        assert_eq!(
            neox(&json!({ "rope_parameters": inside, "rotary_pct": 0.5, "rotary_emb_base": 5e5 })),
            want(4, 5e5)
        );
        let mixed = json!({ "rope_parameters": { "rope_type": "default" }, "rotary_pct": 0.5, "rotary_emb_base": 5e5 });
        assert_eq!(neox(&mixed), want(4, 5e5));
        for (config, name) in [
            (json!({ "rope_parameters": inside, "rotary_pct": 0.25 }), "rotary_pct"),
            (json!({ "rope_parameters": inside, "rotary_emb_base": 1e4 }), "rotary_emb_base"),
            (json!({ "rotary_emb_base": 5e5, "rope_theta": 1e4 }), "rope_theta"),
            (json!({ "rope_theta": 5e5 }), "rotary_emb_base"),
        ] {
            assert!(neox(&config).expect_err("two meanings").contains(name), "{config}");
        }
    }
}
