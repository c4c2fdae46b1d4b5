use std::path::Path;

use super::gguf::tests::header;
use crate::model::{Checkpoint, Tokens};

/// The path of a file in the test folder, and the content of the file.
type Entry = (&'static str, &'static str);

fn write(folder: &Path, entries: &[Entry]) {
    for (name, text) in entries {
        let path = folder.join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).expect("a folder");
        }
        std::fs::write(path, text).expect("written");
    }
}

/// Opens the model at `path` in a new folder that contains `entries`. Returns the error message and the advice.
fn said(entries: &[Entry], path: &str) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), entries);
    let error = Checkpoint::open(&folder.path().join(path)).expect_err("no model");
    format!("{error}\n{}", error.hint().unwrap_or_default()).replace(&folder.path().display().to_string(), "DIR")
}

const LLAMA: Entry = (
    "config.json",
    r#"{"model_type":"llama","hidden_size":8,"num_attention_heads":2,"num_hidden_layers":1,
    "intermediate_size":8,"vocab_size":4,"max_position_embeddings":8}"#,
);
const ADAPTER: Entry = ("adapter_config.json", r#"{"base_model_name_or_path":"org/base"}"#);
const SAVE: &str = "`AutoModelForCausalLM.from_pretrained(A).save_pretrained(B)`";

#[test]
fn what_lies_in_a_folder_is_named_with_what_helps() {
    let cases: &[(&[Entry], &[&str])] = &[
        (&[], &["has no config.json"]),
        (&[LLAMA], &["has no model.safetensors", SAVE]),
        (&[ADAPTER, ("adapter_model.safetensors", "x")], &["an adapter for `org/base`", "merge_and_unload"]),
        (&[LLAMA, ADAPTER], &["an adapter for `org/base`", "merge_and_unload"]),
        (&[("adapter_config.json", "{")], &["this is an adapter, not a model"]),
        (
            &[LLAMA, ("quantize_config.json", "{}"), ("gptq_model-4bit-128g.safetensors", "x")],
            &["quantised (it has quantize_config.json"],
        ),
        (&[LLAMA, ("hf_quant_config.json", "{}")], &["quantised (it has hf_quant_config.json"]),
        (
            &[LLAMA, ("model.fp16.safetensors", "x")],
            &["it has model.fp16.safetensors, but no model.safetensors", "`mv model.fp16.safetensors"],
        ),
        (
            &[LLAMA, ("model-00001-of-00002.safetensors", "x"), ("model-00002-of-00002.safetensors", "x")],
            &["no model.safetensors.index.json", "fetch the index", SAVE],
        ),
        (
            &[LLAMA, ("consolidated.safetensors", "x")],
            &["it has consolidated.safetensors, but no", "format of transformers"],
        ),
        (&[("params.json", "{}"), ("consolidated.00.pth", "x")], &["params.json", "in the format of transformers"]),
        (
            &[("params.json", "{}"), ("consolidated.safetensors", "x")],
            &["params.json", "in the format of transformers"],
        ),
        (&[LLAMA, ("pytorch_model.bin", "x")], &["named like a pickle", SAVE]),
        (&[LLAMA, ("pytorch_model-00001-of-00002.bin", "x")], &["named like a pickle", SAVE]),
        (&[("model.pth", "x")], &["named like a pickle", SAVE]),
        (&[LLAMA, ("tf_model.h5", "x")], &["tf_model.h5: this is a file of weights for TensorFlow", "from_tf"]),
        (&[("tf_model.h5", "x")], &["for TensorFlow"]),
        (&[LLAMA, ("flax_model.msgpack", "x")], &["for Flax", "from_flax"]),
        (&[LLAMA, ("model.onnx", "x")], &["for ONNX", "made from"]),
        (&[("model.onnx", "x")], &["for ONNX"]),
        (&[LLAMA, ("weights.npz", "x")], &["NumPy or MLX"]),
        (
            &[LLAMA, ("model-Q4_1.gguf", "x")],
            &["model-Q4_1.gguf: this is a GGUF file", "`corrigenda export gguf FILE`"],
        ),
        (&[("model-Q4_1.gguf", "x")], &["this is a GGUF file"]),
        (
            &[("checkpoint-500/config.json", "{}"), ("trainer_state.json", "{}")],
            &["its subfolder `checkpoint-500` is a model", "name the subfolder: DIR/checkpoint-500"],
        ),
        (
            &[
                ("a/config.json", "{}"),
                ("b/config.json", "{}"),
                ("c/config.json", "{}"),
                ("d/config.json", "{}"),
                ("e/x", ""),
            ],
            &["its subfolders a, b, c and 1 more are models", "for example DIR/d"],
        ),
        (&[LLAMA, ("checkpoint-500/config.json", "{}")], &["its subfolder `checkpoint-500` is a model"]),
        (&[("config.json", "{\"architectures\":[\"LlamaForCausalLM\"]}")], &["`model_type` is missing", "\"llama\""]),
    ];
    for (entries, wants) in cases {
        let found = said(entries, "");
        assert!(wants.iter().all(|want| found.contains(want)), "{entries:?}: {found}");
    }
}

#[test]
fn a_file_in_place_of_a_folder_is_named() {
    for (name, text, want) in [
        ("model.safetensors", "x", "name the folder that holds it"),
        ("model.h5", "x", "for TensorFlow"),
        ("model.bin", "x", "named like a pickle"),
        ("model", "PK\u{3}\u{4}....", "zip archive"),
        ("model", "text", "the model is the folder that holds config.json"),
    ] {
        let found = said(&[(name, text)], name);
        assert!(found.contains(want), "{name}: {found}");
    }
}

#[test]
fn a_gguf_file_names_the_model_that_it_was_made_from() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model-Q4_K_M.gguf");
    let message = |pairs: &[(&str, &str)]| {
        std::fs::write(&path, header(pairs)).expect("written");
        let error = Checkpoint::open(&path).expect_err("no folder");
        format!("{error}\n{}", error.hint().expect("a help"))
    };
    let found = message(&[("general.base_model.0.repo_url", "https://hub.example/org/name")]);
    assert!(found.contains("made from `org/name`") && found.contains("`path = \"hf:org/name\"`"), "{found}");
    let named = message(&[("general.base_model.0.name", "Name 1B")]);
    assert!(named.contains("made from `Name 1B`") && named.contains("`[model] path`"), "{named}");
    assert!(!message(&[]).contains("made from `"));
}

#[test]
fn a_cache_path_is_written_as_the_models_name() {
    let of = |entries: &[Entry]| said(entries, "models--org--name");
    let found = of(&[("models--org--name/snapshots/abc/config.json", "{}"), ("models--org--name/refs/main", "abc")]);
    assert!(found.contains("write `hf:org/name`"), "{found}");
    assert!(of(&[("models--org--name/x", "")]).contains("has no config.json"));
}

#[test]
fn a_pointer_of_git_lfs_is_said_wherever_it_stands() {
    const POINTER: &str = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n";
    for entries in [&[("config.json", POINTER)][..], &[LLAMA, ("model.safetensors", POINTER)]] {
        let found = said(entries, "");
        assert!(found.contains("Git LFS pointer") && found.contains("`git lfs pull`"), "{found}");
    }
    let index = r#"{"weight_map":{"model.norm.weight":"a.safetensors"}}"#;
    let found = said(&[LLAMA, ("model.safetensors.index.json", index), ("a.safetensors", POINTER)], "");
    assert!(found.contains("a.safetensors: this is a Git LFS pointer"), "{found}");
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), &[("tokenizer.json", POINTER)]);
    let Err(error) = Tokens::open(folder.path(), 4) else { panic!("no tokenizer") };
    assert!(error.to_string().contains("Git LFS pointer"), "{error}");
}

#[test]
fn a_missing_tokenizer_is_written_by_one_command() {
    for (entries, want) in [
        (&[][..], "there is no tokenizer.json\n"),
        (&[("vocab.json", "{}"), ("merges.txt", "")], "; vocab.json, merges.txt cannot be read"),
        (&[("tekken.json", "{}")], "; tekken.json cannot be read"),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        write(folder.path(), entries);
        let Err(error) = Tokens::open(folder.path(), 4) else { panic!("no tokenizer") };
        let found = format!("{error}\n{}", error.hint().unwrap_or_default());
        assert!(
            found.contains(want) && found.contains("AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)"),
            "{found}"
        );
    }
}
