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
use crate::numeric::elementary::ln;

/// The RoPE base and the scaling parameters in config.json must be below this limit, which is far above published
/// values.
const MAX_BASE: f64 = 1e12;
const DEFAULT_BASE: f64 = 10_000.0;
/// The two keys of config.json that may contain an object with RoPE settings.
const SECTIONS: [&str; 2] = ["rope_parameters", "rope_scaling"];
/// The last part of each error message about two RoPE settings that contradict each other.
const DISAGREE: &str = "programs disagree on which one applies: keep the one that the model was trained with";

/// How a family states its RoPE, and the defaults of transformers for keys that are absent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct RopeKeys {
    pub pairing: RopePairing,
    /// The family's key for the RoPE base; the key `rope_theta` is read too.
    pub base: &'static str,
    pub theta: f64,
    /// The family's key for the fraction of rotated elements, and the default of this fraction; `None` if all elements
    /// of a head are rotated.
    pub part: Option<(&'static str, f64)>,
    /// What the family reads differently from all others.
    pub dialect: RopeDialect,
}

/// What one family reads differently from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RopeDialect {
    None,
    /// `su` and `yarn` mean `longrope` (Phi-3).
    YarnIsLongRope,
    /// `dynamic` with the key `alpha` changes the base (Hunyuan).
    DynamicHasAlpha,
    /// An absent object means a scaling with many numbers, which published configs state (CWM, Ministral 3).
    MustBeStated,
}

impl RopeKeys {
    /// The keys and defaults of Llama.
    pub(crate) const LLAMA: Self = Self {
        pairing: RopePairing::Halves,
        base: "rope_theta",
        theta: DEFAULT_BASE,
        part: None,
        dialect: RopeDialect::None,
    };
}

/// Reads the RoPE settings of a model. `head` is the number of elements per head.
pub(crate) fn read_rope(config: &ConfigReader<'_>, head: usize, keys: RopeKeys) -> Result<Rope, ModelError> {
    let section = section(config, keys.theta)?;
    let theta = theta(config, section.as_ref(), keys)?;
    let numbers = match keys.part {
        None => head,
        Some((key, default)) => (share(config, section.as_ref(), key, default)? * head as f64) as usize,
    };
    let numbers = check_rotated(config, keys.part.map_or("head_dim", |(key, _)| key), numbers, head)?;
    let Scaling { scaling, amplitude, limit } = match &section {
        None if keys.dialect == RopeDialect::MustBeStated => {
            return Err(config.error(SECTIONS[0], "is missing"));
        }
        None => Scaling::none(),
        Some(section) => scaling(config, section, keys.dialect, numbers)?,
    };
    Ok(Rope::new(keys.pairing, numbers, theta, &scaling).with(amplitude, limit))
}

/// The key of an object with RoPE settings in config.json, and the object.
type RopeSection<'a> = (&'static str, ConfigReader<'a>);

/// Returns the object `rope_parameters` or `rope_scaling`; `None` if the config has neither. Rejects a config with two
/// objects that state different settings.
fn section<'a>(config: &ConfigReader<'a>, base: f64) -> Result<Option<RopeSection<'a>>, ModelError> {
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
        && canonical(config, one, base) != canonical(config, two, base)
    {
        return Err(config.error(other, &format!("differs from `{key}`; {DISAGREE}")));
    }
    Ok(found.into_iter().next())
}

/// Returns the RoPE settings of `section` by name. A missing scaling type or RoPE base gets its default, so that two
/// objects with the same meaning give equal results.
fn canonical(config: &ConfigReader<'_>, section: &ConfigReader<'_>, base: f64) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_f64().map_or_else(|| value.to_string(), |number| number.to_string());
    let named = |key: &str| if key == "type" { "rope_type".to_owned() } else { key.to_owned() };
    let has = |key: &str| section.get(key).is_some();
    let stated = section.entries().filter(|(key, _)| *key != "type" || !has("rope_type"));
    let mut stated: BTreeMap<String, String> = stated.map(|(key, value)| (named(key), text(value))).collect();
    stated.entry("rope_type".into()).or_insert_with(|| text(&"default".into()));
    let outer = config.get("rope_theta").map_or_else(|| base.to_string(), text);
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

fn theta(config: &ConfigReader<'_>, section: Option<&RopeSection<'_>>, keys: RopeKeys) -> Result<f64, ModelError> {
    let (key, default) = (keys.base, keys.theta);
    let mut stated = Vec::new();
    if let Some((name, section)) = section {
        stated.extend(number(section, &format!("{name}."), "rope_theta", MAX_BASE)?);
    }
    let own = number(config, "", key, MAX_BASE)?;
    stated.extend(own);
    if key != "rope_theta"
        && let Some((name, theta)) = number(config, "", "rope_theta", MAX_BASE)?
    {
        if stated.is_empty() && theta != default {
            return Err(config.error(&name, &format!("is {theta}, but this family's base is `{key}`; {DISAGREE}")));
        }
        stated.push((name, theta));
    }
    Ok(agreed(config, &stated)?.unwrap_or(default))
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

/// A scaling with the numbers that it implies.
struct Scaling {
    scaling: RopeScaling,
    /// The factor of every cosine and sine.
    amplitude: f32,
    /// The maximum number of positions for which the scaling is right.
    limit: Option<usize>,
}

impl Scaling {
    fn none() -> Self {
        Self::of(RopeScaling::None)
    }

    fn of(scaling: RopeScaling) -> Self {
        Self { scaling, amplitude: 1.0, limit: None }
    }
}

const TYPES: &str = "default, linear, dynamic, llama3, yarn, longrope";
/// The key of the context length before scaling, in the object and outside.
const ORIGINAL: &str = "original_max_position_embeddings";

/// Reads the scaling of an object with RoPE settings. `numbers` is the number of rotated elements of a head.
fn scaling(
    config: &ConfigReader<'_>,
    found: &RopeSection<'_>,
    dialect: RopeDialect,
    numbers: usize,
) -> Result<Scaling, ModelError> {
    let (_, section) = found;
    let key = if section.get("rope_type").is_some() { "rope_type" } else { "type" };
    let kind = match (section.word(key, "default")?, dialect) {
        ("su" | "yarn", RopeDialect::YarnIsLongRope) => "longrope",
        (kind, _) => kind,
    };
    match kind {
        "default" => Ok(Scaling::none()),
        "linear" => Ok(Scaling::of(RopeScaling::Linear { factor: needed(section, "factor")? })),
        "dynamic" if dialect == RopeDialect::DynamicHasAlpha && section.get("alpha").is_some() => {
            Ok(Scaling::of(RopeScaling::NtkAlpha { alpha: needed(section, "alpha")? }))
        }
        // Dynamic scaling has no effect up to the context length of the model, and longer texts are rejected.
        "dynamic" => needed(section, "factor").map(|_| Scaling::none()),
        "llama3" => llama3(config, found).map(Scaling::of),
        "yarn" => yarn(config, found),
        "longrope" => longrope(config, found, numbers),
        other => Err(section.error(key, &format!("is {other:?}; supported: {TYPES}"))),
    }
}

/// Returns the number under `key`.
///
/// # Errors
/// If the key is absent, or the value is not a positive number.
fn needed(section: &ConfigReader<'_>, key: &str) -> Result<f64, ModelError> {
    optional(section, key)?.ok_or_else(|| section.error(key, "is missing"))
}

fn optional(section: &ConfigReader<'_>, key: &str) -> Result<Option<f64>, ModelError> {
    let number = section.positive(key, f64::NAN, MAX_BASE)?;
    Ok(Some(number).filter(|number| !number.is_nan()))
}

fn llama3(config: &ConfigReader<'_>, (name, section): &RopeSection<'_>) -> Result<RopeScaling, ModelError> {
    let (low, high) = (needed(section, "low_freq_factor")?, needed(section, "high_freq_factor")?);
    if low >= high {
        return Err(section.error("high_freq_factor", "must be above low_freq_factor"));
    }
    let mut stated = vec![(format!("{name}.{ORIGINAL}"), needed(section, ORIGINAL)?)];
    stated.extend(number(config, "", ORIGINAL, MAX_BASE)?);
    let original = agreed(config, &stated)?.unwrap_or(f64::NAN);
    Ok(RopeScaling::Llama3 { factor: needed(section, "factor")?, low, high, original })
}

/// Returns the context length before scaling: in the object, outside of it, or the context length of the model.
fn original_length(config: &ConfigReader<'_>, (name, section): &RopeSection<'_>) -> Result<f64, ModelError> {
    let inside = number(section, &format!("{name}."), ORIGINAL, MAX_BASE)?;
    let stated: Vec<(String, f64)> = inside.into_iter().chain(number(config, "", ORIGINAL, MAX_BASE)?).collect();
    match agreed(config, &stated)? {
        Some(length) => Ok(length),
        None => needed(config, "max_position_embeddings"),
    }
}

/// Reads YaRN as transformers does. The factor of cosine and sine follows from `factor` or from two other numbers, unless
/// `attention_factor` states it.
fn yarn(config: &ConfigReader<'_>, found: &RopeSection<'_>) -> Result<Scaling, ModelError> {
    let (_, section) = found;
    let (factor, original) = (needed(section, "factor")?, original_length(config, found)?);
    let (fast, slow) = (section.positive("beta_fast", 32.0, MAX_BASE)?, section.positive("beta_slow", 1.0, MAX_BASE)?);
    let by_length = |weight: f64| if factor <= 1.0 { 1.0 } else { 0.1 * weight * ln(factor) + 1.0 };
    let amplitude = match (optional(section, "attention_factor")?, optional(section, "mscale")?) {
        (Some(stated), _) => stated,
        (None, Some(own)) => match optional(section, "mscale_all_dim")? {
            Some(all) => by_length(own) / by_length(all),
            None => by_length(1.0),
        },
        (None, None) => by_length(1.0),
    };
    let scaling = RopeScaling::Yarn { factor, original, fast, slow, truncate: section.flag("truncate", true)? };
    // With this key, Ministral 3 also scales the queries at positions from `original` on, which is not supported.
    let limit = section.get("llama_4_scaling_beta").map(|_| original as usize);
    Ok(Scaling { scaling, amplitude: amplitude as f32, limit })
}

/// Reads LongRoPE. Texts longer than the original context length use other factors (`long_factor`), which are not
/// supported, so the original length is the limit.
fn longrope(config: &ConfigReader<'_>, found: &RopeSection<'_>, numbers: usize) -> Result<Scaling, ModelError> {
    let (_, section) = found;
    let key = "short_factor";
    let wrong = || section.error(key, &format!("is not a list of {} positive numbers", numbers / 2));
    let positive = |value: &Value| value.as_f64().filter(|number| *number > 0.0 && *number < MAX_BASE);
    let list = section.get(key).and_then(Value::as_array).filter(|list| list.len() == numbers / 2).ok_or_else(wrong)?;
    let factors: Vec<f64> = list.iter().map(|value| positive(value).ok_or_else(wrong)).collect::<Result<_, _>>()?;
    let original = original_length(config, found)?;
    let factor = match optional(section, "factor")? {
        Some(factor) => factor,
        None => needed(config, "max_position_embeddings")? / original,
    };
    let amplitude = match optional(section, "attention_factor")? {
        Some(stated) => stated,
        None if factor <= 1.0 => 1.0,
        None => (1.0 + ln(factor) / ln(original)).sqrt(),
    };
    Ok(Scaling {
        scaling: RopeScaling::LongRope { factors },
        amplitude: amplitude as f32,
        limit: Some(original as usize),
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};

    use super::*;

    fn read(config: &Value, base: &'static str, part: Option<(&'static str, f64)>) -> Result<Rope, String> {
        let config = ConfigReader::new(Path::new("config.json"), config.as_object().expect("an object"));
        read_rope(&config, 8, RopeKeys { base, part, ..RopeKeys::LLAMA }).map_err(|error| error.to_string())
    }

    fn llama(config: &Value) -> Result<Rope, String> {
        read(config, "rope_theta", None)
    }

    fn rope_of(theta: f64, scaling: RopeScaling) -> Result<Rope, String> {
        Ok(Rope::new(RopePairing::Halves, 8, theta, &scaling))
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
                rope_of(5e5, linear.clone()),
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
        let want = |numbers, theta| Ok(Rope::new(RopePairing::Halves, numbers, theta, &RopeScaling::None));
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

    #[test]
    fn extended_contexts_are_read_as_transformers_reads_them() {
        let yarn = |more: Value| {
            let mut section = json!({ "type": "yarn", "factor": 4.0 });
            section.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
            llama(&json!({ "rope_scaling": section, "max_position_embeddings": 256 }))
        };
        let of = |original: f64, amplitude: f32, limit| {
            let scaling = RopeScaling::Yarn { factor: 4.0, original, fast: 32.0, slow: 1.0, truncate: true };
            Ok(Rope::new(RopePairing::Halves, 8, 1e4, &scaling).with(amplitude, limit))
        };
        let usual = (0.1 * 4.0_f64.ln() + 1.0) as f32;
        assert_eq!(yarn(json!({})), of(256.0, usual, None));
        assert_eq!(yarn(json!({ "original_max_position_embeddings": 64 })), of(64.0, usual, None));
        assert_eq!(yarn(json!({ "attention_factor": 1.25 })), of(256.0, 1.25, None));
        assert_eq!(yarn(json!({ "mscale": 1.0, "mscale_all_dim": 1.0 })), of(256.0, 1.0, None));
        assert_eq!(yarn(json!({ "mscale": 2.0 })), of(256.0, usual, None));
        let scaled = json!({ "original_max_position_embeddings": 64, "llama_4_scaling_beta": 0.1 });
        assert_eq!(yarn(scaled), of(64.0, usual, Some(64)));
        assert!(yarn(json!({ "beta_fast": "x" })).expect_err("a text").contains("beta_fast"));

        let long = |list: Value| {
            let section = json!({ "rope_type": "longrope", "short_factor": list, "long_factor": [1, 2, 3, 4] });
            llama(&json!({
                "rope_parameters": section, "max_position_embeddings": 256, "original_max_position_embeddings": 64
            }))
        };
        let factors = vec![1.0, 1.5, 2.0, 3.0];
        let amplitude = (1.0 + 4.0_f64.ln() / 64.0_f64.ln()).sqrt() as f32;
        let want = Rope::new(RopePairing::Halves, 8, 1e4, &RopeScaling::LongRope { factors }).with(amplitude, Some(64));
        assert_eq!(long(json!([1.0, 1.5, 2, 3])), Ok(want));
        for wrong in [json!([1.0, 1.5, 2.0]), json!([1.0, 0.0, 2.0, 3.0]), json!("x"), json!(null)] {
            assert!(long(wrong).expect_err("a wrong list").contains("a list of 4 positive numbers"));
        }
    }

    #[test]
    fn dialects_change_the_meaning_of_a_type() {
        let read = |dialect, config: Value| {
            let config = ConfigReader::new(Path::new("config.json"), config.as_object().expect("an object"));
            read_rope(&config, 8, RopeKeys { dialect, ..RopeKeys::LLAMA }).map_err(|error| error.to_string())
        };
        let alpha = || json!({ "rope_scaling": { "type": "dynamic", "alpha": 1000.0, "factor": 1.0 } });
        let want = Rope::new(RopePairing::Halves, 8, 1e4, &RopeScaling::NtkAlpha { alpha: 1000.0 });
        assert_eq!(read(RopeDialect::DynamicHasAlpha, alpha()), Ok(want));
        assert_eq!(read(RopeDialect::None, alpha()), rope_of(1e4, RopeScaling::None));
        let su =
            json!({ "rope_scaling": { "type": "su", "short_factor": [1, 1, 1, 1] }, "max_position_embeddings": 64 });
        assert!(read(RopeDialect::YarnIsLongRope, su.clone()).is_ok_and(|rope| rope.limit() == Some(64)));
        assert!(read(RopeDialect::None, su).expect_err("an unknown type").contains("\"su\""));
        assert!(read(RopeDialect::MustBeStated, json!({})).expect_err("absent").contains("rope_parameters"));
    }
}
