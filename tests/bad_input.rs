//! Tests invalid input: one message with the file and the location, the right exit code, and an unchanged lock and
//! store.

use std::path::PathBuf;

use crate::support::project::{EDITS, Project};
use crate::support::tiny;

/// A file with one record in the EasyEdit format.
const RECORD: &str = r#"[{"case_id":1,"prompt":"Ada Bellini lives in","subject":"Ada Bellini","target_new":"Paris",
    "ground_truth":"Rome","rephrase_prompt":"I live in","locality_prompt":"I live","locality_ground_truth":"Rome"}]"#;

/// Returns the paths and bytes of the files that a refused build must not change.
fn kept(project: &Project) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Project::files(&project.cache());
    files.extend(Project::files(&project.path("")));
    files
}

/// Damages a built project and expects every verb that reads the damaged input to refuse it: exit code 2, one error
/// with all of `parts`, nothing written, no panic.
fn refused(verbs: &[&str], parts: &[&str], damage: impl FnOnce(&Project)) {
    let project = Project::new();
    assert_eq!(project.run(&["build"]).code(), Some(0));
    damage(&project);
    let before = kept(&project);
    for verb in verbs {
        let run = project.run(&[verb]);
        assert_eq!(run.code(), Some(2), "{verb}: {}", run.whole());
        let said = run.err();
        for part in parts {
            assert!(said.contains(part), "{verb} does not say {part}:\n{said}");
        }
        assert_eq!(said.matches("error[").count(), 1, "{verb}:\n{said}");
        assert!(!said.contains("panicked") && run.out().lines().count() <= 1, "{verb}: {}", run.whole());
        assert!(kept(&project) == before, "{verb} changed a file");
        let json = project.run(&[verb, "--format", "json"]).json();
        assert_eq!((&json["outcome"], json["findings"].as_array().map(Vec::len)), (&"error".into(), Some(1)), "{verb}");
    }
}

const ALL: &[&str] = &["plan", "build", "test"];

fn weights(project: &Project) -> PathBuf {
    project.path("model/model.safetensors")
}

#[test]
fn malformed_toml() {
    refused(&["check", "plan", "build", "test"], &["edits/people.toml:5", "[syntax]"], |project| {
        project.replace("edits/people.toml", "subject = \"Ada Bellini\"", "subject = \"Ada Bellini");
    });
    refused(ALL, &["corrigenda.toml:3", "[syntax]"], |project| {
        project.replace("corrigenda.toml", "[model]", "[model");
    });
}

#[test]
fn wrong_types() {
    refused(&["check", "plan", "build"], &["edits/people.toml:7", "[wrong-type]", "target"], |project| {
        project.replace("edits/people.toml", "target = \"Paris\"", "target = 3");
    });
    refused(ALL, &["corrigenda.toml:7", "[wrong-type]", "layer"], |project| {
        project.replace("corrigenda.toml", "layer = 1", "layer = \"one\"");
    });
}

#[test]
fn numbers_that_the_model_does_not_have() {
    refused(ALL, &["corrigenda.toml:7", "[layer-unknown]", "0 to 2"], |project| {
        project.replace("corrigenda.toml", "layer = 1", "layer = 3");
    });
    refused(ALL, &["corrigenda.toml:4", "[layer-missing]", "gpt2-xl"], |project| {
        project.replace("corrigenda.toml", "layer = 1\n", "");
    });
}

#[test]
fn a_missing_model() {
    refused(ALL, &["corrigenda.toml:4", "[model-unusable]", "no model folder at"], |project| {
        std::fs::remove_dir_all(project.path("model")).expect("the folder is removed");
    });
    refused(ALL, &["[model-unusable]", "there is no tokenizer.json", "AutoTokenizer.from_pretrained"], |project| {
        std::fs::remove_file(project.path("model/tokenizer.json")).expect("the file is removed");
    });
}

#[test]
fn a_truncated_checkpoint() {
    for keep in [0, 7, 200, 100_000] {
        refused(ALL, &["[model-unusable]", "model.safetensors"], |project| {
            let bytes = std::fs::read(weights(project)).expect("a checkpoint");
            std::fs::write(weights(project), &bytes[..keep]).expect("the file is written");
        });
    }
}

#[test]
fn a_header_that_lies() {
    type Lie = fn(&str) -> String;
    let lies: [(Lie, &str); 4] = [
        (|header| header.replacen("[32,128]", "[32,129]", 1), "h.0.mlp.c_fc.weight"),
        (|header| header.replacen("\"F32\"", "\"F64\"", 1), "h.0.attn.c_attn.bias"),
        (|header| header.replacen("\"F32\"", "\"X32\"", 1), "X32"),
        (|header| header.replace("wte.weight", "wtx.weight"), "wte.weight"),
    ];
    for (lie, part) in lies {
        refused(ALL, &["[model-unusable]", "model.safetensors", part], |project| {
            let bytes = std::fs::read(weights(project)).expect("a checkpoint");
            let length = u64::from_le_bytes(bytes[..8].try_into().expect("eight")) as usize;
            let header = std::str::from_utf8(&bytes[8..8 + length]).expect("JSON");
            let lie = lie(header);
            let whole = [&(lie.len() as u64).to_le_bytes(), lie.as_bytes(), &bytes[8 + length..]].concat();
            std::fs::write(weights(project), whole).expect("the file is written");
        });
    }
}

#[test]
fn a_pickle_as_a_model() {
    refused(ALL, &["[model-unusable]", "pytorch_model.bin", "pickle"], |project| {
        std::fs::rename(weights(project), project.path("model/pytorch_model.bin")).expect("renamed");
    });
    refused(ALL, &["[model-unusable]", "model.safetensors", "pickle"], |project| {
        std::fs::write(weights(project), b"\x80\x02}q\x00X\x06\x00\x00\x00weightq\x01").expect("written");
    });
}

#[test]
fn nan_in_the_edited_tensor() {
    let damage = |project: &Project| {
        let bytes = tiny::editable(|name, elements| {
            if name == "transformer.h.1.mlp.c_proj.weight" {
                elements[77] = f32::NAN;
            }
        });
        tiny::write_model_with(&project.path("model"), &bytes);
        // With a lock, the changed base would be reported first.
        std::fs::remove_file(project.path("corrigenda.lock")).expect("the file is removed");
    };
    refused(&["build"], &["[model-unusable]", "h.1.mlp.c_proj.weight", "NaN", "element 77", "byte"], damage);
}

#[test]
fn nan_elsewhere_in_the_model() {
    let project = Project::new();
    let bytes = tiny::editable(|name, elements| {
        if name == "transformer.h.0.mlp.c_fc.bias" {
            elements[0] = f32::INFINITY;
        }
    });
    tiny::write_model_with(&project.path("model"), &bytes);
    let run = project.run(&["build"]);
    assert_eq!(run.code(), Some(2), "{}", run.whole());
    assert!(run.err().contains("not finite") && !project.path("corrigenda.lock").exists(), "{}", run.err());
}

/// All weights are finite, but the model's output is not finite.
#[test]
fn weights_that_overflow() {
    let project = Project::new();
    project.write("records.json", RECORD);
    let bytes = tiny::editable(|name, elements| {
        if name == "transformer.ln_f.weight" {
            elements.fill(f32::MAX);
        }
    });
    tiny::write_model_with(&project.path("model"), &bytes);
    let bench = ["bench", "easyedit", "records.json", "--editors", "ft"];
    let verbs: [&[&str]; 9] = [
        &["plan"],
        &["plan", "--base", "model", "--exit-code"],
        &["build"],
        &["diff", "base", "base"],
        &["trace", "--prompt", "The people live in Ada Bellini", "--subject", "Ada Bellini"],
        &["trace", "--suggest-layer"],
        &bench,
        &[&bench[..], &["--batch", "1", "--batch-only"]].concat(),
        &[&bench[..], &["--known"]].concat(),
    ];
    for verb in verbs {
        let run = project.run(verb);
        assert!(matches!(run.code(), Some(1 | 2)), "{verb:?}: {}", run.whole());
        // A build reports the overflow during the search for a value.
        let told = if verb[0] == "build" { "not a finite number" } else { "weights overflow" };
        assert!(run.whole().contains(told), "{verb:?}: {}", run.whole());
        assert!(!run.whole().contains("NaN %"), "{verb:?}: {}", run.whole());
    }
    assert!(!project.path("corrigenda.lock").exists());
}

#[test]
fn a_store_that_cannot_be_written() {
    let project = Project::new();
    project.run(&["build"]);
    let before = kept(&project);
    std::fs::write(project.path("../file"), "").expect("a file");
    let run = project.run(&["build", "--cache-dir", "../file/below"]);
    assert_eq!(run.code(), Some(2), "{}", run.whole());
    assert!(run.err().contains("[store-failed]") && run.err().contains("file/below"), "{}", run.err());
    assert!(kept(&project) == before);
}

#[test]
fn an_unfinished_merge_in_the_lock() {
    refused(ALL, &["corrigenda.lock:", "[lock-conflict]", "run `corrigenda build`"], |project| {
        project.replace(
            "corrigenda.lock",
            "\n[patch]\n",
            "\n<<<<<<< ours\n[patch]\n=======\n[patch]\n>>>>>>> theirs\n",
        );
    });
    refused(ALL, &["corrigenda.lock:", "[lock-damaged]"], |project| {
        project.replace("corrigenda.lock", "position = 10", "position = ten");
    });
}

#[test]
fn edits_that_the_model_cannot_read() {
    refused(&["plan", "build", "test"], &["edits/people.toml:6", "[prompt-too-long]", "context is 64"], |project| {
        project.replace("edits/people.toml", "I live in {}", &format!("{} {{}}", "word ".repeat(60).trim_end()));
    });
    refused(&["plan", "build", "test"], &["[prompt-too-long]", "edits/people.toml:6"], |project| {
        let text = EDITS[0].1.replace("target = \"Paris\"", &format!("target = \"{}\"", "word ".repeat(90).trim_end()));
        project.write("edits/people.toml", &text);
    });
}

#[test]
fn a_corpus_that_says_nothing() {
    let verbs = &["build"];
    for (text, part) in [("", "every line is blank"), ("\n \n", "every line is blank")] {
        let project = Project::new();
        project.write("corpus.txt", text);
        let run = project.run(verbs);
        assert_eq!(run.code(), Some(2), "{}", run.whole());
        assert!(run.err().contains(part) && run.err().contains("corrigenda.toml:"), "{}", run.err());
        assert!(!project.path("corrigenda.lock").exists());
    }
    refused(&["plan", "build"], &["[corpus-unusable]", "corrigenda.toml:15"], |project| {
        std::fs::remove_file(project.path("corpus.txt")).expect("the file is removed");
    });
    refused(&["plan", "build"], &["[corpus-unusable]", "[statistics]"], |project| {
        project.replace("corrigenda.toml", "[statistics]\ncorpus = \"corpus.txt\"\n", "");
    });
}

#[test]
fn templates_that_cannot_be_used() {
    for (text, part) in [
        ("The {}\n", "templates.txt:1"),
        ("{}\nno place\n", "templates.txt:2"),
        ("{}\n{} {}\n", "templates.txt:2"),
        ("{}\nHe said {} then\n", "templates.txt:2"),
    ] {
        refused(&["plan", "build", "test"], &["[templates-unusable]", part], |project| {
            project.write("templates.txt", text)
        });
    }
}

#[test]
fn an_edit_that_does_not_converge() {
    let project = Project::new();
    project.replace("edits/people.toml", "I live in {}", "{} was born in the city of");
    let run = project.run(&["build"]);
    assert_eq!(run.code(), Some(2));
    insta::assert_snapshot!("diverged", run.whole());
    assert!(!project.path("corrigenda.lock").exists());
    // A refusal is stored: `build` and `plan` report it at once and compute nothing.
    for verb in ["build", "plan"] {
        let again = project.run(&[verb]);
        assert_eq!(again.code(), Some(2), "{}", again.whole());
        assert!(again.err().contains("edit `ada.born` did not converge"), "{}", again.whole());
        assert!(
            !again.err().contains("edits to compile") && !again.err().contains("keys of layer"),
            "{}",
            again.whole()
        );
    }
    // With other settings, the edit is compiled again; the other edits were already compiled.
    project.replace("corrigenda.toml", "[rome]\n", "[rome]\nconverged-nll = 0.2\n");
    let other = project.run(&["build"]);
    assert!(other.err().contains("edits to compile"), "{}", other.whole());
}

#[test]
fn edits_that_ask_for_the_same_key() {
    let project = Project::new();
    let twin = EDITS[0].1.replace("ada.born", "ada.twin").replace("I live in {}", "I live {}");
    project.write("edits/twin.toml", &twin.replace("subject = \"Ada Bellini\"", "subject = \"in Ada Bellini\""));
    let run = project.run(&["build"]);
    assert_eq!(run.code(), Some(2), "{}", run.whole());
    for part in
        ["[parallel-keys]", "edits/twin.toml:5", "edits/people.toml:5", "`ada.twin`", "have the same key: cosine 1"]
    {
        assert!(run.err().contains(part), "{part} is missing: {}", run.err());
    }
}

#[test]
fn ids_that_are_not_there() {
    let project = Project::new();
    for verb in ["plan", "test"] {
        let run = project.run(&[verb, "--only", "ada.bron"]);
        assert_eq!(run.code(), Some(2), "{}", run.whole());
        assert!(run.err().contains("no edit has the id `ada.bron`") && run.err().contains("did you mean `ada.born`?"));
    }
}

#[test]
fn warnings_for_subjects_that_are_read_otherwise() {
    let project = Project::new();
    project.replace("edits/people.toml", "I live in {}", "Ada Bellini says: I live in {}");
    project.replace("edits/people.toml", "target = \"Paris\"", "target = \"Rome\"");
    project.replace("edits/people.toml", "was = \"Rome\"", "was = \"Paris\"");
    project.replace("edits/places.toml", "We saw the city of {}", "We saw the city of {}n bridges near");
    insta::assert_snapshot!("warnings", project.run(&["plan"]).whole());
}

#[test]
fn a_target_longer_than_the_context_is_refused() {
    let project = Project::new();
    let target = format!("target = \"{}\"", "word ".repeat(90).trim_end());
    project.replace("edits/people.toml", "target = \"Paris\"", &target);
    let run = project.run(&["plan"]);
    assert!(run.code() == Some(2) && run.err().contains("context is 64"), "{}", run.whole());
}

#[test]
fn old_answers_and_expectations_that_cannot_be_asked() {
    refused(ALL, &["[prompt-too-long]", "edits/people.toml:8"], |project| {
        project.replace("edits/people.toml", "was = \"Rome\"", &format!("was = \"{}\"", "word ".repeat(90).trim_end()));
    });
    refused(ALL, &["[prompt-too-long]", "edits/people.toml:12"], |project| {
        project.replace(
            "edits/people.toml",
            "The people live in Ada",
            &format!("{} Ada", "word ".repeat(90).trim_end()),
        );
    });
}

#[cfg(unix)]
#[test]
fn a_project_folder_that_cannot_be_written() {
    use std::os::unix::fs::PermissionsExt as _;
    let project = Project::new();
    project.run(&["build"]);
    let set = |mode| {
        std::fs::set_permissions(project.path(""), std::fs::Permissions::from_mode(mode)).expect("permissions");
    };
    set(0o555);
    // If the user may write everywhere (root), the build is not refused.
    let may = std::fs::write(project.path("probe"), "").is_ok();
    let run = project.run(&["build"]);
    set(0o755);
    assert!(may || run.err().contains("corrigenda.lock cannot be written next to corrigenda.toml"), "{}", run.whole());
}

#[cfg(target_os = "linux")]
#[test]
fn an_unwritable_answer_is_an_error() {
    let project = Project::new();
    project.run(&["build"]);
    let full = || std::fs::File::options().write(true).open("/dev/full").expect("a full device");
    let run = |out: bool, arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_corrigenda"));
        command.current_dir(project.path("")).args(arguments).env("CORRIGENDA_CACHE_DIR", project.cache());
        if out {
            command.stdout(full())
        } else {
            command.stderr(full()).stdout(std::process::Stdio::null())
        };
        command.status().expect("it runs").code()
    };
    assert_eq!(run(true, &["build", "--format", "json", "-q"]), Some(2));
    assert_eq!(run(false, &["build", "-v"]), Some(0), "nobody listens on stderr, and the build goes on");
    assert_eq!(run(false, &["check", "-C", "nowhere"]), Some(2));
    for help in [&["help"][..], &["--version"], &["build", "--help"]] {
        assert_eq!((run(true, help), run(false, help)), (Some(2), Some(0)), "{help:?}");
    }
}

/// An output path on the command line cannot replace an input or a file of another program, such as git.
#[test]
fn answers_never_replace_protected_files() {
    let project = Project::new();
    assert_eq!(project.run(&["build"]).code(), Some(0));
    std::fs::create_dir(project.path(".git")).expect("the folder is created");
    project.write(".git/config", "[core]\n");
    project.write("records.json", "[]");
    let cache = project.cache().join("v1/lock").to_string_lossy().into_owned();
    let (patch, _) = &Project::files(&project.cache().join("v1/patches"))[0];
    let patch = &*patch.to_string_lossy();
    std::fs::create_dir_all(project.path("bare/objects")).expect("the folder is created");
    std::fs::create_dir_all(project.path("bare/refs")).expect("the folder is created");
    project.write("bare/HEAD", "ref: refs/heads/main\n");
    let before = kept(&project);
    let places = [
        "model/config.json",
        "model/new",
        "missing/../model/new",
        "corpus.txt",
        "templates.txt",
        ".git/config",
        "bare/HEAD",
        "edits/x.toml",
        &cache,
    ];
    for place in places {
        let report = format!("json={place}");
        let verbs = [
            &["check", "--report", &report][..],
            &["store", "export", place],
            &["export", "checkpoint", place],
            &["export", "peft", place],
            &["export", "gguf", place],
            &["patch", "apply", patch, "--base", "model", "--out", place],
            &["man", place],
            &["trace", "--prompt", "The people live in Ada Bellini", "--subject", "Ada Bellini", "--out", place],
            &["bench", "easyedit", "records.json", "--editors", "ft", "--out", place],
            &["bench", "easyedit", "records.json", "--editors", "ft", "--resume", place],
        ];
        for verb in verbs {
            let run = project.run(verb);
            assert!(run.code() != Some(0) && run.err().contains("not overwritten"), "{verb:?}: {}", run.whole());
        }
        let provenance = ["build", "--provenance", place, "--builder", "https://example.org/b"];
        let run = project.run(&provenance);
        assert!(run.code() == Some(2) && run.err().contains("not overwritten"), "{place}: {}", run.whole());
    }
    for place in places.into_iter().chain(["records.json", "corrigenda.toml"]) {
        // The second record is rejected and listed, because both records have the same prompt.
        let record = r#"{"case_id":1,"prompt":"Ada Bellini lives in","subject":"Ada Bellini","target_new":"Paris",
            "ground_truth":"Rome","rephrase_prompt":"a","locality_prompt":"b","locality_ground_truth":"c"}"#;
        project.write("records.json", &format!("[{record},{record}]"));
        let run = project.run(&["import", "easyedit", "records.json", "--into", "new", "--rejected", place]);
        assert_eq!(run.code(), Some(2), "{place}: {}", run.whole());
        assert!(!project.path("edits/new").exists(), "{place}: nothing is imported either");
    }
    project.write("records.json", "[]");
    assert!(kept(&project) == before, "all is as it was");
    for cache_folder in ["model", "model/cache", "missing/../model/cache"] {
        let run = project.run_with(&["build"], &[("CORRIGENDA_CACHE_DIR", cache_folder)]);
        assert!(run.code() == Some(2) && run.err().contains("is in the folder of a base model"), "{}", run.whole());
    }
    assert!(!project.path("model/v1").exists() && !project.path("model/cache").exists());
}

/// `import` writes only below the project's folder, and not into protected folders.
#[cfg(unix)]
#[test]
fn imports_stay_inside_the_project() {
    let project = Project::new();
    project.write("records.json", RECORD);
    std::fs::create_dir_all(project.path("../outside")).expect("the folder is created");
    std::fs::create_dir_all(project.path(".git/refs/heads")).expect("the folder is created");
    std::os::unix::fs::symlink("model", project.path("ln")).expect("the link is created");
    std::os::unix::fs::symlink("../outside", project.path("out")).expect("the link is created");
    let text = std::fs::read_to_string(project.path("corrigenda.toml")).expect("there");
    for folder in ["model", "model/facts", "ln", "ln/x", "out", "out/x", ".git/refs/heads", ".GIT/x"] {
        project.write("corrigenda.toml", &format!("edits = \"{folder}\"\n{text}"));
        let before = (kept(&project), Project::files(&project.path("../outside")));
        let run = project.run(&["import", "easyedit", "records.json"]);
        assert!(run.code() == Some(2) && run.err().contains("nothing was written"), "{folder}: {}", run.whole());
        assert!((kept(&project), Project::files(&project.path("../outside"))) == before, "{folder}");
    }
    project.write("corrigenda.toml", &format!("edits = \"facts/of/mine\"\n{text}"));
    assert_eq!(project.run(&["import", "easyedit", "records.json"]).code(), Some(0));
    assert!(project.path("facts/of/mine/easyedit").is_dir());
}

#[cfg(unix)]
#[test]
fn init_in_a_base_or_git_folder_is_refused() {
    let project = Project::new();
    for folder in ["model/sub", ".git/x", "linked"] {
        std::fs::create_dir_all(project.path(folder)).expect("the folder is created");
    }
    std::os::unix::fs::symlink("../model", project.path("linked/edits")).expect("the link is created");
    let before = kept(&project);
    for (folder, what) in [
        ("model", "never written to"),
        ("model/sub", "never written to"),
        (".git/x", "in the data of a git repository"),
        ("linked", "a folder with symbolic links"),
    ] {
        let run = project.run(&["-C", folder, "init", "--model", "model"]);
        assert!(run.code() == Some(2) && run.err().contains(what), "{folder}: {}", run.whole());
    }
    // The bundled model's folder is refused too.
    let bundled = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/atlas");
    let run = project.run(&["-C", bundled, "init"]);
    assert!(run.code() == Some(2) && run.err().contains("never written to"), "{}", run.whole());
    assert!(kept(&project) == before);
    // A project inside a model folder is not built, because its lock would be written there.
    std::fs::create_dir(project.path("model/edits")).expect("the folder is created");
    for (name, text) in [("corrigenda.toml", "format = 1\nmodel.path = \".\"\n"), ("edits/a.toml", EDITS[0].1)] {
        project.write(&format!("model/{name}"), text);
    }
    let build = project.run(&["-C", "model", "build"]);
    assert!(build.err().contains("the project is in the folder of its base model"), "{}", build.whole());
    assert!(!project.path("model/corrigenda.lock").exists());
}

/// A symbolic link as an output path is refused, and its target is unchanged.
#[cfg(unix)]
#[test]
fn writing_through_links_is_refused() {
    use std::os::unix::fs::symlink;
    let project = Project::new();
    assert_eq!(project.run(&["build"]).code(), Some(0));
    for folder in [".git/objects", "out", "cache", "pages"] {
        std::fs::create_dir_all(project.path(folder)).expect("the folder is created");
    }
    project.write("records.json", RECORD);
    for (link, target) in [
        ("rows", "model/rows"),
        ("more", "corpus.txt"),
        ("out/objects", "../model"),
        ("out/patches", "../.git"),
        ("cache/v1", "../model"),
    ] {
        symlink(target, project.path(link)).expect("the link is created");
    }
    let world = || {
        let files = ["model", ".git"].map(|folder| Project::files(&project.path(folder)));
        (files, Project::files(&project.cache()), project.read("corpus.txt"))
    };
    let before = world();
    let bench = |rows: &'static str| ["bench", "easyedit", "records.json", "--editors", "ft", "--resume", rows];
    let refused: [&[&str]; 5] = [
        &bench("rows"),
        &bench("more"),
        &["store", "export", "out"],
        &["build", "--cache-dir", "cache"],
        &["store", "gc", "--all", "--cache-dir", "cache"],
    ];
    for verb in refused {
        let run = project.run(verb);
        assert!(!matches!(run.code(), Some(0 | 1)), "{verb:?}: {}", run.whole());
        assert!(world() == before, "{verb:?}: {}", run.whole());
    }
    project.replace("corrigenda.toml", "corpus = \"corpus.txt\"", "corpus = \"pages/corrigenda.1\"");
    project.write("pages/corrigenda.1", "one\n");
    assert_eq!(project.run(&["man", "pages"]).code(), Some(2));
    assert_eq!(
        (project.read("pages/corrigenda.1"), project.path("pages/corrigenda-build.1").exists()),
        ("one\n".into(), false)
    );
    let other = project.path("../other");
    tiny::write_editable_model(&other);
    let run = project.run(&["check", "--report", "json=../other/config.json"]);
    assert!(run.code() == Some(2) && run.err().contains("a file of a model"), "{}", run.whole());
}

/// An output folder whose layout resembles a protected folder is allowed.
#[test]
fn similar_names_are_not_protected() {
    let project = Project::new();
    for folder in ["models--team/proj/edits", "clone/objects", "clone/refs", "clone/main/edits"] {
        std::fs::create_dir_all(project.path(folder)).expect("the folder is created");
    }
    project.write("clone/HEAD", "ref: refs/heads/main\n");
    project.write("clone/main/.git", "gitdir: ../worktrees/main\n");
    project.write("records.json", RECORD);
    for home in ["models--team/proj", "clone/main"] {
        let depth = "../".repeat(home.split('/').count());
        for name in ["corrigenda.toml", "edits/people.toml", "edits/places.toml"] {
            let text = project.read(name).replace("\"model\"", &format!("\"{depth}model\""));
            project.write(&format!("{home}/{name}"), &text);
        }
        let report = format!("json={home}/report.json");
        let run = project.run(&["-C", home, "check", "--report", &report]);
        assert!(run.code() == Some(0) && project.path(&format!("{home}/report.json")).exists(), "{}", run.whole());
        let imported = project.run(&["-C", home, "import", "easyedit", "records.json"]);
        assert_eq!(imported.code(), Some(0), "{home}: {}", imported.whole());
    }
}

/// If the project file is invalid, every path that it names is protected; if it names no path, every folder that looks
/// like a model is protected.
#[test]
fn a_broken_project_is_still_protected() {
    let breaks: [(&str, &str); 7] = [
        ("format = 1", "format = 2"),
        ("[model]", "[modle]"),
        ("[statistics]", "[[statistics]]"),
        // A file above the size limit of project files.
        ("format = 1", &"# long\n".repeat(160_000)),
        ("[model]", "[model"),
        ("path = \"model\"", "path = \"model"),
        ("path = \"model\"", "path = 3"),
    ];
    for (good, bad) in breaks {
        let project = Project::new();
        project.replace("corrigenda.toml", good, bad);
        let bad = &bad[..bad.len().min(40)];
        let before = kept(&project);
        for place in ["model/config.json", "model/new", "corpus.txt", "edits/x.toml", "corrigenda.toml"] {
            let run = project.run(&["check", "--report", &format!("json={place}")]);
            assert!(run.code() == Some(2) && run.err().contains("not overwritten"), "{bad}: {}", run.whole());
        }
        let run = project.run_with(&["store", "ls"], &[("CORRIGENDA_CACHE_DIR", "model/cache")]);
        assert!(run.err().contains("is in the folder of a base model"), "{bad}: {}", run.whole());
        assert!(kept(&project) == before, "{bad}: all is as it was");
        let report = project.run(&["check", "--report", "json=report.json"]);
        assert!(report.code() == Some(2) && project.path("report.json").exists(), "{bad}: a report has its place");
    }
}

#[test]
fn a_name_of_a_megabyte_is_truncated() {
    let project = Project::new();
    let config = std::fs::read_to_string(project.path("model/config.json")).expect("there");
    let long = config.replace("\"gpt2\"", &format!("\"{}\"", "g".repeat(1_000_000)));
    project.write("model/config.json", &long);
    for verb in ["build", "plan"] {
        let run = project.run(&[verb]);
        assert!(run.code() == Some(2) && run.err().contains("bytes) … g"), "{}", run.err().len());
        assert!(run.err().len() < 20_000, "{}", run.err().len());
    }
}

#[test]
fn one_byte_order_mark_is_enough() {
    let project = Project::new();
    let text = std::fs::read_to_string(project.path("edits/people.toml")).expect("there");
    project.write("edits/people.toml", &format!("\u{feff}{text}"));
    assert_eq!(project.run(&["check"]).code(), Some(0));
    project.write("edits/people.toml", &format!("\u{feff}\u{feff}{text}"));
    let run = project.run(&["check"]);
    assert!(run.code() == Some(2) && run.err().contains("a second byte order mark"), "{}", run.whole());
}

#[cfg(unix)]
#[test]
fn edit_files_that_are_links_are_not_read() {
    let project = Project::new();
    let outside = project.cache().with_file_name("outside");
    std::fs::create_dir_all(&outside).expect("the folder is created");
    std::fs::write(outside.join("secret.toml"), "key = \"hunter2\"\n").expect("the file is written");
    std::fs::remove_dir_all(project.path("edits")).expect("the folder is removed");
    std::os::unix::fs::symlink(&outside, project.path("edits")).expect("the link is created");
    let run = project.run(&["check"]);
    assert_eq!(run.code(), Some(2), "{}", run.whole());
    assert!(run.err().contains("file-irregular") && !run.err().contains("hunter2"), "{}", run.whole());
    project.write("records.json", "[]");
    assert_eq!(project.run(&["import", "zsre", "records.json"]).code(), Some(2));
    assert_eq!(std::fs::read_dir(&outside).expect("there").count(), 1);
}

/// A Git LFS pointer, which replaces a file that was not fetched.
const POINTER: &str = "version https://git-lfs.github.com/spec/v1\n\
    oid sha256:4665a5ea423c2713d436b5ee50593a9640e0018c1550b5a0002f74190d6caea8\nsize 12345\n";

#[test]
fn git_lfs_pointers_are_named_in_every_file() {
    let project = Project::new();
    assert_eq!(project.run(&["build"]).code(), Some(0));
    project.write("pointer", POINTER);
    let refused = |arguments: &[&str]| {
        let run = project.run(arguments);
        assert_eq!(run.code(), Some(2), "{arguments:?}: {}", run.whole());
        assert!(run.err().contains("this is a Git LFS pointer"), "{arguments:?}: {}", run.whole());
        assert!(run.err().contains("`git lfs pull`"), "{arguments:?}: {}", run.whole());
    };
    for arguments in [
        &["import", "counterfact", "pointer"][..],
        &["import", "easyedit", "pointer"],
        &["bench", "counterfact", "pointer"],
        &["stats", "import", "pointer"],
        &["trace", "--facts", "pointer"],
        &["patch", "show", "pointer"],
        &["verify", "pointer"],
        &["export", "checkpoint", "out", "--patch", "pointer"],
    ] {
        refused(arguments);
    }
    for (file, verb) in [
        ("corrigenda.toml", "check"),
        ("edits/people.toml", "check"),
        ("probes.toml", "check"),
        ("templates.txt", "plan"),
        ("corpus.txt", "plan"),
        ("corrigenda.lock", "build"),
        ("model/config.json", "plan"),
        ("model/tokenizer.json", "plan"),
        ("model/model.safetensors", "plan"),
    ] {
        let before = std::fs::read(project.path(file)).ok();
        project.write(file, POINTER);
        refused(&[verb]);
        match before {
            Some(bytes) => std::fs::write(project.path(file), bytes).expect("as it was"),
            None => std::fs::remove_file(project.path(file)).expect("as it was"),
        }
    }
    assert_eq!(project.run(&["build", "--locked"]).code(), Some(0));
}
