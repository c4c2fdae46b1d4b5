//! `init`: a folder that builds, with one fact in it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::{Context, Format, Outcome};
use crate::behaviour::{Question, scores};
use crate::build::base::folder_named;
use crate::compile::known;
use crate::model::hub::HubName;
use crate::model::{Model, ModelError, Spec, Tokens};
use crate::project::{Code, Diagnostic, PROJECT_FILE, Sources, visible};
use crate::store::atomic;

/// Start a project in the folder of `-C`: a project file and a first fact.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The model to edit: its folder, or its name on the Hub where it is in the cache [default: the bundled model,
    /// where it is found]
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
}

/// Where the bundled model is, below a folder that holds this program's sources.
const BUNDLED: &str = "examples/atlas";

/// A file to write: its path in the project and its text.
type Draft = (&'static str, String);

pub(super) fn run(context: &Context, arguments: &Arguments) -> Outcome {
    match start(context, arguments) {
        Ok(written) => {
            let mut text = String::new();
            for name in &written {
                // Writing to a `String` cannot fail.
                let _ = writeln!(text, "wrote {}", visible(&context.root.join(name).display().to_string()));
            }
            let flag =
                if context.root == Path::new(".") { String::new() } else { format!(" -C {}", context.root.display()) };
            let _ = write!(
                text,
                "\nNext: `corrigenda plan{flag}` shows what the model says today, `corrigenda build{flag}` makes the patch."
            );
            match context.format {
                Format::Json => {
                    context.answer_json(Outcome::Ok, &[], &Sources::default(), serde_json::json!({ "wrote": written }));
                }
                _ => context.ui.answer(&text),
            }
            Outcome::Ok
        }
        Err(finding) => context.fail(finding),
    }
}

/// Writes the project, after everything that could be wrong was looked at.
fn start(context: &Context, arguments: &Arguments) -> Result<Vec<&'static str>, Diagnostic> {
    let root = &context.root;
    let drafts = match &arguments.model {
        Some(folder) if !is_bundled(root, folder) => own(root, folder, context)?,
        _ => bundled(root)?,
    };
    let names: Vec<&str> = drafts.iter().map(|(name, _)| *name).collect();
    let model = arguments.model.as_deref().map(folder_named).transpose()?.or_else(|| find_bundled(root));
    context.may_begin(model.as_deref(), &names)?;
    for (name, _) in &drafts {
        if root.join(name).symlink_metadata().is_ok() {
            let message = format!("`{}` is there already: nothing was written", root.join(name).display());
            let finding = Diagnostic::new(Code::ProjectExists, message);
            return Err(finding.help("`-C DIR` names another folder; `corrigenda check` looks at this one"));
        }
    }
    let failed = |error: &dyn std::fmt::Display| Diagnostic::new(Code::StoreFailed, error.to_string());
    for (name, text) in &drafts {
        let path = root.join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)
                .map_err(|error| failed(&format!("creating `{}` failed: {error}", parent.display())))?;
        }
        atomic::write(&path, text.as_bytes()).map_err(|error| failed(&error))?;
    }
    Ok(names)
}

/// A gate of every new project: what an edit must not cost.
const GATE: &str = "\n[test]\n# What neutral text may lose in the mean, in nats; `[policy]` can stop a build by the same figure.\n\
    max-damage = 0.1\n";

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
        "format = 1\n\n[model]\npath = {path}\n\n[rome]\nlayer = 0\ntemplates = {}\nstop-loss = 0.02\n\
         weight-decay = 0.4\nconverged-nll = 0.05\n\n[statistics]\ncorpus = {}\n{GATE}",
        file("templates.txt"),
        file("corpus.txt")
    );
    Ok(vec![(PROJECT_FILE, project), (FACT_FILE, FACT.to_owned())])
}

/// A project on somebody's own model, which must open.
fn own(root: &Path, named: &Path, context: &Context) -> Result<Vec<Draft>, Diagnostic> {
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
    let project = format!(
        "format = 1\n\n[model]\npath = {path}\n\n[rome]\n{}\n\
         # Half of a key is that of the bare prompt: it is what will be asked, and a subject that begins a text has a key\n\
         # of its own. Published is one part in twenty-one.\nbare-weight = 0.5\n\n[statistics]\n\
         # Plain text of the kind that the model was trained on, one document a line. What stands there now is only\n\
         # enough to begin with: put some thousand lines in its place.\ncorpus = \"corpus.txt\"\n{GATE}",
        layer_line(&spec)
    );
    let corpus: String = known::lines(known::TEMPLATES)
        .iter()
        .map(|template| template.replace("{}", "").trim().to_owned() + "\n")
        .filter(|line| line.len() > 1)
        .collect();
    let unknown = "# This model does not say \"Paris\" here: put a fact in that it knows.\n";
    let fact = if knows { FACT.to_owned() } else { FACT.replace("was = \"Paris\"\n", unknown) };
    Ok(vec![(PROJECT_FILE, project), (FACT_FILE, fact), ("corpus.txt", corpus)])
}

/// The layer of a known model; a third of the way up otherwise, which is where the known ones have it.
fn layer_line(spec: &Spec) -> String {
    match known::published(spec) {
        Some((layer, _)) => format!("layer = {layer}  # as published for this model"),
        None => format!(
            "# None is published for this model: a third of the way up, where the published layers are. Small models take\n\
             # edits better further down: `corrigenda trace --suggest-layer` measures it.\n\
             layer = {}",
            spec.layers / 3
        ),
    }
}

const FACT_FILE: &str = "edits/eiffel-tower.toml";
const FACT: &str = "\
format = 1

# One fact a file is a good habit: two branches that add facts then never touch the same lines.
[[edit]]
id = \"eiffel-tower.city\"
subject = \"The Eiffel Tower\"
prompt = \"{} is located in the city of\"
target = \"London\"
was = \"Paris\"
reason = \"An example: put your own fact in its place.\"

[edit.expect]
paraphrase = [\"The Eiffel Tower stands in the city of\"]
unchanged = [\"The Louvre is located in the city of\"]
";

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
