//! Rejects a tokenizer.json that would crash the tokenizers library, exhaust memory, or give random tokens.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::Value;

/// Maximum length, in bytes, that a text of 4,096 bytes ([`TEXT`]) may have after normalisation or decoding. The limit
/// allows growth by a factor of 1,024, which is far more than published tokenizers need.
const MOST: usize = 1 << 22;
const TEXT: usize = 1 << 12;

/// Maximum number of normalizers, pre-tokenizers, post-processors and decoders in one tokenizer.json, all added
/// together. Published tokenizers have about 24 or fewer.
const MOST_STEPS: usize = 256;
/// Maximum total length of the added tokens, in bytes. Some audio and image models add a hundred thousand short tokens,
/// which take a few MiB.
const MOST_ADDED_BYTES: usize = 1 << 22;

/// The base64 decoder for `precompiled_charsmap` in tokenizer.json. Padding is optional, as in the tokenizers library.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Checks a tokenizer.json before the tokenizers library loads it. `bytes` is the content of the file.
///
/// # Errors
/// If the file is not JSON, could crash the tokenizers library or exhaust memory, or uses BPE dropout, which gives
/// random tokens. The `String` describes the problem.
pub(crate) fn check(bytes: &[u8]) -> Result<(), String> {
    let file: Value = serde_json::from_slice(bytes).map_err(|problem| format!("it is not JSON: {problem}"))?;
    check_dropout(&file["model"])?;
    check_amount(&file)?;
    check_merges(&file["model"])?;
    check_growth(&[&file["normalizer"], &file["pre_tokenizer"]], "normalizer")?;
    check_growth(&[&file["decoder"]], "decoder")
}

/// Rejects a tokenizer.json with more than [`MOST_STEPS`] normalizers, pre-tokenizers, post-processors and decoders, or
/// with more than [`MOST_ADDED_BYTES`] bytes of added tokens. The limits bound the time and memory of tokenising,
/// because each text passes through all of these steps and is searched for all added tokens.
fn check_amount(file: &Value) -> Result<(), String> {
    let steps = ["normalizer", "pre_tokenizer", "post_processor", "decoder"].map(|key| count_steps(&file[key]));
    if steps.iter().sum::<usize>() > MOST_STEPS {
        return Err(format!("it has more than {MOST_STEPS} steps"));
    }
    let added = file["added_tokens"].as_array().into_iter().flatten();
    let bytes: usize = added.filter_map(|token| token["content"].as_str()).map(str::len).sum();
    if bytes > MOST_ADDED_BYTES {
        Err(format!("its added tokens are longer than {MOST_ADDED_BYTES} bytes in total"))
    } else {
        Ok(())
    }
}

/// Counts the normalizers, pre-tokenizers, post-processors and decoders in `value`, a part of tokenizer.json. Every
/// object with a string under the key `type` is counted, at any depth.
fn count_steps(value: &Value) -> usize {
    let own = usize::from(value.get("type").is_some_and(Value::is_string));
    let inner = value.as_object().into_iter().flat_map(|fields| fields.values());
    let listed = value.as_array().into_iter().flatten();
    own + inner.chain(listed).map(count_steps).sum::<usize>()
}

/// Rejects BPE dropout, which skips merges at random, so that the same text gives different tokens each time.
fn check_dropout(model: &Value) -> Result<(), String> {
    match model["dropout"].as_f64() {
        Some(dropout) if dropout != 0.0 => Err(format!(
            "its `dropout` is {dropout}: the same text would give different tokens every time; set it to null"
        )),
        _ => Ok(()),
    }
}

/// Rejects normalizers or decoders (`steps`) that can turn a text of [`TEXT`] bytes into a text of more than [`MOST`]
/// bytes. The tokenizers library allocates memory for the longer text, and the process aborts if the allocation fails.
/// `what` names the steps in the error message.
fn check_growth(steps: &[&Value], what: &str) -> Result<(), String> {
    let (mut length, mut growth, mut rest) = (TEXT, 1_usize, steps.to_vec());
    while let Some(value) = rest.pop() {
        if let Some(fields) = value.as_object() {
            length = length.saturating_add(fields.get("prepend").and_then(Value::as_str).map_or(0, str::len));
            growth = growth.saturating_mul(step_growth(value)?);
            rest.extend(fields.values());
        }
        rest.extend(value.as_array().into_iter().flatten());
    }
    if length.saturating_mul(growth) > MOST {
        Err(format!("its {what} can make a text more than {} times as long", MOST / TEXT))
    } else {
        Ok(())
    }
}

/// Returns the maximum number of bytes that a normalizer or decoder writes per byte that it reads. The result is 1 for
/// every type of normalizer or decoder that is not known to lengthen texts.
fn step_growth(step: &Value) -> Result<usize, String> {
    Ok(match step["type"].as_str() {
        // A byte that is not printable ASCII becomes a character that takes two bytes in UTF-8.
        Some("ByteLevel") => 2,
        Some("Replace") => replaced(&step["pattern"], step["content"].as_str().map_or(0, str::len)),
        Some("Metaspace") => step["replacement"].as_str().map_or(1, str::len).max(1),
        Some("Precompiled") => step["precompiled_charsmap"].as_str().map_or(Ok(1), longest_of_map)?,
        _ => 1,
    })
}

/// Returns the maximum factor by which a text becomes longer if each match of `pattern` is replaced by `content` bytes.
fn replaced(pattern: &Value, content: usize) -> usize {
    let least = match (pattern["String"].as_str(), pattern["Regex"].as_str()) {
        (Some(text), _) => text.len(),
        // `regex_syntax` does not support some patterns, such as lookaround. Such patterns are assumed to match the
        // empty string.
        (_, Some(regex)) => regex_syntax::parse(regex).ok().and_then(|hir| hir.properties().minimum_len()).unwrap_or(0),
        _ => 0,
    };
    match least {
        0 => content.saturating_add(1),
        least => content.div_ceil(least).max(1),
    }
}

/// Returns the length in bytes of the longest replacement in `map`, but at least 1. `map` is the base64 text under
/// `precompiled_charsmap` in tokenizer.json. It encodes the length of a trie, the trie, and NUL-terminated
/// replacements. Rejects a map that ends before the end of its trie, because the tokenizers library allocates memory
/// for the stated length of the trie.
fn longest_of_map(map: &str) -> Result<usize, String> {
    let bytes = BASE64.decode(map).map_err(|problem| format!("its map of characters is not base 64: {problem}"))?;
    let Some((stated, rest)) = bytes.split_first_chunk::<4>() else { return Ok(1) };
    let stated = u32::from_le_bytes(*stated) as usize;
    let Some(texts) = rest.get(stated..) else {
        return Err(format!("its map of characters states a length of {stated} bytes, but is shorter"));
    };
    Ok(texts.split(|byte| *byte == 0).map(<[u8]>::len).max().unwrap_or(0).max(1))
}

/// Rejects BPE merges with parts that are not in the vocabulary, and merges whose result is longer than the longest
/// token. The tokenizers library copies each result to a buffer with the length of the longest token, and panics if the
/// result is longer.
fn check_merges(model: &Value) -> Result<(), String> {
    let (Some(vocabulary), Some(merges)) = (model["vocab"].as_object(), model["merges"].as_array()) else {
        return Ok(());
    };
    for (index, merge) in merges.iter().enumerate() {
        let pair = match merge {
            Value::String(text) => text.split_once(' '),
            Value::Array(pair) => pair.first().and_then(Value::as_str).zip(pair.get(1).and_then(Value::as_str)),
            _ => None,
        };
        let Some((left, right)) = pair else { return Err(format!("merge {index} is not a pair of tokens")) };
        if let Some(unknown) = [left, right].into_iter().find(|part| !vocabulary.contains_key(*part)) {
            return Err(format!("merge {index} uses {unknown:?}, which is not in the vocabulary"));
        }
    }
    let prefix = model["continuing_subword_prefix"].as_str().map_or(0, str::len);
    let longest = vocabulary.keys().map(String::len).max().unwrap_or(0) + prefix;
    let too_long = merges.iter().position(|merge| match merge {
        Value::String(text) => text.len() > longest + 1,
        Value::Array(pair) => pair.iter().filter_map(Value::as_str).map(str::len).sum::<usize>() > longest,
        _ => false,
    });
    too_long.map_or(Ok(()), |index| Err(format!("merge {index} is longer than every token of the vocabulary")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_map_says_how_long_its_trie_is() {
        assert!(longest_of_map("AAAA*").is_err_and(|said| said.contains("not base 64")));
        let said = longest_of_map("/////wAAAAAA").expect_err("four gibibytes");
        assert!(said.contains("4294967295 bytes"), "{said}");
        // This character map has a trie of four bytes, followed by the texts `ab` and `cde`.
        assert_eq!(longest_of_map("BAAAAAAAAABhYgBjZGUA"), Ok(3));
        assert_eq!((longest_of_map(""), longest_of_map("AAAAAA==")), (Ok(1), Ok(1)));
        assert_eq!(longest_of_map("AAAAAA"), Ok(1));
    }

    #[test]
    fn steps_that_make_a_text_endless_are_refused() {
        let replace =
            |pattern: Value, content: &str| json!({ "type": "Replace", "pattern": pattern, "content": content });
        let of = |steps: Vec<Value>| {
            let file = json!({ "normalizer": { "type": "Sequence", "normalizers": steps } });
            check(file.to_string().as_bytes())
        };
        let tenfold = || replace(json!({ "Regex": "." }), "aaaaaaaaaa");
        assert_eq!(of(vec![tenfold(); 3]), Ok(()));
        assert!(of(vec![tenfold(); 4]).is_err_and(|said| said.contains("1024 times as long")));
        assert!(of(vec![json!({ "type": "ByteLevel" }); 11]).is_err());
        assert!(of(vec![json!({ "type": "Prepend", "prepend": "a".repeat(1 << 22) })]).is_err());
        // The next two patterns match the empty string, so the replacement is inserted before every letter.
        assert!(of(vec![replace(json!({ "Regex": "(?=.)" }), "a"); 11]).is_err());
        assert!(of(vec![replace(json!({ "String": "" }), "a"); 11]).is_err());
    }

    #[test]
    fn steps_and_added_tokens_without_end_are_refused() {
        let split = json!({ "type": "Split", "pattern": { "Regex": "." } });
        let steps =
            |count: usize| json!({ "pre_tokenizer": { "type": "Sequence", "pretokenizers": vec![&split; count] }});
        assert_eq!(check(steps(MOST_STEPS - 1).to_string().as_bytes()), Ok(()));
        assert!(
            check(steps(MOST_STEPS).to_string().as_bytes()).is_err_and(|said| said.contains("more than 256 steps"))
        );
        let added = |length: usize| json!({ "added_tokens": [{ "content": "a".repeat(length) }, { "content": "b" }] });
        assert_eq!(check(added(MOST_ADDED_BYTES - 1).to_string().as_bytes()), Ok(()));
        assert!(check(added(MOST_ADDED_BYTES).to_string().as_bytes()).is_err_and(|said| said.contains("added tokens")));
    }

    #[test]
    fn chance_is_refused() {
        let with =
            |dropout: Value| check(json!({ "model": { "type": "BPE", "dropout": dropout } }).to_string().as_bytes());
        assert!(with(json!(0.1)).is_err_and(|said| said.contains("set it to null")));
        assert_eq!((with(json!(null)), with(json!(0.0))), (Ok(()), Ok(())));
    }

    #[test]
    fn what_is_published_stays() {
        let replace =
            |pattern: Value, content: &str| json!({ "type": "Replace", "pattern": pattern, "content": content });
        let mut steps = vec![json!({ "type": "Prepend", "prepend": "▁" }), replace(json!({ "String": " " }), "▁")];
        steps.extend(vec![replace(json!({ "Regex": " {2,}" }), " "); 20]);
        steps.push(replace(json!({ "String": "``" }), "\""));
        let file = json!({
            "normalizer": { "type": "Sequence", "normalizers": steps },
            "pre_tokenizer": { "type": "Metaspace", "replacement": "▁" }
        });
        assert_eq!(check(file.to_string().as_bytes()), Ok(()));
    }
}
