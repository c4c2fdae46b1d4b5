//! Tokenises and decodes texts, renders prompts with the chat template, and finds the last token of a subject.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use tokenizers::Tokenizer;

use super::catch_panic::catch_panic;
use super::chat::{Chat, Prompt};
use super::tokenizer_check;
use crate::digest::{Digest, FieldHasher};
use crate::model::ModelError;
use crate::model::load::files::{CONFIG, TOKENIZER, check_contained, read_capped};
use crate::model::load::remark::{Remark, RemarkKind};
use crate::model::load::storage;

/// The error message for a prompt that needs a chat template, if the model has none.
const NO_TEMPLATE: &str = "the model has no chat template: there is no chat_template.jinja, and no `chat_template` in \
                           tokenizer_config.json";

/// Maximum size of tokenizer.json and of config.json, in bytes. A tokenizer.json with a large vocabulary can be more
/// than 30 MiB long.
const LIMIT: u64 = 64 << 20;

/// Candidates for a text to put before a continuation, so that the continuation is not tokenised as the beginning of a
/// text. The first candidate that shares no token with the continuation is used.
const ANCHORS: [&str; 3] = ["\n", ".", "a"];

/// A loaded tokenizer.json, and the chat template of the same model folder.
#[derive(Clone)]
pub struct Tokens {
    tokenizer: Tokenizer,
    vocabulary: usize,
    /// Whether the tokenizer puts a mark, such as `▁`, before every text. The mark is only correct at the beginning of
    /// a text.
    prepends: bool,
    /// The special tokens that the tokenizer appends to every text.
    appended: Vec<u32>,
    folder: PathBuf,
    /// The chat template, which is opened on first use. An invalid chat template is therefore only an error for user
    /// messages.
    chat: OnceLock<Result<Chat, String>>,
}

/// A prompt as the model receives it: rendered and tokenised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedPrompt {
    /// The rendered prompt. If a chat template is used, this includes the texts that the template writes around the
    /// prompt.
    pub text: String,
    /// Byte offset from a position in the original prompt to the same position in `text`. The offset is negative if the
    /// chat template strips more bytes of white space from the start of the prompt than it writes before the prompt.
    shift: isize,
    /// Whether the chat template puts a space before an answer; `None` if this is unknown or if no chat template is
    /// used.
    space: Option<bool>,
    pub encoded: Encoded,
}

impl EncodedPrompt {
    /// Returns `answer` as it must be appended to the prompt, with or without a space before it. The chat template
    /// determines whether there is a space. If no chat template is used, or if it is unknown whether the template
    /// writes a space, [`target_text`] adds one where it is needed.
    pub fn answer(&self, answer: &str) -> String {
        match self.space {
            Some(space) if space && !answer.starts_with(char::is_whitespace) => format!(" {answer}"),
            Some(_) => answer.to_owned(),
            None => target_text(&self.text, answer),
        }
    }

    /// Converts a byte range of the original prompt to a byte range of `text`, the rendered prompt.
    pub fn place(&self, range: &Range<usize>) -> Range<usize> {
        let moved = |at: usize| at.saturating_add_signed(self.shift);
        moved(range.start)..moved(range.end)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// The token ids, special tokens included.
    pub ids: Vec<u32>,
    /// The range of bytes in the text that each token covers; empty for special tokens.
    pub spans: Vec<Range<usize>>,
}

impl Encoded {
    /// Returns the index of the last token that covers the last byte of `subject`, a byte range of the text. Returns
    /// `None` if no token covers this byte.
    pub fn subject_last(&self, subject: &Range<usize>) -> Option<usize> {
        let last = subject.end.checked_sub(1)?;
        self.spans.iter().rposition(|span| span.contains(&last))
    }
}

impl Tokens {
    /// Loads the tokenizer of the model in `folder`. `vocabulary` is the number of rows of the model's token embedding.
    ///
    /// # Errors
    /// If tokenizer.json is missing, too large, malformed, or would crash the tokenizers library.
    pub fn open(folder: &Path, vocabulary: usize) -> Result<Self, ModelError> {
        check_contained(folder, TOKENIZER)?;
        let path = folder.join(TOKENIZER);
        if !path.is_file() {
            return Err(storage::without_tokenizer(folder));
        }
        let bytes = read_capped(&path, LIMIT)?;
        let fail = |problem: String| ModelError::Tokenizer { path: path.clone(), problem };
        tokenizer_check::check(&bytes).map_err(fail)?;
        let mut tokenizer = load(&bytes).map_err(fail)?;
        // Texts are never truncated or padded, even if tokenizer.json configures truncation or padding.
        tokenizer.with_truncation(None).map_err(|problem| fail(problem.to_string()))?;
        tokenizer.with_padding(None);
        let mut tokens = Self {
            tokenizer,
            vocabulary,
            prepends: false,
            appended: Vec::new(),
            folder: folder.to_owned(),
            chat: OnceLock::new(),
        };
        tokens.appended = tokens.appended_tokens();
        // If the tokenizer puts a mark before every text, the first token of the text `a` is not `a` but, for example,
        // `▁a`.
        tokens.prepends = tokens.encode_raw("a", false).is_ok_and(|one| {
            one.ids.first().is_some_and(|id| tokens.tokenizer.id_to_token(*id).is_none_or(|piece| piece != "a"))
        });
        Ok(tokens)
    }

    /// Returns the special tokens that the tokenizer appends to every text. They are found by tokenising the letter
    /// `a`.
    fn appended_tokens(&self) -> Vec<u32> {
        let text = catch_panic(|| self.tokenizer.encode(ANCHORS[2], true).ok()).ok().flatten();
        let Some(text) = text else { return Vec::new() };
        let added = text.get_special_tokens_mask().iter().rev().take_while(|mask| **mask == 1).count();
        let ids = text.get_ids();
        // If the tokenizer marks even the token of the letter `a` as special, the appended tokens cannot be
        // distinguished from it.
        if added == ids.len() { Vec::new() } else { ids[ids.len() - added..].to_vec() }
    }

    /// Returns a warning that the tokenizer appends special tokens to texts, and that they are removed from prompts.
    /// Returns `None` if the tokenizer appends no tokens.
    pub fn remark(&self) -> Option<Remark> {
        if self.appended.is_empty() {
            return None;
        }
        let pieces = self.pieces(&self.appended).concat();
        let path = self.folder.join(TOKENIZER);
        let message = format!(
            "{} puts {pieces:?} after every text; an answer follows a prompt, so prompts are read without it",
            path.display()
        );
        let help = "remove it from the `post_processor` of tokenizer.json (`add_eos_token` of tokenizer_config.json \
                    adds it there): programs that serve the model append it to prompts too, and no answer follows it";
        Some(Remark::new(RemarkKind::TextsEnded, message, help))
    }

    /// Returns the digest of everything except tokenizer.json that determines the tokens of a prompt; `None` if
    /// tokenizer.json alone determines them. For a user message (`chat`), this is the digest of the chat template. For
    /// any other prompt to which the tokenizer appends special tokens, it is a constant that marks their removal.
    ///
    /// # Errors
    /// If `chat` is set, and the model has no chat template or the chat template cannot be used.
    pub fn reading(&self, chat: bool) -> Result<Option<Digest>, ModelError> {
        let template = if chat { Some(*self.chat()?.digest()) } else { None };
        // A user message contains only the special tokens that the chat template writes. The tokenizer appends none.
        if chat || self.appended.is_empty() {
            return Ok(template);
        }
        Ok(Some(FieldHasher::new("prompt-without-its-end/1").finish()))
    }

    /// Returns the chat template of the model, and opens it on first use.
    ///
    /// # Errors
    /// If the model has no chat template, or the chat template cannot be used.
    pub fn chat(&self) -> Result<&Chat, ModelError> {
        let open = || match Chat::open(&self.folder) {
            Ok(chat) => chat.ok_or_else(|| NO_TEMPLATE.to_owned()),
            Err(error) => Err(error.to_string()),
        };
        self.chat.get_or_init(open).as_ref().map_err(|problem| ModelError::Chat { problem: problem.clone() })
    }

    /// Returns the texts of the special tokens whose ids are `bos_token_id` and `eos_token_id` in config.json, without
    /// repetition. These texts are tried before a prompt whose subject is at an attention sink, so they can change
    /// the patch. They are therefore not read from tokenizer_config.json, which the digest of the base model does not
    /// cover.
    pub fn start_texts(&self) -> Vec<String> {
        let ids = self.config_ids(["bos_token_id", "eos_token_id"]);
        let ids = ids.into_iter().flatten().filter(|id| self.is_special(*id));
        let mut texts: Vec<String> = ids.filter_map(|id| self.tokenizer.id_to_token(id)).collect();
        texts.dedup();
        texts
    }

    /// Returns the token that ends a text: `eos_token_id` of config.json. Returns `None` if config.json does not state
    /// it, or if the model has no embedding for it.
    pub fn end_token(&self) -> Option<u32> {
        let [id] = self.config_ids(["eos_token_id"]);
        id.filter(|id| (*id as usize) < self.vocabulary)
    }

    /// Returns all tokens under `eos_token_id` in config.json: the tokens that end a text.
    pub fn end_tokens(&self) -> Vec<u32> {
        let config = self.config();
        let ids: Vec<&serde_json::Value> = match &config["eos_token_id"] {
            serde_json::Value::Array(several) => several.iter().collect(),
            one => vec![one],
        };
        ids.into_iter().filter_map(serde_json::Value::as_u64).filter_map(|id| u32::try_from(id).ok()).collect()
    }

    fn config(&self) -> serde_json::Value {
        let config = read_capped(&self.folder.join(CONFIG), LIMIT).ok();
        config.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    /// Returns the token ids under `names` in config.json; `None` for a name without an id.
    fn config_ids<const COUNT: usize>(&self, names: [&str; COUNT]) -> [Option<u32>; COUNT] {
        let config = self.config();
        names.map(|name| {
            let id = match &config[name] {
                // Some configs state a list of ids under `bos_token_id` or, more often, `eos_token_id`. The first id of
                // the list is used.
                serde_json::Value::Array(several) => several.first().and_then(serde_json::Value::as_u64),
                one => one.as_u64(),
            };
            id.and_then(|id| u32::try_from(id).ok())
        })
    }

    /// Tokenises a prompt. A user message is rendered with the chat template, which writes the special tokens. Any
    /// other prompt is tokenised by [`Tokens::encode`]. The special tokens that the tokenizer appends to it are then
    /// removed, because an answer follows.
    ///
    /// # Errors
    /// If the tokenizer rejects the prompt or returns an id for which the model has no embedding, or if the prompt is a
    /// user message and the chat template is missing or fails.
    pub fn encode_prompt(&self, prompt: Prompt<'_>) -> Result<EncodedPrompt, ModelError> {
        if !prompt.chat {
            let mut encoded = self.encode(prompt.text)?;
            let end = encoded.ids.len() - if encoded.ids.ends_with(&self.appended) { self.appended.len() } else { 0 };
            encoded.ids.truncate(end);
            encoded.spans.truncate(end);
            return Ok(EncodedPrompt { text: prompt.text.to_owned(), shift: 0, space: None, encoded });
        }
        let (text, place, space) = self.chat()?.frame(prompt.text)?;
        let is_trimmed = place.len() != prompt.text.len();
        let trimmed = if is_trimmed { prompt.text.len() - prompt.text.trim_start().len() } else { 0 };
        let encoded = self.encode_raw(&text, false)?;
        Ok(EncodedPrompt { text, shift: place.start.cast_signed() - trimmed.cast_signed(), space, encoded })
    }

    /// Tokenises a whole text, and adds the special tokens that tokenizer.json prescribes.
    ///
    /// # Errors
    /// If the tokenizer rejects the text, or returns an id for which the model has no embedding.
    pub fn encode(&self, text: &str) -> Result<Encoded, ModelError> {
        self.encode_raw(text, true)
    }

    /// Tokenises a text that continues another text. Adds neither special tokens nor the mark (such as `▁`) that some
    /// tokenizers put before a text.
    ///
    /// # Errors
    /// If the tokenizer rejects the text, or returns an id for which the model has no embedding. If the tokenizer puts
    /// a mark before every text, and merges the start of `text` into one token with each of the `ANCHORS`.
    pub fn continuation(&self, text: &str) -> Result<Vec<u32>, ModelError> {
        if !self.prepends || text.is_empty() {
            return Ok(self.encode_raw(text, false)?.ids);
        }
        for anchor in ANCHORS {
            let whole = self.encode_raw(&[anchor, text].concat(), false)?;
            let first = whole.spans.iter().position(|span| span.end > anchor.len());
            if let Some(first) = first.filter(|first| whole.spans[*first].start >= anchor.len()) {
                return Ok(whole.ids[first..].to_vec());
            }
        }
        Err(ModelError::Encode { text: text.to_owned(), problem: "it is merged with the text before it".into() })
    }

    fn encode_raw(&self, text: &str, special: bool) -> Result<Encoded, ModelError> {
        let encoding = catch_panic(|| self.tokenizer.encode(text, special).map_err(|problem| problem.to_string()));
        let encoding = encoding.flatten().map_err(|problem| ModelError::Encode { text: text.to_owned(), problem })?;
        if let Some(&id) = encoding.get_ids().iter().find(|&&id| id as usize >= self.vocabulary) {
            return Err(ModelError::Vocabulary { text: text.to_owned(), id, vocabulary: self.vocabulary });
        }
        let spans = encoding.get_offsets().iter().zip(encoding.get_special_tokens_mask());
        let spans = spans.map(|(&(start, end), &mask)| if mask == 1 { 0..0 } else { start..end }).collect();
        Ok(Encoded { ids: encoding.get_ids().to_vec(), spans })
    }

    /// Returns one token as readable text. If the token contains only some of the bytes of a character, returns its
    /// spelling in the vocabulary.
    pub fn piece(&self, id: u32) -> String {
        let text = catch_panic(|| self.tokenizer.decode(&[id], false).ok());
        let text = text.ok().flatten().filter(|text| !text.contains('\u{fffd}'));
        text.or_else(|| self.tokenizer.id_to_token(id)).unwrap_or_else(|| format!("<{id}>"))
    }

    /// Decodes tokens and leaves out special tokens. If the tokenizer cannot decode `ids`, each token is decoded
    /// separately, and special tokens are not left out.
    pub fn decode(&self, ids: &[u32]) -> String {
        let text = catch_panic(|| self.tokenizer.decode(ids, true).ok()).ok().flatten();
        text.unwrap_or_else(|| self.pieces(ids).concat())
    }

    /// Decodes tokens that continue a text. Keeps a space before the first token, although some tokenizers strip a
    /// space at the start of the text that they decode.
    pub fn decode_after(&self, ids: &[u32]) -> String {
        let own = || self.decode(ids);
        let Some(before) = self.encode_raw(ANCHORS[2], false).ok().filter(|_| self.prepends) else { return own() };
        let whole = self.decode(&[&before.ids, ids].concat());
        whole.strip_prefix(&self.decode(&before.ids)).map_or_else(own, str::to_owned)
    }

    /// Whether a token is special, for example the token for the end of a document or for padding.
    pub fn is_special(&self, id: u32) -> bool {
        self.tokenizer.get_added_tokens_decoder().get(&id).is_some_and(|token| token.special)
    }

    /// Returns each token as readable text, converted by [`Tokens::piece`].
    pub fn pieces(&self, ids: &[u32]) -> Vec<String> {
        ids.iter().map(|&id| self.piece(id)).collect()
    }
}

impl Tokens {
    /// Returns each token as readable text. If two tokens together encode the character `é`, they are shown as `é 1/2`
    /// and `é 2/2`. The vocabulary spells such tokens as bytes, which are not readable.
    pub fn shown(&self, ids: &[u32]) -> Vec<String> {
        let decode = |tokens: &[u32]| {
            let text = catch_panic(|| self.tokenizer.decode(tokens, false).ok()).ok().flatten();
            text.filter(|text| !text.contains('\u{fffd}'))
        };
        let (mut shown, mut rest) = (Vec::with_capacity(ids.len()), ids);
        while !rest.is_empty() {
            // A token that cannot be decoded alone contains a part of a character. The smallest number of tokens that
            // decode to valid text together completes the character.
            let runs = 2..=rest.len().min(MOST_SHARED);
            let run = if decode(&rest[..1]).is_some() {
                None
            } else {
                runs.into_iter().find_map(|length| Some((length, decode(&rest[..length])?)))
            };
            let (length, text) = run.unwrap_or((1, String::new()));
            match length {
                1 => shown.push(self.piece(rest[0])),
                all => shown.extend((1..=all).map(|part| format!("{text} {part}/{all}"))),
            }
            rest = &rest[length..];
        }
        shown
    }
}

/// Maximum number of tokens that together decode to one character: one token for each of its bytes (at most four in
/// UTF-8), and one for a space before it.
const MOST_SHARED: usize = 5;

/// Returns `target` as it must be appended to `prompt`. A space is put before it, unless the last character of `prompt`
/// or the first character of `target` is white space or belongs to a script without spaces between words.
pub fn target_text(prompt: &str, target: &str) -> String {
    let (before, after) = (prompt.chars().next_back(), target.chars().next());
    let joined = [before, after].into_iter().flatten().any(|c| c.is_whitespace() || writes_no_spaces(c));
    if joined { target.to_owned() } else { format!(" {target}") }
}

/// Whether a character belongs to a script without spaces between words: Chinese, Japanese, Thai, Lao, Khmer, Burmese
/// or Tibetan. Korean uses spaces.
fn writes_no_spaces(c: char) -> bool {
    matches!(c as u32,
        0x0E00..=0x0EFF | 0x0F00..=0x0FFF | 0x1000..=0x109F | 0x1780..=0x17FF | 0x2E80..=0x2FDF | 0x3000..=0x30FF
        | 0x31F0..=0x31FF | 0x3400..=0x4DBF | 0x4E00..=0x9FFF | 0xF900..=0xFAFF | 0xFF00..=0xFFEF
        | 0x20000..=0x3FFFF)
}

fn load(bytes: &[u8]) -> Result<Tokenizer, String> {
    catch_panic(|| Tokenizer::from_bytes(bytes).map_err(|problem| problem.to_string())).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_space_stands_before_a_target_where_one_belongs() {
        assert_eq!(target_text("The Eiffel Tower is in", "Rome"), " Rome");
        assert_eq!(target_text("The Eiffel Tower is in ", "Rome"), "Rome");
        assert_eq!(target_text("The Eiffel Tower is in", " Rome"), " Rome");
        assert_eq!(target_text("埃菲尔铁塔位于", "罗马"), "罗马");
        assert_eq!(target_text("에펠탑은", "로마"), " 로마");
    }
}
