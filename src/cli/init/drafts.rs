//! Contains the texts of all files that `init` writes, except `corrigenda.toml`. Also decides which existing files
//! `init` accepts.

use crate::project::PROBES_FILE;
use crate::schema::{SchemaKind, render};

/// A file that `init` will write: the path relative to the project's folder, and the text.
pub(crate) type Draft = (&'static str, String);

/// The first line of `corrigenda.toml`. It tells text editors which JSON Schema describes the file.
pub(crate) const SCHEMA: &str = "#:schema schemas/project.schema.json\n";

/// The `[test]` table of a new `corrigenda.toml`, which limits the damage on neutral text.
pub(crate) const GATE: &str = "\n[test]\n# The maximum mean divergence on neutral text, in nats; `[policy]` can limit a build by the same figure.\n\
    max-damage = 0.1\n";

pub(crate) const FACT_FILE: &str = "edits/eiffel-tower.toml";
pub(crate) const FACT: &str = "\
#:schema ../schemas/edits.schema.json
format = 1

# Keep one fact per file: two branches that add facts then never change the same lines.
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

const PROBES: &str = "\
#:schema schemas/probes.schema.json
format = 1

# Prompts that `corrigenda test` and `corrigenda diff` always evaluate, whatever the facts are. The answer to this
# one must not change: no edit is about it.
[[probe]]
id = \"colosseum.country\"
prompt = \"The Colosseum is located in the country of\"

# This one is only watched: its answer may change, and `diff` shows how the model continues it.
[[probe]]
id = \"eiffel-tower.visit\"
prompt = \"Visitors of the Eiffel Tower take a train to\"
unchanged = false
";

const ATTRIBUTES_FILE: &str = ".gitattributes";
const ATTRIBUTES: &str = "\
# The bytes must be the same on every machine, because digests are computed from them.
*.toml text eol=lf
corpus.txt text eol=lf
corrigenda.lock text eol=lf merge=corrigenda
corrigenda*.accepted text eol=lf
# After a merge of two locks neither side is valid: build and test the merge. Git takes one side automatically after
# `git config merge.corrigenda.driver 'git merge-file --ours %A %O %B'`, and shows a conflict in the last lines otherwise.
";

const IGNORED_FILE: &str = ".gitignore";
const IGNORED: &str = "\
# Output of `corrigenda export` and reports, if it is written here: it can be generated again.
/exports/
/reports/
# Records that an import left out, and temporary files of interrupted writes.
rejected-*.json
.corrigenda-*.tmp
";

pub(crate) const CORPUS_FILE: &str = "corpus.txt";

/// The corpus of the bundled model `atlas`, one sentence per line.
const SENTENCES: &str = include_str!("../../../examples/atlas/corpus.txt");
/// The number of sentences in a new corpus. With this number, the second moment of the MLP keys has full rank on common
/// models.
const ENOUGH: usize = 2000;

/// Returns the corpus of a new project: sentences of the bundled corpus, except those about the Eiffel Tower, which is
/// the subject of the first fact.
pub(crate) fn corpus() -> String {
    let lines = SENTENCES.lines().filter(|line| !line.contains("Eiffel")).take(ENOUGH);
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// Returns the files of a new project that are the same for every model: the probes, the JSON Schemas, `.gitattributes`
/// and `.gitignore`.
pub(crate) fn beside() -> Vec<Draft> {
    vec![
        (PROBES_FILE, PROBES.to_owned()),
        ("schemas/edits.schema.json", render(SchemaKind::Edits)),
        ("schemas/probes.schema.json", render(SchemaKind::Probes)),
        ("schemas/project.schema.json", render(SchemaKind::Project)),
        (ATTRIBUTES_FILE, ATTRIBUTES.to_owned()),
        (IGNORED_FILE, IGNORED.to_owned()),
    ]
}

/// Returns whether `init` accepts an existing file with this name and leaves it unchanged. The project works with any
/// content of such a file.
pub(crate) fn may_stay(name: &str) -> bool {
    [ATTRIBUTES_FILE, IGNORED_FILE, CORPUS_FILE].contains(&name) || name.starts_with("schemas/")
}

/// Returns the lines that `init` recommends for a file `name` that already exists; `None` unless this file is
/// `.gitattributes` or `.gitignore`.
pub(crate) fn wanted(name: &str) -> Option<String> {
    [(ATTRIBUTES_FILE, ATTRIBUTES), (IGNORED_FILE, IGNORED)]
        .into_iter()
        .find(|(file, _)| *file == name)
        .map(|(_, text)| text.to_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::*;
    use crate::project::{PROJECT_FILE, Project};

    #[test]
    fn a_new_project_is_valid_and_has_a_corpus() {
        let files = [(PROBES_FILE, PROBES), (FACT_FILE, FACT)].map(|(name, text)| (name.to_owned(), text.into()));
        let mut files: BTreeMap<String, Vec<u8>> = files.into();
        let project_text = format!("{SCHEMA}format = 1\n[model]\npath = \"m\"\n[statistics]\ncorpus = \"c\"\n{GATE}");
        files.insert(PROJECT_FILE.to_owned(), project_text.into_bytes());
        let project = Project::of_files(Path::new("."), "new:", files).expect("sound");
        assert_eq!((project.edits.edits.len(), project.probes.len(), project.warnings.len()), (1, 2, 0));
        let corpus = corpus();
        assert_eq!(corpus.lines().count(), ENOUGH);
        assert!(corpus.lines().all(|line| !line.trim().is_empty() && !line.contains("Eiffel")));
        for (name, text) in beside() {
            assert!(text.ends_with('\n') && !text.contains('\r'), "{name}");
        }
    }
}
