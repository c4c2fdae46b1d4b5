//! The tokenizer, and where a subject ends.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use serde_json::Value;
use tokenizers::Tokenizer;

use super::ModelError;
use super::files::{TOKENIZER, check_contained, read_capped};

/// tokenizer.json may be this long.
const LIMIT: u64 = 64 << 20;

/// A loaded tokenizer.json.
#[derive(Clone)]
pub struct Tokens {
    tokenizer: Tokenizer,
    vocabulary: usize,
}

/// A text as the model reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// Token ids, special tokens included as the tokenizer's own post-processor says.
    pub ids: Vec<u32>,
    /// The bytes of the text that each token covers; empty for special tokens.
    pub spans: Vec<Range<usize>>,
}

impl Encoded {
    /// The last token that covers the last character of `subject` (a byte range of the text), if one does.
    pub fn subject_last(&self, subject: &Range<usize>) -> Option<usize> {
        let last = subject.end.checked_sub(1)?;
        self.spans.iter().rposition(|span| span.contains(&last))
    }
}

impl Tokens {
    /// Loads the tokenizer of the model in `folder`, whose embedding has `vocabulary` rows.
    ///
    /// # Errors
    /// If tokenizer.json is missing, too large, malformed, or would crash the tokenizers library.
    pub fn open(folder: &Path, vocabulary: usize) -> Result<Self, ModelError> {
        check_contained(folder, TOKENIZER)?;
        let path = folder.join(TOKENIZER);
        if !path.is_file() {
            return Err(ModelError::NoFile { folder: folder.to_owned(), name: TOKENIZER });
        }
        let bytes = read_capped(&path, LIMIT)?;
        let fail = |problem: String| ModelError::Tokenizer { path: path.clone(), problem };
        check_merges(&bytes).map_err(fail)?;
        let mut tokenizer = load(&bytes).map_err(fail)?;
        // Texts are never cut or padded behind the caller's back.
        tokenizer.with_truncation(None).map_err(|problem| fail(problem.to_string()))?;
        tokenizer.with_padding(None);
        Ok(Self { tokenizer, vocabulary })
    }

    /// Cuts a whole text, with the special tokens that the tokenizer's post-processor adds.
    ///
    /// # Errors
    /// If the tokenizer refuses the text, or gives an id that the model has no embedding for.
    pub fn encode(&self, text: &str) -> Result<Encoded, ModelError> {
        self.cut(text, true)
    }

    /// Cuts a continuation: no special tokens.
    ///
    /// # Errors
    /// As [`Tokens::encode`].
    pub fn continuation(&self, text: &str) -> Result<Encoded, ModelError> {
        self.cut(text, false)
    }

    fn cut(&self, text: &str, special: bool) -> Result<Encoded, ModelError> {
        let cut = catch_unwind(AssertUnwindSafe(|| self.tokenizer.encode(text, special)));
        let encoding = match cut {
            Ok(Ok(encoding)) => encoding,
            Ok(Err(problem)) => return Err(ModelError::Encode { text: text.to_owned(), problem: problem.to_string() }),
            Err(_) => return Err(ModelError::Encode { text: text.to_owned(), problem: "it panicked".into() }),
        };
        if let Some(&id) = encoding.get_ids().iter().find(|&&id| id as usize >= self.vocabulary) {
            return Err(ModelError::Vocabulary { text: text.to_owned(), id, vocabulary: self.vocabulary });
        }
        let spans = encoding.get_offsets().iter().zip(encoding.get_special_tokens_mask());
        let spans = spans.map(|(&(start, end), &special)| if special == 1 { 0..0 } else { start..end }).collect();
        Ok(Encoded { ids: encoding.get_ids().to_vec(), spans })
    }

    /// One token as people read it; a part of a character, which no text can show, as the vocabulary spells it.
    pub fn piece(&self, id: u32) -> String {
        let text = self.tokenizer.decode(&[id], false).ok().filter(|text| !text.contains('\u{fffd}'));
        text.or_else(|| self.tokenizer.id_to_token(id)).unwrap_or_else(|| format!("<{id}>"))
    }

    /// The text of tokens; special ones are left out.
    pub fn decode(&self, ids: &[u32]) -> String {
        self.tokenizer.decode(ids, true).unwrap_or_else(|_| self.pieces(ids).concat())
    }

    /// Whether a token stands for no text: the end of a document, a place that is padded.
    pub fn is_special(&self, id: u32) -> bool {
        self.tokenizer.get_added_tokens_decoder().get(&id).is_some_and(|token| token.special)
    }

    /// The tokens of a text as people read them.
    pub fn pieces(&self, ids: &[u32]) -> Vec<String> {
        ids.iter().map(|&id| self.piece(id)).collect()
    }
}

fn load(bytes: &[u8]) -> Result<Tokenizer, String> {
    match catch_unwind(AssertUnwindSafe(|| Tokenizer::from_bytes(bytes))) {
        Ok(Ok(tokenizer)) => Ok(tokenizer),
        Ok(Err(problem)) => Err(problem.to_string()),
        Err(_) => Err("the tokenizers library panicked while loading it".into()),
    }
}

/// Refuses merges whose parts or product are not in the vocabulary: the tokenizers library copies them into a
/// buffer as long as the longest entry, and panics on longer ones.
fn check_merges(bytes: &[u8]) -> Result<(), String> {
    let file: Value = serde_json::from_slice(bytes).map_err(|problem| format!("it is not JSON: {problem}"))?;
    let model = &file["model"];
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
