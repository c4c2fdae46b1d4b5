//! Implements `init`: creates a project whose first fact can be built without further changes.

pub(crate) mod drafts;
pub(crate) mod first_layer;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::behaviour::{Question, scores};
use crate::cli::answers::project::InitAnswer;
use crate::cli::context::Context;
use crate::cli::format::Format;
use crate::diagnostics::{Code, Diagnostic, Sources, escape_controls};
use crate::model::load::hub::HubName;
use crate::model::{Model, ModelError, Spec, Tokens};
use crate::pipeline::base::folder_named;
use crate::project::PROJECT_FILE;
use crate::report::Outcome;
use crate::store::atomic;
use drafts::{CORPUS_FILE, Draft, FACT, FACT_FILE, GATE, SCHEMA, beside, corpus, may_stay, wanted};
use first_layer::{ChosenLayer, RULES};

/// Create the files of a new project in the folder of `-C`, such as corrigenda.toml and a first fact
///
/// Existing files are never overwritten.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The model to edit: its folder, or its name on the Hub if it is in the Hub's cache [default: the bundled model,
    /// if it is found]
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// The layer to edit in that model [default: the published layer; else the best measured layer if the model is
    /// small, or the layer at a third of the depth]
    #[arg(long, value_name = "N", requires = "model")]
    layer: Option<u16>,
    /// A folder that was given without `-C` or `--model`; it is rejected with a suggestion
    #[arg(hide = true, value_name = "DIR")]
    stray: Option<PathBuf>,
}

/// The path of the bundled model in this program's repository.
const BUNDLED: &str = "examples/atlas";

pub(super) fn run(context: &Context, arguments: &Arguments) -> Outcome {
    let root = context.new_project_root();
    if let Some(stray) = &arguments.stray {
        return context.fail(nameless(stray));
    }
    match start(context, &root, arguments) {
        Ok(begun) => {
            match context.format {
                Format::Json => {
                    let answer = InitAnswer { wrote: &begun.wrote, left: &begun.left };
                    context.answer_json(Outcome::Ok, &[], &Sources::default(), answer);
                }
                _ => context.ui.answer(&human(&root, &begun)),
            }
            Outcome::Ok
        }
        Err(finding) => context.fail(finding),
    }
}

/// Returns the error for a folder that was given without an option. Its help names the option that the user probably
/// meant.
fn nameless(stray: &Path) -> Diagnostic {
    let shown = stray.display();
    let finding = Diagnostic::new(Code::ProjectMissing, format!("`init` takes no folder without an option: `{shown}`"));
    if stray.join("config.json").is_file() || HubName::is(stray) {
        return finding.help(format!("it looks like a model: `corrigenda init --model \"{shown}\"`"));
    }
    finding
        .help(format!("run `corrigenda -C \"{shown}\" init` to create a project in that folder"))
        .help("name the model to edit with `--model DIR`")
}

/// The files that `init` wrote or left unchanged, and notes for the user.
struct Begun {
    wrote: Vec<&'static str>,
    /// The files of the new project that already existed and were not changed.
    left: Vec<&'static str>,
    /// Notes for the user, for example a sentence that says how the layer was chosen.
    notes: Vec<String>,
}

/// Formats the output for a terminal: the written files, the notes and the next commands. Results of `write!` are
/// ignored, because writing to a `String` cannot fail.
fn human(root: &Path, begun: &Begun) -> String {
    let shown = |name: &str| escape_controls(&root.join(name).display().to_string());
    let mut text: String = begun.wrote.iter().map(|name| format!("wrote {}\n", shown(name))).collect();
    for name in &begun.left {
        let _ = write!(text, "left  {} unchanged", shown(name));
        let _ = match wanted(name) {
            Some(lines) => writeln!(text, "; it should contain:\n{}", indented(&lines)),
            None => writeln!(text),
        };
    }
    for note in &begun.notes {
        let _ = write!(text, "\n{}", escape_controls(note));
    }
    let flag = if root == Path::new(".") {
        String::new()
    } else {
        format!(" -C {}", escape_controls(&root.display().to_string()))
    };
    let _ = write!(
        text,
        "\nNext: `corrigenda plan{flag}` shows what the model says today, `corrigenda build{flag}` makes the patch."
    );
    text
}

fn indented(lines: &str) -> String {
    let rules = lines.lines().filter(|line| !line.starts_with('#'));
    rules.map(|line| format!("        {line}")).collect::<Vec<_>>().join("\n")
}

/// Writes the files of a new project, after all checks have passed.
fn start(context: &Context, root: &Path, arguments: &Arguments) -> Result<Begun, Diagnostic> {
    let is_own = |folder: &&Path| arguments.layer.is_some() || !is_bundled(root, folder);
    let named = arguments.model.as_deref().filter(is_own);
    let own_model = named.map(|folder| opened(folder, context)).transpose()?;
    let model = arguments.model.as_deref().map(folder_named).transpose()?.or_else(|| find_bundled(root));
    let others = beside();
    let names: Vec<&str> =
        [PROJECT_FILE, FACT_FILE, CORPUS_FILE].into_iter().chain(others.iter().map(|one| one.0)).collect();
    context.may_create_project(root, model.as_deref(), &names)?;
    let there = |name: &str| root.join(name).symlink_metadata().is_ok();
    if let Some(name) = names.iter().find(|name| there(name) && !may_stay(name)) {
        let message = format!("`{}` already exists: nothing was written", root.join(name).display());
        let finding = Diagnostic::new(Code::ProjectExists, message);
        return Err(finding.help("name another folder with `-C DIR`, or check this one with `corrigenda check`"));
    }
    // The next step can measure the best layer, which takes minutes, so all checks come before it.
    let (mut drafts, notes) = match named.zip(own_model.as_ref()) {
        Some((named, opened_model)) => own(root, named, opened_model, arguments.layer, context)?,
        None => (bundled(root)?, Vec::new()),
    };
    drafts.extend(others);
    let mut begun = Begun { wrote: Vec::new(), left: Vec::new(), notes };
    for (name, text) in drafts {
        if there(name) {
            begun.left.push(name);
            continue;
        }
        write(&root.join(name), &text)?;
        begun.wrote.push(name);
    }
    Ok(begun)
}

fn write(path: &Path, text: &str) -> Result<(), Diagnostic> {
    let failed = |error: &dyn std::fmt::Display| Diagnostic::new(Code::StoreFailed, error.to_string());
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)
            .map_err(|error| failed(&format!("creating `{}` failed: {error}", parent.display())))?;
    }
    atomic::write(path, text.as_bytes()).map_err(|error| failed(&error))
}

/// Returns the texts of `corrigenda.toml` and of the first fact, for a new project in the folder `root` that edits the
/// bundled model.
fn bundled(root: &Path) -> Result<Vec<Draft>, Diagnostic> {
    let Some(folder) = find_bundled(root) else {
        let message = format!("the bundled model ({BUNDLED}) is in no folder above this one or above the program");
        let finding = Diagnostic::new(Code::ModelUnusable, message);
        return Err(finding.help("name the model to edit: `corrigenda init --model DIR`"));
    };
    let path = toml_text(&relative(root, &folder));
    let file = |name: &str| toml_text(&relative(root, &folder.join(name)));
    let project = format!(
        "{SCHEMA}format = 1\n\n[model]\npath = {path}\n\n[rome]\nlayer = 0\ntemplates = {}\nstop-loss = 0.02\n\
         weight-decay = 0.4\nconverged-nll = 0.05\n\n[statistics]\ncorpus = {}\n{GATE}",
        file("templates.txt"),
        file("corpus.txt")
    );
    Ok(vec![(PROJECT_FILE, project), (FACT_FILE, FACT.to_owned())])
}

/// The properties of the model of `--model` that a new project depends on. If this is the bundled model, they are read
/// only if `--layer` is set.
struct Opened {
    folder: PathBuf,
    spec: Spec,
    /// Whether the model completes the example fact with "Paris".
    knows: bool,
}

/// Opens the model of `--model` and determines whether it knows the example fact.
fn opened(named: &Path, context: &Context) -> Result<Opened, Diagnostic> {
    let folder = folder_named(named)?;
    let looked = Model::open(&folder, context.isa).and_then(|model| {
        let tokens = Tokens::open(&folder, model.spec().vocabulary)?;
        let prompt = "The Eiffel Tower is located in the city of".into();
        let question = Question::new(&tokens, prompt, "Paris", model.spec().max_positions);
        let knows = question.is_ok_and(|question| scores(&model, &[question])[0].holds);
        Ok((model.spec().clone(), knows))
    });
    let (spec, knows) = looked.map_err(|error: ModelError| {
        let finding = Diagnostic::new(Code::ModelUnusable, error.to_string());
        match error.hint().filter(|_| !matches!(error, ModelError::NoFolder(_))) {
            Some(hint) => finding.help(hint),
            None => finding,
        }
    })?;
    Ok(Opened { folder, spec, knows })
}

/// Returns `corrigenda.toml`, the first fact and the corpus of a new project that edits the model of `--model`. Also
/// returns notes for the user, such as how the layer was chosen.
fn own(
    root: &Path,
    named: &Path,
    Opened { folder, spec, knows }: &Opened,
    layer: Option<u16>,
    context: &Context,
) -> Result<(Vec<Draft>, Vec<String>), Diagnostic> {
    // A name on the Hub is written with the commit of the cached snapshot, so that the project keeps this revision of
    // the model.
    let pinned = HubName::is(named).then(|| HubName::of_snapshot(folder)).flatten();
    let path = toml_text(&pinned.map_or_else(|| relative(root, folder), |name| name.to_string()));
    let ChosenLayer { lines, note } = match layer {
        Some(layer) => ChosenLayer::named(layer.into(), spec)?,
        None => ChosenLayer::choose(context, folder, spec),
    };
    let project = format!(
        "{SCHEMA}format = 1\n\n[model]\npath = {path}\n\n[rome]\n{lines}\n{RULES}\n[statistics]\n\
         # Plain text of the kind that the model was trained on, one document per line. `init` wrote about two\n\
         # thousand plain sentences, which are enough to begin with: replace them with some thousand lines of running\n\
         # text before you judge the damage of an edit.\ncorpus = {}\n{GATE}",
        toml_text(CORPUS_FILE)
    );
    let unknown = "# This model does not say \"Paris\" here: use a fact that it knows.\n";
    let fact = if *knows { FACT.to_owned() } else { FACT.replace("was = \"Paris\"\n", unknown) };
    Ok((vec![(PROJECT_FILE, project), (FACT_FILE, fact), (CORPUS_FILE, corpus())], vec![note]))
}

/// Returns the folder of the bundled model. It is searched in the project's folder, the current folder, the program's
/// folder, and all folders above these.
fn find_bundled(root: &Path) -> Option<PathBuf> {
    let starts = [std::path::absolute(root).ok(), std::env::current_dir().ok(), std::env::current_exe().ok()];
    let above = starts.iter().flatten().flat_map(|start| start.ancestors());
    above.map(|folder| folder.join(BUNDLED)).find(|folder| folder.join("model.safetensors").is_file())
}

/// Returns whether `folder` is the folder of the bundled model, even if it is reached through symbolic links.
fn is_bundled(root: &Path, folder: &Path) -> bool {
    let whole = |path: &Path| std::fs::canonicalize(path).ok();
    whole(folder).is_some_and(|named| find_bundled(root).and_then(|found| whole(&found)) == Some(named))
}

/// Returns `path` relative to `root`, so that a project can be moved together with its model. If the two paths have
/// only the root of the file system in common, the result is absolute.
fn relative(root: &Path, path: &Path) -> String {
    let whole = |given: &Path| std::fs::canonicalize(given).or_else(|_| std::path::absolute(given));
    let (Ok(root), Ok(path)) = (whole(root), whole(path)) else { return path.display().to_string() };
    let same = root.components().zip(path.components()).take_while(|(a, b)| a == b).count();
    if same <= 1 {
        return path.display().to_string();
    }
    let up = root.components().skip(same).map(|_| "..".to_owned());
    let down = path.components().skip(same).map(|part| part.as_os_str().to_string_lossy().into_owned());
    let parts: Vec<String> = up.chain(down).collect();
    if parts.is_empty() { ".".to_owned() } else { parts.join("/") }
}

/// Returns `text` as a quoted TOML string.
pub(super) fn toml_text(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_relative_to_the_project() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let root = folder.path();
        std::fs::create_dir_all(root.join("a/project")).expect("made");
        std::fs::create_dir_all(root.join("b/model")).expect("made");
        assert_eq!(relative(&root.join("a/project"), &root.join("b/model")), "../../b/model");
        assert_eq!(relative(root, &root.join("b/model")), "b/model");
        assert_eq!(relative(root, root), ".");
        assert_eq!(toml_text("a \"b\\"), "'a \"b\\'");
    }
}
