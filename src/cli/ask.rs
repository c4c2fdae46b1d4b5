//! Implements `ask`: generates text after prompts with the base model and the patched model.

use std::io::{BufRead as _, IsTerminal as _};

use crate::behaviour::continuation::{ContinuationOptions, EndReason, generate};
use crate::behaviour::prompt;
use crate::cli::answers::NamedBase;
use crate::cli::answers::ask::{AskAnswer, AskedPrompt, AskedText};
use crate::cli::context::Context;
use crate::cli::format::Format;
use crate::diagnostics::{Code, Diagnostic, Failure, Sources, escape_controls, quoted, shorten};
use crate::model::{Model, Prompt, Tokens};
use crate::pipeline::{Base, locked_patch};
use crate::project::Project;
use crate::report::Outcome;
use crate::review::measure::PatchedModel;
use crate::review::side::{DiffContext, Side};
use crate::store::Store;

/// The maximum number of prompts that are continued together.
const BATCH: usize = 32;
/// The maximum size of the prompts on stdin, in bytes (16 MiB).
const MOST_INPUT: u64 = 1 << 24;

/// Ask a prompt: print what the base and the patched model say.
///
/// Without a prompt, every line of stdin is one. The patched model has the patch that corrigenda.lock names. Nothing is
/// built, and nothing is written.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The text to continue, for example "The Eiffel Tower is in"
    #[arg(value_name = "PROMPT")]
    prompts: Vec<String>,
    /// The prompts are user messages: apply the model's chat template
    #[arg(long)]
    chat: bool,
    /// Ask this state instead of the last build: a patch id, a git revision, or a folder with a project or a model
    #[arg(long, value_name = "STATE", conflicts_with = "base")]
    patch: Option<String>,
    /// Ask only the base
    #[arg(long)]
    base: bool,
    /// Maximum number of tokens to generate
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..))]
    tokens: u16,
    /// Sample with this seed; by default, the likeliest token is taken each time
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Outcome {
    let (project, store) = match context.open_project_and_store() {
        Ok(opened) => opened,
        Err(outcome) => return outcome,
    };
    match asked(context, arguments, &project, &store) {
        Ok(()) => Outcome::Ok,
        Err(failure) => context.stop(&failure),
    }
}

/// A model that is asked, with its name in the output.
struct AskedModel {
    name: String,
    model: Model,
}

fn asked(context: &Context, arguments: &Arguments, project: &Project, store: &Store) -> Result<(), Failure> {
    let texts = if arguments.prompts.is_empty() { lines_of_stdin(context)? } else { arguments.prompts.clone() };
    let base = context.base(project, store, false)?;
    let rows = rows(&base, &texts, arguments.chat)?;
    let other = other(context, arguments, project, store, &base)?;
    let models: Vec<AskedModel> =
        [AskedModel { name: "base".to_owned(), model: base.model.clone() }].into_iter().chain(other).collect();
    let options = ContinuationOptions { tokens: arguments.tokens.into(), seed: arguments.seed };
    let mut answers = Vec::new();
    for (some, own_texts) in rows.chunks(BATCH).zip(texts.chunks(BATCH)) {
        let said = said(context, &base.tokens, &models, (own_texts, some), options)?;
        answers.extend(own_texts.iter().zip(said).map(|(text, mut said)| AskedPrompt {
            prompt: text.clone(),
            base: said.remove(0),
            patched: said.pop(),
        }));
    }
    if context.format == Format::Json {
        let answer = AskAnswer {
            base: NamedBase { name: base.name(), digest: base.locked.digest.to_string() },
            patched: models.get(1).map(|one| one.name.clone()),
            chat: arguments.chat,
            tokens: arguments.tokens.into(),
            seed: arguments.seed,
            answers,
        };
        context.answer_json(Outcome::Ok, &[], &Sources::default(), answer);
    }
    Ok(())
}

/// Reads one prompt per line. Blank lines are left out.
fn lines_of_stdin(context: &Context) -> Result<Vec<String>, Failure> {
    let failed = |message: String| {
        let finding = Diagnostic::new(Code::PromptUnusable, message);
        Failure::from(finding.help("write a prompt: `corrigenda ask \"The Eiffel Tower is in\"`"))
    };
    if std::io::stdin().is_terminal() {
        context.ui.note("one prompt per line; end with Ctrl-D");
    }
    let mut lines = Vec::new();
    let mut input = std::io::BufReader::new(std::io::Read::take(std::io::stdin().lock(), MOST_INPUT + 1));
    let mut read = 0;
    for number in 1.. {
        let mut line = Vec::new();
        let length = input.read_until(b'\n', &mut line).map_err(|error| failed(format!("stdin: {error}")))?;
        read += length as u64;
        if length == 0 {
            break;
        }
        if read > MOST_INPUT {
            return Err(failed(format!("stdin has more than {MOST_INPUT} bytes")));
        }
        let line = String::from_utf8(line).map_err(|_| failed(format!("line {number} of stdin is not UTF-8")))?;
        let line = line.trim_end_matches(['\n', '\r']);
        if !line.trim().is_empty() {
            lines.push(line.to_owned());
        }
    }
    if lines.is_empty() { Err(failed("there is no prompt".to_owned())) } else { Ok(lines) }
}

/// Tokenizes the prompts.
///
/// # Errors
/// If prompts cannot be tokenized or are longer than the context; the error lists all of them.
fn rows(base: &Base, texts: &[String], chat: bool) -> Result<Vec<Vec<u32>>, Failure> {
    let limit = base.model.spec().max_positions;
    let (mut rows, mut findings) = (Vec::new(), Vec::new());
    for text in texts {
        match prompt(&base.tokens, Prompt { text, chat }, limit) {
            Ok(row) => rows.push(row),
            Err(error) => {
                findings.push(Diagnostic::new(Code::PromptUnusable, format!("{}: {error}", quoted(&shorten(text)))))
            }
        }
    }
    if findings.is_empty() { Ok(rows) } else { Err(Failure::from_findings(findings, &Sources::default())) }
}

/// Returns the model that is asked beside the base: that of `--patch`, or that of the last build. Returns `None` if only
/// the base is asked, or if nothing was built yet.
fn other(
    context: &Context,
    arguments: &Arguments,
    project: &Project,
    store: &Store,
    base: &Base,
) -> Result<Option<AskedModel>, Failure> {
    if arguments.base {
        return Ok(None);
    }
    if let Some(name) = &arguments.patch {
        let side = Side::find(name, DiffContext { project, base, store, progress: &context.ui })?;
        return Ok(Some(AskedModel { name: name.clone(), model: side.model }));
    }
    let Some(lock) = project.lock()? else {
        context.ui.note("nothing was built yet, so only the base is asked; run `corrigenda build`");
        return Ok(None);
    };
    let patch = locked_patch::patch(store, &lock.patch.id)?;
    let model = PatchedModel::new(base, &patch, &project.edits.sources).model()?.clone();
    Ok(Some(AskedModel { name: "patched".to_owned(), model }))
}

/// Continues a batch of prompts with each model, and prints the texts in the human format. On a terminal, the text of a
/// single prompt appears token by token. Returns, for each prompt, the text of each model.
fn said(
    context: &Context,
    tokens: &Tokens,
    models: &[AskedModel],
    (texts, rows): (&[String], &[Vec<u32>]),
    options: ContinuationOptions,
) -> Result<Vec<Vec<AskedText>>, Failure> {
    let human = context.format == Format::Human;
    let streams = human && rows.len() == 1 && std::io::stdout().is_terminal();
    let width = models.iter().map(|one| one.name.chars().count()).max().unwrap_or(0);
    let label = |one: &AskedModel| format!("  {:<width$}  ", escape_controls(&one.name));
    let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
    let mut said: Vec<Vec<AskedText>> = vec![Vec::new(); rows.len()];
    if streams {
        context.ui.raw(format!("{}\n", escape_controls(&texts[0])).as_bytes());
    }
    for one in models {
        let (mut ids, mut shown) = (Vec::new(), 0);
        if streams {
            context.ui.raw(label(one).as_bytes());
        }
        let mut print = |_: usize, token: u32| {
            if !streams {
                return;
            }
            ids.push(token);
            let text = tokens.decode(&ids);
            // The last character may be incomplete until the next token is known.
            if !text.ends_with('\u{fffd}') && text.is_char_boundary(shown) {
                let new = if shown == 0 { text.trim_start() } else { &text[shown..] };
                context.ui.raw(below_label(new, width).as_bytes());
                shown = text.len();
            }
        };
        let made = generate(&one.model, tokens, &rows, options, &mut print)
            .map_err(|error| Failure::from(Diagnostic::new(Code::NotFinite, format!("{}: {error}", one.name))))?;
        if streams {
            context.ui.raw(b"\n");
        }
        for (of_prompt, text) in said.iter_mut().zip(made) {
            let end = match text.end {
                EndReason::EndToken => "end-token",
                EndReason::Limit => "tokens",
                EndReason::Context => "context",
            };
            of_prompt.push(AskedText { text: tokens.decode(&text.ids), end });
        }
    }
    if human && !streams {
        for (text, answers) in texts.iter().zip(&said) {
            let mut lines = escape_controls(text);
            for (one, answer) in models.iter().zip(answers) {
                lines += &format!("\n{}{}", label(one), below_label(answer.text.trim(), width));
            }
            context.ui.answer(&lines);
        }
    }
    Ok(said)
}

/// Formats a generated text beside a label of `width` characters: its later lines begin below its first line. Other
/// control characters are escaped.
fn below_label(text: &str, width: usize) -> String {
    let margin = format!("\n{}", " ".repeat(width + 4));
    let lines: Vec<String> = text.split('\n').map(|line| escape_controls(&line.replace('\t', "    "))).collect();
    lines.join(&margin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_lines_begin_below_the_first() {
        assert_eq!(below_label("Rome.\n\tIt is\u{7} big", 4), "Rome.\n            It is\\u{7} big");
        assert_eq!(below_label("", 4), "");
    }
}
