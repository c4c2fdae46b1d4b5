//! Renders a user message with the chat template of the model, and appends the generation prompt.
//!
//! The chat template is a Jinja template as published on the Hugging Face Hub. It is rendered as in transformers, but
//! it cannot open files or read the clock. Its length, the number of executed instructions and the stack are limited. A
//! hostile chat template can still crash the process, so it must be trusted like the weights.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Value, context};
use minijinja_contrib::pycompat::unknown_method_callback;
use serde::Serialize as _;
use serde_json::Value as Json;

use super::catch_panic::catch_panic;
use crate::digest::{Digest, FieldHasher};
use crate::model::ModelError;
use crate::model::load::files::{check_contained, read_capped};

/// The settings file of the tokenizer, which may contain the chat template and lists the special tokens.
const SETTINGS: &str = "tokenizer_config.json";
/// The file that contains only the chat template. It takes precedence over a chat template in `tokenizer_config.json`.
const TEMPLATE: &str = "chat_template.jinja";
/// The name of the chat template in the Jinja environment and in Jinja's error messages.
const NAME: &str = "the template";
/// The file in which older models list their special tokens.
const SPECIAL: &str = "special_tokens_map.json";
/// Maximum size of each file that this module reads, in bytes. The limit is high because some settings files list every
/// token of the vocabulary.
const LIMIT: u64 = 64 << 20;
/// Maximum length of a chat template in bytes, which also bounds its nesting depth. The longest published chat
/// templates have a quarter of this length.
const LONGEST: usize = 64 << 10;
/// Maximum cost of one rendering. Each Jinja instruction costs 1, and operations on texts cost 1 per byte.
const FUEL: u64 = 1 << 20;
/// Stack size of the thread that renders a chat template, in bytes. The operating system allocates only the pages that
/// are used.
const STACK: usize = 256 << 20;
/// Time limit for rendering a chat template once. Published templates need about a millisecond.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Placeholders for a user message (`QUESTION`) and an answer (`ANSWER`). They are rendered to find the texts that the
/// chat template writes around them. Their private-use characters do not occur in chat templates.
const QUESTION: &str = "\u{e000}corrigenda\u{e001}";
const ANSWER: &str = "\u{e002}corrigenda\u{e003}";

/// A text for the model. It is used verbatim, or rendered as a user message with the chat template of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prompt<'t> {
    /// The text as the user wrote it, before a chat template is applied.
    pub text: &'t str,
    /// Whether the text is a user message. If so, it is rendered with the chat template of the model.
    pub chat: bool,
}

impl<'t> From<&'t str> for Prompt<'t> {
    fn from(text: &'t str) -> Self {
        Self { text, chat: false }
    }
}

/// A compiled chat template, and the texts that it writes around a user message.
#[derive(Clone)]
pub struct Chat {
    environment: Arc<Environment<'static>>,
    special: BTreeMap<String, String>,
    /// The text that refers to the chat template in error messages: the path of its file, and the words `the chat
    /// template`.
    name: String,
    affixes: TemplateAffixes,
    digest: Digest,
}

/// The texts that the chat template writes around a user message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct TemplateAffixes {
    prefix: String,
    suffix: String,
    /// The text that the chat template writes between the generation prompt and an answer, for example the empty
    /// thinking block of a reasoning model.
    answer_prefix: String,
    /// Whether the chat template writes a space before an answer; `None` if this is unknown. To find out, a
    /// conversation is rendered with and without an answer. The result is unknown if the longer text does not start
    /// with the shorter one.
    space: Option<bool>,
}

impl Chat {
    /// Opens the chat template of the model in `folder`. Returns `None` if the model has no chat template.
    ///
    /// # Errors
    /// If a file cannot be read, or if the chat template is not valid Jinja, fails, or does not write the user message
    /// exactly once and verbatim.
    pub(crate) fn open(folder: &Path) -> Result<Option<Self>, ModelError> {
        let settings = json(folder, SETTINGS)?;
        let Some((file, source)) = source(folder, &settings)? else { return Ok(None) };
        let name = format!("{}: the chat template", folder.join(file).display());
        if source.len() > LONGEST {
            let problem = format!("{name} is {} bytes long; more than {LONGEST} are refused", source.len());
            return Err(ModelError::Chat { problem });
        }
        let special = special_tokens(&settings, &json(folder, SPECIAL)?);
        let mut canon = FieldHasher::new("chat-template/1");
        canon.text("template", &source).number("special", special.len() as u64);
        for (token_name, token) in &special {
            canon.text("name", token_name).text("token", token);
        }
        let environment = run_sandboxed(move || environment(source)).map_err(|error| failed(&name, &error))?;
        let mut chat = Self {
            environment: Arc::new(environment),
            special,
            name,
            affixes: TemplateAffixes::default(),
            digest: Digest::of(b""),
        };
        chat.affixes = chat.probe_template()?;
        // The digest covers texts that the template has rendered. It therefore also changes if a new version of the
        // template engine renders the same template differently.
        let TemplateAffixes { prefix, suffix, answer_prefix, space } = &chat.affixes;
        canon.text("before", prefix).text("behind", suffix).text("more", answer_prefix);
        chat.digest = canon.number("space", space.map_or(2, u64::from)).finish();
        Ok(Some(chat))
    }

    fn probe_template(&self) -> Result<TemplateAffixes, ModelError> {
        let rendered = self.render(QUESTION, None).map_err(|error| failed(&self.name, &error))?;
        let parts = rendered.split_once(QUESTION).filter(|(_, suffix)| !suffix.contains(QUESTION));
        let Some((prefix, suffix)) = parts else {
            let problem = format!("{} does not write the user's message exactly once and unchanged", self.name);
            return Err(ModelError::Chat { problem });
        };
        let mut affixes =
            TemplateAffixes { prefix: prefix.to_owned(), suffix: suffix.to_owned(), ..TemplateAffixes::default() };
        // Some chat templates write no answers, or leave out the generation prompt before an answer. It is then unknown
        // whether a space precedes an answer.
        let answered = self.render(QUESTION, Some(ANSWER)).unwrap_or_default();
        let answered = answered.split_once(ANSWER).and_then(|(upto, _)| upto.strip_prefix(rendered.as_str()));
        if let Some(text) = answered {
            // A space before an answer is tokenised with the answer, so it is left out of `answer_prefix`.
            let space = text.ends_with(' ');
            affixes.answer_prefix = text.strip_suffix(' ').unwrap_or(text).to_owned();
            affixes.space = Some(space);
        }
        Ok(affixes)
    }

    /// Returns the digest of everything that determines the rendered text: the chat template, its special tokens, and
    /// the texts that it writes around a user message.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Renders `text` as a user message. Returns the rendered text, the byte range of `text` in the rendered text, and
    /// whether a space precedes an answer (`None` if unknown). The range excludes white space that the chat template
    /// strips from `text`.
    ///
    /// # Errors
    /// If the chat template fails, or does not write `text` verbatim.
    pub(crate) fn frame(&self, text: &str) -> Result<(String, Range<usize>, Option<bool>), ModelError> {
        let mut rendered = self.render(text, None).map_err(|error| failed(&self.name, &error))?;
        let TemplateAffixes { prefix, suffix, answer_prefix, space } = &self.affixes;
        let shown = rendered.strip_prefix(prefix.as_str()).and_then(|rest| rest.strip_suffix(suffix.as_str()));
        match shown.filter(|shown| *shown == text || *shown == text.trim()) {
            Some(shown) => {
                let place = prefix.len()..prefix.len() + shown.len();
                rendered.push_str(answer_prefix);
                Ok((rendered, place, *space))
            }
            None => {
                Err(ModelError::Chat { problem: format!("{} does not write the text {text:?} unchanged", self.name) })
            }
        }
    }

    /// Renders the user message `text`, followed by `answer`, or by the generation prompt if `answer` is `None`.
    fn render(&self, text: &str, answer: Option<&str>) -> Result<String, Error> {
        let message = |role: &str, content: &str| Value::from_pairs([("role", role), ("content", content)]);
        let answered = answer.map(|answer| message("assistant", answer));
        let messages: Vec<Value> = [message("user", text)].into_iter().chain(answered).collect();
        let given = context! {
            messages, add_generation_prompt => answer.is_none(), tools => (), documents => (),
            ..Value::from_pairs(self.special.clone())
        };
        let environment = Arc::clone(&self.environment);
        run_sandboxed(move || environment.get_template(NAME)?.render(given))
    }
}

/// Runs `work` on a thread with a large stack. Returns an error if there is no result after [`TIMEOUT`]; the thread
/// then continues in the background. The limit on instructions does not replace the time limit, because a single
/// instruction can take long, for example one that prints nested lists.
fn run_sandboxed<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    let refused = |why: &str| Error::new(ErrorKind::InvalidOperation, why.to_owned());
    let (sender, receiver) = mpsc::channel();
    let thread = std::thread::Builder::new().stack_size(STACK);
    let started = thread.spawn(move || {
        let done = catch_panic(work).unwrap_or_else(|said| Err(Error::new(ErrorKind::InvalidOperation, said)));
        let _ = sender.send(done);
    });
    started.map_err(|error| refused(&format!("its thread could not be started: {error}")))?;
    receiver.recv_timeout(TIMEOUT).unwrap_or_else(|ended| match ended {
        RecvTimeoutError::Timeout => Err(refused(&format!("it takes more than {} seconds", TIMEOUT.as_secs()))),
        RecvTimeoutError::Disconnected => Err(refused("its thread ended without a result")),
    })
}

fn failed(what: &str, error: &Error) -> ModelError {
    let text = format!("{error:#}");
    let clock = if text.contains("strftime_now") || text.contains("not callable") {
        "; the template may call a function for the current date, which is not available: a build must not depend on \
         the date"
    } else {
        ""
    };
    ModelError::Chat { problem: format!("{what}: {text}{clock}") }
}

/// Creates a Jinja environment with the white-space rules, filters, functions and tests of transformers.
fn environment(source: String) -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_unknown_method_callback(|state, value, method, arguments| match method {
        "format" if is_wide(&value.to_string()) => {
            let problem = "a width or a precision of more than four digits is refused";
            Err(Error::new(ErrorKind::InvalidOperation, problem))
        }
        _ => unknown_method_callback(state, value, method, arguments),
    });
    environment.set_fuel(Some(FUEL));
    environment.add_filter("tojson", to_json);
    environment.add_function("raise_exception", |problem: String| -> Result<(), Error> {
        Err(Error::new(ErrorKind::InvalidOperation, problem))
    });
    // Jinja2 does not treat `none` as iterable, and treats strings and mappings as sequences.
    environment.add_test("iterable", |value: &Value| !value.is_none() && value.try_iter().is_ok());
    environment.add_test("sequence", |value: &Value| {
        matches!(value.kind(), ValueKind::Seq | ValueKind::String | ValueKind::Map)
    });
    environment.add_template_owned(NAME, without_marks(&source))?;
    Ok(environment)
}

/// Whether a format string may ask for a width or a precision above 9,999. This is possible if it contains a number of
/// more than four digits, or a nested field such as `{:{}}`, whose value is unknown here.
fn is_wide(format: &str) -> bool {
    let digits = format.split(|c: char| !c.is_ascii_digit()).map(str::len).max().unwrap_or(0);
    let nested = format.split('{').skip(1).any(|part| part.contains(':') && !part.contains('}'));
    digits > 4 || nested
}

/// Rewrites a chat template for minijinja, which does not support `{% generation %}` blocks. These blocks only mark
/// the answer for training, so they become `{% if true %}` blocks. CRLF becomes LF.
fn without_marks(source: &str) -> String {
    let source = source.replace("\r\n", "\n");
    let mut out = String::with_capacity(source.len());
    let mut rest = source.as_str();
    while let Some(start) = rest.find("{%") {
        let (text, tag) = rest.split_at(start);
        out.push_str(text);
        let Some(end) = tag[2..].find("%}").map(|end| end + 4) else { break };
        let inner = tag[2..end - 2].trim_start_matches(['-', '+']).trim_end_matches(['-', '+']);
        match inner.trim() {
            "generation" => out.push_str(&tag[..end].replacen("generation", "if true", 1)),
            "endgeneration" => out.push_str(&tag[..end].replacen("endgeneration", "endif", 1)),
            _ => out.push_str(&tag[..end]),
        }
        rest = &tag[end..];
    }
    out + rest
}

/// Serialises a value as Python's `json.dumps(…, ensure_ascii=False)` does, without HTML escaping. The arguments
/// `indent`, `separators`, `sort_keys` and `ensure_ascii` are rejected for objects and lists, and ignored for other
/// values.
fn to_json(value: &Value, arguments: Kwargs) -> Result<Value, Error> {
    let shaped = ["indent", "separators", "sort_keys", "ensure_ascii"].iter().any(|name| arguments.has(name));
    if shaped && matches!(value.kind(), ValueKind::Map | ValueKind::Seq | ValueKind::Iterable) {
        let problem = "tojson with arguments is not supported for objects and lists";
        return Err(Error::new(ErrorKind::InvalidOperation, problem));
    }
    let mut out = Vec::new();
    let written = value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, Spaced));
    written.map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))?;
    Ok(Value::from_safe_string(String::from_utf8_lossy(&out).into_owned()))
}

/// A JSON formatter that writes a space after every comma and colon, as Python's `json.dumps` does.
struct Spaced;

impl serde_json::ser::Formatter for Spaced {
    fn begin_array_value<W: ?Sized + std::io::Write>(&mut self, out: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(&mut self, out: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, out: &mut W) -> std::io::Result<()> {
        out.write_all(b": ")
    }
}

/// Reads a JSON file of a model folder. Returns null if the file does not exist.
fn json(folder: &Path, name: &str) -> Result<Json, ModelError> {
    let Some(bytes) = bytes(folder, name)? else { return Ok(Json::Null) };
    serde_json::from_slice(&bytes).map_err(|source| ModelError::NotJson { path: folder.join(name), source })
}

fn bytes(folder: &Path, name: &str) -> Result<Option<Vec<u8>>, ModelError> {
    check_contained(folder, name)?;
    let path = folder.join(name);
    if path.is_file() { read_capped(&path, LIMIT).map(Some) } else { Ok(None) }
}

/// Returns the chat template and the name of its file: chat_template.jinja if it exists, otherwise
/// tokenizer_config.json. If tokenizer_config.json contains several templates, returns the one named `default`. Returns
/// `None` if the model has no chat template.
fn source(folder: &Path, settings: &Json) -> Result<Option<(&'static str, String)>, ModelError> {
    if let Some(bytes) = bytes(folder, TEMPLATE)? {
        let text = String::from_utf8(bytes);
        let problem = |_| ModelError::Chat { problem: format!("{} is not UTF-8", folder.join(TEMPLATE).display()) };
        return text.map(|text| Some((TEMPLATE, text))).map_err(problem);
    }
    let text = match &settings["chat_template"] {
        Json::Null => return Ok(None),
        Json::String(text) => Some(text.as_str()),
        Json::Object(named) => named.get("default").and_then(Json::as_str),
        Json::Array(named) => {
            let default = named.iter().find(|one| one["name"] == "default");
            default.and_then(|one| one["template"].as_str())
        }
        _ => None,
    };
    match text {
        Some(text) => Ok(Some((SETTINGS, text.to_owned()))),
        None => {
            let path = folder.join(SETTINGS);
            let problem =
                format!("{}: `chat_template` is not a text, and has no template named `default`", path.display());
            Err(ModelError::Chat { problem })
        }
    }
}

/// Returns the special tokens by name, such as `bos_token`. `settings` is the content of tokenizer_config.json, and
/// `map` is the content of special_tokens_map.json. A token is a string or an object with the key `content`. As in
/// transformers, `map` takes precedence over `settings`, but is ignored if `settings` has the key
/// `added_tokens_decoder`.
fn special_tokens(settings: &Json, map: &Json) -> BTreeMap<String, String> {
    let listed = settings.get("added_tokens_decoder").is_some();
    let extra = settings.get("extra_special_tokens").filter(|extra| extra.is_object());
    let older = Some(map).filter(|_| !listed);
    let mut out = BTreeMap::new();
    for from in [Some(settings), extra, older].into_iter().flatten() {
        let named = from.as_object().into_iter().flatten().filter(|(name, _)| name.ends_with("_token"));
        let text = |value: &Json| value.as_str().or_else(|| value["content"].as_str()).map(str::to_owned);
        out.extend(named.filter_map(|(name, value)| Some((name.clone(), text(value)?))));
    }
    out
}

#[cfg(test)]
#[path = "chat_tests.rs"]
mod tests;
