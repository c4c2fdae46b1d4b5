//! The tokenizer, and where a subject ends.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use tokenizers::Tokenizer;

use super::ModelError;
use super::caught::caught;
use super::chat::{Chat, Prompt};
use super::files::{CONFIG, TOKENIZER, check_contained, read_capped};
use super::remark::{Kind, Remark};
use super::{precheck, storage};
use crate::digest::{Canon, Digest};

/// What is said where a chat template is asked for and there is none.
const NO_TEMPLATE: &str = "the model has no chat template: there is no chat_template.jinja, and no `chat_template` in \
                           tokenizer_config.json";

/// tokenizer.json may be this long.
const LIMIT: u64 = 64 << 20;

/// Texts that no tokenizer joins to every other: a continuation is cut behind one of them.
const ANCHORS: [&str; 3] = ["\n", ".", "a"];

/// A loaded tokenizer.json, and the chat template beside it.
#[derive(Clone)]
pub struct Tokens {
    tokenizer: Tokenizer,
    vocabulary: usize,
    /// Whether a mark is put in front of every text, which is only right at its beginning.
    prepends: bool,
    /// Special tokens that the post-processor puts after every text.
    tail: Vec<u32>,
    folder: PathBuf,
    /// Read where it is asked for: most models need none, and a broken one is then no matter.
    chat: OnceLock<Result<Chat, String>>,
}

/// A prompt as the model reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Framed {
    /// The whole text: the prompt, and what the chat template puts around it.
    pub text: String,
    /// Where the prompt begins in it: what is added to a place in the prompt. White space that a template takes away
    /// in front of a prompt makes it less than the place of its first letter.
    shift: isize,
    /// Whether a space stands before an answer: the chat template says so, or nobody does.
    space: Option<bool>,
    /// Its tokens.
    pub encoded: Encoded,
}

impl Framed {
    /// An answer as it follows: as the chat template writes answers, or as [`target_text`] says.
    pub fn answer(&self, answer: &str) -> String {
        match self.space {
            Some(space) if space && !answer.starts_with(char::is_whitespace) => format!(" {answer}"),
            Some(_) => answer.to_owned(),
            None => target_text(&self.text, answer),
        }
    }

    /// A range of the prompt's bytes in the whole text.
    pub fn place(&self, range: &Range<usize>) -> Range<usize> {
        let moved = |at: usize| at.saturating_add_signed(self.shift);
        moved(range.start)..moved(range.end)
    }
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
            return Err(storage::without_tokenizer(folder));
        }
        let bytes = read_capped(&path, LIMIT)?;
        let fail = |problem: String| ModelError::Tokenizer { path: path.clone(), problem };
        precheck::check(&bytes).map_err(fail)?;
        let mut tokenizer = load(&bytes).map_err(fail)?;
        // Texts are never cut or padded behind the caller's back.
        tokenizer.with_truncation(None).map_err(|problem| fail(problem.to_string()))?;
        tokenizer.with_padding(None);
        let mut tokens = Self {
            tokenizer,
            vocabulary,
            prepends: false,
            tail: Vec::new(),
            folder: folder.to_owned(),
            chat: OnceLock::new(),
        };
        tokens.tail = tokens.ending();
        // A tokenizer that leaves a letter alone puts nothing before a text.
        tokens.prepends = tokens.cut("a", false).is_ok_and(|one| {
            one.ids.first().is_some_and(|id| tokens.tokenizer.id_to_token(*id).is_none_or(|piece| piece != "a"))
        });
        Ok(tokens)
    }

    /// The special tokens that the post-processor puts after a text.
    fn ending(&self) -> Vec<u32> {
        let text = caught(|| self.tokenizer.encode(ANCHORS[2], true).ok()).ok().flatten();
        let Some(text) = text else { return Vec::new() };
        let added = text.get_special_tokens_mask().iter().rev().take_while(|mask| **mask == 1).count();
        let ids = text.get_ids();
        // Where nothing is left, the letter is one of them.
        if added == ids.len() { Vec::new() } else { ids[ids.len() - added..].to_vec() }
    }

    /// What a person should know: that prompts are read without tokens that the tokenizer puts after every text.
    pub fn remark(&self) -> Option<Remark> {
        if self.tail.is_empty() {
            return None;
        }
        let pieces = self.pieces(&self.tail).concat();
        let path = self.folder.join(TOKENIZER);
        let message = format!(
            "{} puts {pieces:?} after every text; an answer follows a prompt, so prompts are read without it",
            path.display()
        );
        let help = "take it out of the `post_processor` of tokenizer.json (`add_eos_token` of tokenizer_config.json writes it \
                    there): programs that serve the model put it after prompts too, and no answer follows it";
        Some(Remark::new(Kind::TextsEnded, message, help))
    }

    /// What decides how a prompt is read, beside the files of the base and the prompt: in a chat its template, and
    /// that what the tokenizer puts after every text is left out. None for prompts that are read as tokenizer.json
    /// says.
    ///
    /// # Errors
    /// As [`Tokens::chat`].
    pub fn reading(&self, chat: bool) -> Result<Option<Digest>, ModelError> {
        let template = if chat { Some(*self.chat()?.digest()) } else { None };
        // A chat template writes the whole text: nothing is put after it.
        if chat || self.tail.is_empty() {
            return Ok(template);
        }
        Ok(Some(Canon::new("prompt-without-its-end/1").finish()))
    }

    /// The model's chat template.
    ///
    /// # Errors
    /// It has none, or one that cannot be used.
    pub fn chat(&self) -> Result<&Chat, ModelError> {
        let open = || match Chat::open(&self.folder) {
            Ok(chat) => chat.ok_or_else(|| NO_TEMPLATE.to_owned()),
            Err(error) => Err(error.to_string()),
        };
        self.chat.get_or_init(open).as_ref().map_err(|problem| ModelError::Chat { problem: problem.clone() })
    }

    /// The texts of the tokens with which the model's texts begin or end, as config.json names them: `bos_token_id`, then
    /// `eos_token_id`, each once. config.json is part of the base: other settings of the tokenizer are not, and nothing
    /// that a patch depends on is read from them.
    pub fn start_texts(&self) -> Vec<String> {
        let config = read_capped(&self.folder.join(CONFIG), LIMIT).ok();
        let config: serde_json::Value =
            config.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        let id = |name: &str| match &config[name] {
            // Some models end a text in one of several ways.
            serde_json::Value::Array(several) => several.first().and_then(serde_json::Value::as_u64),
            one => one.as_u64(),
        };
        let ids = ["bos_token_id", "eos_token_id"].into_iter().filter_map(id);
        let ids = ids.filter_map(|id| u32::try_from(id).ok()).filter(|id| self.is_special(*id));
        let mut texts: Vec<String> = ids.filter_map(|id| self.tokenizer.id_to_token(id)).collect();
        texts.dedup();
        texts
    }

    /// Cuts a prompt: as it stands, with the special tokens of [`Tokens::encode`] before it, or under the chat template,
    /// which writes its own. What the tokenizer puts after a text is left out: an answer follows.
    ///
    /// # Errors
    /// As [`Tokens::encode`]; or the chat template is missing or fails.
    pub fn frame(&self, prompt: Prompt<'_>) -> Result<Framed, ModelError> {
        if !prompt.chat {
            let mut encoded = self.encode(prompt.text)?;
            let end = encoded.ids.len() - if encoded.ids.ends_with(&self.tail) { self.tail.len() } else { 0 };
            encoded.ids.truncate(end);
            encoded.spans.truncate(end);
            return Ok(Framed { text: prompt.text.to_owned(), shift: 0, space: None, encoded });
        }
        let (text, place, space) = self.chat()?.frame(prompt.text)?;
        let trimmed = match place.len() == prompt.text.len() {
            true => 0,
            false => prompt.text.len() - prompt.text.trim_start().len(),
        };
        let encoded = self.cut(&text, false)?;
        Ok(Framed { text, shift: place.start.cast_signed() - trimmed.cast_signed(), space, encoded })
    }

    /// Cuts a whole text, with the special tokens that the tokenizer's post-processor adds.
    ///
    /// # Errors
    /// If the tokenizer refuses the text, or gives an id that the model has no embedding for.
    pub fn encode(&self, text: &str) -> Result<Encoded, ModelError> {
        self.cut(text, true)
    }

    /// Cuts a continuation: no special tokens, and no mark of a text's beginning.
    ///
    /// # Errors
    /// As [`Tokens::encode`]; or no cut falls between what stands before the text and the text.
    pub fn continuation(&self, text: &str) -> Result<Vec<u32>, ModelError> {
        if !self.prepends || text.is_empty() {
            return Ok(self.cut(text, false)?.ids);
        }
        for anchor in ANCHORS {
            let whole = self.cut(&[anchor, text].concat(), false)?;
            let first = whole.spans.iter().position(|span| span.end > anchor.len());
            if let Some(first) = first.filter(|first| whole.spans[*first].start >= anchor.len()) {
                return Ok(whole.ids[first..].to_vec());
            }
        }
        Err(ModelError::Encode { text: text.to_owned(), problem: "it is joined to whatever stands before it".into() })
    }

    fn cut(&self, text: &str, special: bool) -> Result<Encoded, ModelError> {
        let cut = caught(|| self.tokenizer.encode(text, special).map_err(|problem| problem.to_string()));
        let encoding = cut.flatten().map_err(|problem| ModelError::Encode { text: text.to_owned(), problem })?;
        if let Some(&id) = encoding.get_ids().iter().find(|&&id| id as usize >= self.vocabulary) {
            return Err(ModelError::Vocabulary { text: text.to_owned(), id, vocabulary: self.vocabulary });
        }
        let spans = encoding.get_offsets().iter().zip(encoding.get_special_tokens_mask());
        let spans = spans.map(|(&(start, end), &special)| if special == 1 { 0..0 } else { start..end }).collect();
        Ok(Encoded { ids: encoding.get_ids().to_vec(), spans })
    }

    /// One token as people read it; a part of a character, which no text can show, as the vocabulary spells it.
    pub fn piece(&self, id: u32) -> String {
        let text = caught(|| self.tokenizer.decode(&[id], false).ok());
        let text = text.ok().flatten().filter(|text| !text.contains('\u{fffd}'));
        text.or_else(|| self.tokenizer.id_to_token(id)).unwrap_or_else(|| format!("<{id}>"))
    }

    /// The text of tokens; special ones are left out.
    pub fn decode(&self, ids: &[u32]) -> String {
        let text = caught(|| self.tokenizer.decode(ids, true).ok()).ok().flatten();
        text.unwrap_or_else(|| self.pieces(ids).concat())
    }

    /// The text of tokens that stand behind others: what a decoder takes from a text's beginning stays.
    pub fn decode_behind(&self, ids: &[u32]) -> String {
        let own = || self.decode(ids);
        let Some(before) = self.cut(ANCHORS[2], false).ok().filter(|_| self.prepends) else { return own() };
        let whole = self.decode(&[&before.ids, ids].concat());
        whole.strip_prefix(&self.decode(&before.ids)).map_or_else(own, str::to_owned)
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

impl Tokens {
    /// The tokens of a text as people read them, a character that several tokens share with which of them each is: the
    /// vocabulary spells its parts in letters that nobody wrote.
    pub fn shown(&self, ids: &[u32]) -> Vec<String> {
        let decode = |ids: &[u32]| {
            let text = caught(|| self.tokenizer.decode(ids, false).ok()).ok().flatten();
            text.filter(|text| !text.contains('\u{fffd}'))
        };
        let (mut shown, mut rest) = (Vec::with_capacity(ids.len()), ids);
        while !rest.is_empty() {
            // The shortest run that is text, where a few tokens are enough to be one.
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

/// Tokens that may share one character: a character has at most four bytes, and a space may stand before it.
const MOST_SHARED: usize = 5;

/// The target as it continues `prompt`: behind one space, unless the prompt ends in white space, the target starts
/// with it, or either side of the seam is written in a script without spaces.
pub fn target_text(prompt: &str, target: &str) -> String {
    let (before, after) = (prompt.chars().next_back(), target.chars().next());
    let joined = [before, after].into_iter().flatten().any(|c| c.is_whitespace() || writes_no_spaces(c));
    if joined { target.to_owned() } else { format!(" {target}") }
}

/// Letters and punctuation of scripts that put no space between words: Chinese, Japanese, Thai, Lao, Khmer,
/// Burmese, Tibetan. Korean does use spaces.
fn writes_no_spaces(c: char) -> bool {
    matches!(c as u32,
        0x0E00..=0x0EFF | 0x0F00..=0x0FFF | 0x1000..=0x109F | 0x1780..=0x17FF | 0x2E80..=0x2FDF | 0x3000..=0x30FF
        | 0x31F0..=0x31FF | 0x3400..=0x4DBF | 0x4E00..=0x9FFF | 0xF900..=0xFAFF | 0xFF00..=0xFFEF
        | 0x20000..=0x3FFFF)
}

fn load(bytes: &[u8]) -> Result<Tokenizer, String> {
    caught(|| Tokenizer::from_bytes(bytes).map_err(|problem| problem.to_string())).flatten()
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
