//! `init`: a folder that builds, with one fact in it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::drafts::{CORPUS_FILE, Draft, FACT, FACT_FILE, GATE, SCHEMA, beside, corpus, may_stay, wanted};
use super::{Context, Format, Outcome};
use crate::behaviour::{Question, scores};
use crate::build::base::folder_named;
use crate::compile::known;
use crate::model::hub::HubName;
use crate::model::{Model, ModelError, Spec, Tokens};
use crate::project::{Code, Diagnostic, PROJECT_FILE, Sources, visible};
use crate::store::atomic;

/// Start a project in the folder of `-C`: a project file, a first fact, and what goes with them
///
/// Files that are there already are never written over.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The model to edit: its folder, or its name on the Hub where it is in the cache [default: the bundled model,
    /// where it is found]
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
}

/// Where the bundled model is, below a folder that holds this program's sources.
const BUNDLED: &str = "examples/atlas";

pub(super) fn run(context: &Context, arguments: &Arguments) -> Outcome {
    let root = context.beginning();
    match start(context, &root, arguments) {
        Ok(begun) => {
            match context.format {
                Format::Json => {
                    let fields = serde_json::json!({ "wrote": begun.wrote, "left": begun.left });
                    context.answer_json(Outcome::Ok, &[], &Sources::default(), fields);
                }
                _ => context.ui.answer(&human(&root, &begun)),
            }
            Outcome::Ok
        }
        Err(finding) => context.fail(finding),
    }
}

/// What was done.
struct Begun {
    wrote: Vec<&'static str>,
    /// Files that were there already, and stay as they were.
    left: Vec<&'static str>,
    /// Sentences about what was chosen.
    notes: Vec<String>,
}

/// Writing to a `String` cannot fail.
fn human(root: &Path, begun: &Begun) -> String {
    let shown = |name: &str| visible(&root.join(name).display().to_string());
    let mut text: String = begun.wrote.iter().map(|name| format!("wrote {}\n", shown(name))).collect();
    for name in &begun.left {
        let _ = write!(text, "left  {} as it was", shown(name));
        let _ = match wanted(name) {
            Some(lines) => writeln!(text, "; what belongs into it:\n{}", indented(&lines)),
            None => writeln!(text),
        };
    }
    for note in &begun.notes {
        let _ = write!(text, "\n{}", visible(note));
    }
    let flag =
        if root == Path::new(".") { String::new() } else { format!(" -C {}", visible(&root.display().to_string())) };
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

/// Writes the project, after everything that could be wrong was looked at.
fn start(context: &Context, root: &Path, arguments: &Arguments) -> Result<Begun, Diagnostic> {
    let (mut drafts, notes) = match &arguments.model {
        Some(folder) if !is_bundled(root, folder) => own(root, folder, context)?,
        _ => (bundled(root)?, Vec::new()),
    };
    drafts.extend(beside());
    let names: Vec<&str> = drafts.iter().map(|(name, _)| *name).collect();
    let model = arguments.model.as_deref().map(folder_named).transpose()?.or_else(|| find_bundled(root));
    context.may_begin(root, model.as_deref(), &names)?;
    let there = |name: &str| root.join(name).symlink_metadata().is_ok();
    if let Some((name, _)) = drafts.iter().find(|(name, _)| there(name) && !may_stay(name)) {
        let message = format!("`{}` is there already: nothing was written", root.join(name).display());
        let finding = Diagnostic::new(Code::ProjectExists, message);
        return Err(finding.help("`-C DIR` names another folder; `corrigenda check` looks at this one"));
    }
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

/// A project on the bundled model.
fn bundled(root: &Path) -> Result<Vec<Draft>, Diagnostic> {
    let Some(folder) = find_bundled(root) else {
        let message = format!("the bundled model ({BUNDLED}) is neither above this folder nor above this program");
        let finding = Diagnostic::new(Code::ModelUnusable, message);
        return Err(finding.help("name the model to edit: `corrigenda init --model DIR`"));
    };
    let path = quoted(&relative(root, &folder));
    let file = |name: &str| quoted(&relative(root, &folder.join(name)));
    let project = format!(
        "{SCHEMA}format = 1\n\n[model]\npath = {path}\n\n[rome]\nlayer = 0\ntemplates = {}\nstop-loss = 0.02\n\
         weight-decay = 0.4\nconverged-nll = 0.05\n\n[statistics]\ncorpus = {}\n{GATE}",
        file("templates.txt"),
        file("corpus.txt")
    );
    Ok(vec![(PROJECT_FILE, project), (FACT_FILE, FACT.to_owned())])
}

/// A project on somebody's own model, which must open, and what is to be said of it.
fn own(root: &Path, named: &Path, context: &Context) -> Result<(Vec<Draft>, Vec<String>), Diagnostic> {
    let folder = &folder_named(named)?;
    let opened = Model::open(folder, context.isa).and_then(|model| {
        let tokens = Tokens::open(folder, model.spec().vocabulary)?;
        let question = Question::new(
            &tokens,
            "The Eiffel Tower is located in the city of".into(),
            "Paris",
            model.spec().positions,
        );
        let knows = question.is_ok_and(|question| scores(&model, &[question])[0].holds);
        Ok((model.spec().clone(), knows))
    });
    let (spec, knows) = opened.map_err(|error: ModelError| {
        let finding = Diagnostic::new(Code::ModelUnusable, error.to_string());
        match error.hint().filter(|_| !matches!(error, ModelError::NoFolder(_))) {
            Some(hint) => finding.help(hint),
            None => finding,
        }
    })?;
    // A name on the Hub is pinned to the commit that was found.
    let pinned = HubName::is(named).then(|| HubName::of_snapshot(folder)).flatten();
    let path = quoted(&pinned.map_or_else(|| relative(root, folder), |name| name.to_string()));
    let Layer { lines, note } = layer(&spec);
    let project = format!(
        "{SCHEMA}format = 1\n\n[model]\npath = {path}\n\n[rome]\n{lines}\n\
         # Half of a key is that of the bare prompt: it is what will be asked, and a subject that begins a text has a key\n\
         # of its own. Published is one part in twenty-one.\nbare-weight = 0.5\n\
         # A search for a value ends when the target leads every other answer by this much, in nats. Published is none:\n\
         # values then go further than the answer needs, at twice the time.\nmargin = 2\n\n[statistics]\n\
         # Plain text of the kind that the model was trained on, one document a line. What `init` wrote there is some\n\
         # two thousand plain sentences, enough to begin with: put some thousand lines of running text in their place\n\
         # before you judge what an edit costs.\ncorpus = {}\n{GATE}",
        quoted(CORPUS_FILE)
    );
    let unknown = "# This model does not say \"Paris\" here: put a fact in that it knows.\n";
    let fact = if knows { FACT.to_owned() } else { FACT.replace("was = \"Paris\"\n", unknown) };
    Ok((vec![(PROJECT_FILE, project), (FACT_FILE, fact), (CORPUS_FILE, corpus())], vec![note]))
}

/// Which layer to edit, as the project file has it, and how it was chosen, as a person is told.
struct Layer {
    lines: String,
    note: String,
}

/// Models of which it was measured which layer takes edits best: family, layers, width, and the layer.
const MEASURED: [(&str, usize, usize, usize); 1] = [("llama", 30, 576, 5)];

/// The layer of a known model; a third of the way up otherwise, which is where the known ones have it.
fn layer(spec: &Spec) -> Layer {
    let shape = (spec.family.model_type, spec.layers, spec.width);
    let measured = MEASURED.iter().find(|(family, layers, width, _)| (*family, *layers, *width) == shape);
    match (known::published(spec), measured) {
        (Some((layer, _)), _) => Layer {
            lines: format!("layer = {layer}  # as published for this model"),
            note: format!("layer {layer} is edited: it is the one that was published for this model"),
        },
        (None, Some((.., layer))) => Layer {
            lines: format!(
                "layer = {layer}  # measured for a model of this shape; `corrigenda trace --suggest-layer` measures yours"
            ),
            note: format!("layer {layer} is edited: of models of this shape it was measured that it takes edits best"),
        },
        (None, None) => {
            let layer = spec.layers / 3;
            Layer {
                lines: format!(
                    "# None is published for this model: a third of the way up, where the published layers are. Small models take\n\
                     # edits better further down: `corrigenda trace --suggest-layer` measures it.\n\
                     layer = {layer}"
                ),
                note: format!(
                    "layer {layer} of {} is edited: none is published for this model, and a third of the way up is where the \
                     published ones are; `corrigenda trace --suggest-layer` measures which takes edits best",
                    spec.layers
                ),
            }
        }
    }
}

/// The bundled model: above the project's folder, above the current one, or above the program.
fn find_bundled(root: &Path) -> Option<PathBuf> {
    let starts = [std::path::absolute(root).ok(), std::env::current_dir().ok(), std::env::current_exe().ok()];
    let above = starts.iter().flatten().flat_map(|start| start.ancestors());
    above.map(|folder| folder.join(BUNDLED)).find(|folder| folder.join("model.safetensors").is_file())
}

/// Whether somebody names the bundled model.
fn is_bundled(root: &Path, folder: &Path) -> bool {
    let whole = |path: &Path| std::fs::canonicalize(path).ok();
    whole(folder).is_some_and(|named| find_bundled(root).and_then(|found| whole(&found)) == Some(named))
}

/// `path` as it is reached from `root`: relative, so that a project can be moved together with its model.
fn relative(root: &Path, path: &Path) -> String {
    let whole = |path: &Path| std::fs::canonicalize(path).or_else(|_| std::path::absolute(path));
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

/// A TOML string.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_told_from_the_project() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let root = folder.path();
        std::fs::create_dir_all(root.join("a/project")).expect("made");
        std::fs::create_dir_all(root.join("b/model")).expect("made");
        assert_eq!(relative(&root.join("a/project"), &root.join("b/model")), "../../b/model");
        assert_eq!(relative(root, &root.join("b/model")), "b/model");
        assert_eq!(relative(root, root), ".");
        assert_eq!(quoted("a \"b\\"), "'a \"b\\'");
    }
}
