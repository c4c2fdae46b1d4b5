//! The chat template of a model: what it reads where a user says something.
//!
//! The template is the model's own, Jinja as the Hub has it, rendered as transformers renders it: one message of the
//! user, and the head of the answer behind it. It is a text with holes and no program: it opens no file, knows no
//! clock (a template that falls back on a fixed date without one does so here), and what it may compute is bounded.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Value, context};
use minijinja_contrib::pycompat::unknown_method_callback;
use serde::Serialize as _;
use serde_json::Value as Json;

use super::ModelError;
use super::files::{check_contained, read_capped};
use crate::digest::{Canon, Digest};

/// The file of settings that may hold the template, and the special tokens that a template may name.
const SETTINGS: &str = "tokenizer_config.json";
/// The template in a file of its own, which is taken before the one in the settings.
const TEMPLATE: &str = "chat_template.jinja";
/// What the template is called where it fails.
const NAME: &str = "the template";
/// Special tokens of older models.
const SPECIAL: &str = "special_tokens_map.json";
/// None of these files may be longer.
const LIMIT: u64 = 64 << 20;
/// What one rendering may do: instructions, and bytes of text in bulk.
const FUEL: u64 = 1 << 20;
/// A text that stands for what the user says, to see what the template puts around it. No model has a word for it.
const STANDS_FOR_TEXT: &str = "\u{e000}corrigenda\u{e001}";

/// A text that a model is given: as it stands, or as what a user says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prompt<'t> {
    /// The text.
    pub text: &'t str,
    /// Whether a user says it, under the model's chat template.
    pub chat: bool,
}

impl<'t> From<&'t str> for Prompt<'t> {
    fn from(text: &'t str) -> Self {
        Self { text, chat: false }
    }
}

/// A loaded chat template.
#[derive(Clone)]
pub struct Chat {
    environment: Arc<Environment<'static>>,
    special: BTreeMap<String, String>,
    /// What stands before and behind the text of the user.
    around: (String, String),
    digest: Digest,
}

impl Chat {
    /// The template of the model in `folder`; none where it has none.
    ///
    /// # Errors
    /// A file cannot be read, or the template is no Jinja, fails, or does not show what the user says.
    pub(super) fn open(folder: &Path) -> Result<Option<Self>, ModelError> {
        let settings = json(folder, SETTINGS)?;
        let Some((file, source)) = source(folder, &settings)? else { return Ok(None) };
        let mut special = special_tokens(&json(folder, SPECIAL)?);
        special.extend(special_tokens(&settings));
        let what = format!("{}: the chat template", folder.join(file).display());
        let fail = |error: Error| failed(&what, &error);
        let mut canon = Canon::new("chat-template/1");
        canon.text("template", &source).number("special", special.len() as u64);
        for (name, token) in &special {
            canon.text("name", name).text("token", token);
        }
        let environment = Arc::new(environment(source).map_err(fail)?);
        let mut chat = Self { environment, special, around: Default::default(), digest: canon.finish() };
        let rendered = chat.render(STANDS_FOR_TEXT).map_err(fail)?;
        let around = rendered.split_once(STANDS_FOR_TEXT).filter(|(_, behind)| !behind.contains(STANDS_FOR_TEXT));
        let Some((before, behind)) = around else {
            let problem = format!("{what} does not write what the user says once, and as it is");
            return Err(ModelError::Chat { problem });
        };
        chat.around = (before.to_owned(), behind.to_owned());
        Ok(Some(chat))
    }

    /// What the weights depend on: the template and the special tokens that it may name.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The text that the model reads where a user says `text`, and the bytes of it that are `text`, without white
    /// space around it where the template takes that away.
    ///
    /// # Errors
    /// The template fails, or writes the text otherwise than it was said.
    pub(super) fn frame(&self, text: &str) -> Result<(String, Range<usize>), ModelError> {
        let rendered = self.render(text).map_err(|error| failed("the chat template", &error))?;
        let (before, behind) = &self.around;
        let shown = rendered.strip_prefix(before.as_str()).and_then(|rest| rest.strip_suffix(behind.as_str()));
        match shown.filter(|shown| *shown == text || *shown == text.trim()) {
            Some(shown) => {
                let place = before.len()..before.len() + shown.len();
                Ok((rendered, place))
            }
            None => Err(ModelError::Chat {
                problem: format!("the chat template writes {text:?} otherwise than it is said"),
            }),
        }
    }

    fn render(&self, text: &str) -> Result<String, Error> {
        let message = Value::from_pairs([("role", "user"), ("content", text)]);
        let given = context! {
            messages => vec![message], add_generation_prompt => true, tools => (), documents => (),
            ..Value::from_pairs(self.special.clone())
        };
        self.environment.get_template(NAME)?.render(given)
    }
}

fn failed(what: &str, error: &Error) -> ModelError {
    ModelError::Chat { problem: format!("{what}: {error:#}") }
}

/// Jinja as transformers sets it up.
fn environment(source: String) -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_unknown_method_callback(unknown_method_callback);
    environment.set_fuel(Some(FUEL));
    environment.add_filter("tojson", to_json);
    environment.add_function("raise_exception", |problem: String| -> Result<(), Error> {
        Err(Error::new(ErrorKind::InvalidOperation, problem))
    });
    environment.add_template_owned(NAME, without_marks(source))?;
    Ok(environment)
}

/// The source as this Jinja reads it: lines end in one character, and the marks of the answers to train on, which
/// change no text, are conditions that hold.
fn without_marks(source: String) -> String {
    let mut source = source.replace("\r\n", "\n");
    for (mark, condition) in [("generation", "if true"), ("endgeneration", "endif")] {
        for (open, close) in ["{%-", "{%"].iter().flat_map(|open| ["-%}", "%}"].map(|close| (open, close))) {
            source = source.replace(&format!("{open} {mark} {close}"), &format!("{open} {condition} {close}"));
        }
    }
    source
}

/// JSON as Python's `json.dumps(…, ensure_ascii=False)` writes it: nothing is escaped for HTML. Arguments only shape
/// objects and lists, and there they are refused: what the user says is a text.
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

/// One space behind a comma and behind a colon.
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

/// A file of the folder as JSON; null where there is none.
fn json(folder: &Path, name: &str) -> Result<Json, ModelError> {
    let Some(bytes) = bytes(folder, name)? else { return Ok(Json::Null) };
    serde_json::from_slice(&bytes).map_err(|source| ModelError::NotJson { path: folder.join(name), source })
}

fn bytes(folder: &Path, name: &str) -> Result<Option<Vec<u8>>, ModelError> {
    check_contained(folder, name)?;
    let path = folder.join(name);
    if path.is_file() { read_capped(&path, LIMIT).map(Some) } else { Ok(None) }
}

/// The template and the file that it stands in: a file of its own, else what the settings hold. Of several with names
/// that is `default`.
fn source(folder: &Path, settings: &Json) -> Result<Option<(&'static str, String)>, ModelError> {
    if let Some(bytes) = bytes(folder, TEMPLATE)? {
        let text = String::from_utf8(bytes);
        let problem = |_| ModelError::Chat { problem: format!("{} is not UTF-8", folder.join(TEMPLATE).display()) };
        return text.map(|text| Some((TEMPLATE, text))).map_err(problem);
    }
    let text = match &settings["chat_template"] {
        Json::Null => return Ok(None),
        Json::String(text) => Some(text.as_str()),
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
            let problem = format!("{}: `chat_template` is no text, and has none named `default`", path.display());
            Err(ModelError::Chat { problem })
        }
    }
}

/// `bos_token` and its like: written as texts, or as objects with a `content`.
fn special_tokens(settings: &Json) -> BTreeMap<String, String> {
    let named = settings.as_object().into_iter().flatten().filter(|(name, _)| name.ends_with("_token"));
    let text = |value: &Json| value.as_str().or_else(|| value["content"].as_str()).map(str::to_owned);
    named.filter_map(|(name, value)| Some((name.clone(), text(value)?))).collect()
}

#[cfg(test)]
#[path = "chat_tests.rs"]
mod tests;
