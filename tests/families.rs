//! Compares every model family with Hugging Face transformers in float64 (tests/reference/families.py), and tests that
//! unsupported checkpoints are refused.

use std::path::Path;

use corrigenda::model::run::generation::Generation;
use corrigenda::model::run::prefix_cache::PrefixCache;
use corrigenda::model::run::suffix_pass::SuffixPass;
use corrigenda::model::{Model, ModelError, Tokens};
use corrigenda::numeric::Isa;
use corrigenda::numeric::rows::softmax;
use corrigenda::safetensors::Dtype;
use serde_json::{Value, json};

use crate::support::families::{Case, case, cases, write_weights};
use crate::support::project::{EDITS, Project};
use crate::support::{distance, golden, ids, numbers, relative, shared, wide};

fn opened(case: &Case, dtype: Dtype, sharded: bool) -> (tempfile::TempDir, Model) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    case.write(folder.path(), dtype, sharded);
    let model = Model::open(folder.path(), Isa::detect());
    let model = model.unwrap_or_else(|error| panic!("{}: {error}", case.name()));
    (folder, model)
}

/// Logits, hidden states after every block and keys of every layer agree within 2e-5 of the largest entry.
#[test]
fn every_family_agrees_with_transformers() {
    for case in cases() {
        let (name, golden) = (case.name(), &case.0);
        let (_folder, model) = opened(&case, Dtype::F32, false);
        let (row, spec) = (ids(&golden["ids"]), model.spec());
        let near = |ours: &[f32], theirs: &Value, what: &str| {
            let theirs = numbers(theirs);
            let top = theirs.iter().fold(1.0_f64, |top, x| top.max(x.abs()));
            let error = distance(ours, &theirs) / top;
            assert!(error < 2e-5, "{name}: {what} is off by {error:e}");
        };
        let logits = model.logits(&[&row], &[row.len()]).remove(0);
        for (at, place) in [(row.len() - 1, "last"), (5, "middle")] {
            let part = |all: &[f32], width: usize| all[at * width..][..width].to_vec();
            near(&part(&logits, spec.vocabulary), &golden[format!("logits_{place}")], "a logit");
            for blocks in 0..=spec.layers {
                let hidden = part(&model.hidden_states(&[&row], blocks), spec.hidden_size);
                near(&hidden, &golden[format!("hidden_{place}")][blocks], &format!("{place} state {blocks}"));
            }
            for layer in 0..spec.layers {
                let key = part(&model.keys(layer, &[&row]), spec.intermediate_size);
                near(&key, &golden[format!("keys_{place}")][layer], &format!("{place} key {layer}"));
            }
        }
    }
}

/// The gradient of the loss with respect to the edited layer's value agrees with autograd.
#[test]
fn every_gradient_agrees_with_autograd() {
    for case in cases() {
        let golden = &case.0["gradient"];
        let (_folder, model) = opened(&case, Dtype::F32, false);
        let (row, labels) = (ids(&case.0["ids"]), ids(&golden["labels"]));
        let layer = case.0["layer"].as_u64().expect("a layer") as usize;
        let position = golden["position"].as_u64().expect("a position") as usize;
        let hooked = model.run_hook(layer, &[&row], &[position]);
        let above = SuffixPass::new(&model, layer, &hooked, &[position], &[labels.len()]);
        let delta: Vec<f32> = numbers(&golden["delta"]).iter().map(|x| *x as f32).collect();
        let evaluation = above.evaluate(&delta);
        let mut slopes = evaluation.logits.clone();
        let mut loss = 0.0;
        for (row_slopes, label) in slopes.chunks_mut(model.spec().vocabulary).zip(&labels) {
            let logit = f64::from(row_slopes[*label as usize]);
            loss += (softmax(row_slopes) - logit) / labels.len() as f64;
            row_slopes[*label as usize] -= 1.0;
            row_slopes.iter_mut().for_each(|x| *x /= labels.len() as f32);
        }
        let want = golden["loss"].as_f64().expect("a loss");
        assert!((loss - want).abs() < 1e-5 * want, "{}: loss {loss} {want}", case.name());
        let error = relative(&wide(&above.reverse_each(&evaluation, &slopes)[0]), &numbers(&golden["gradient"]));
        assert!(error < 1e-4, "{}: the gradient is off by {error:e}", case.name());
    }
}

/// A cached prefix does not change a bit of the logits, whether a row shares all or a part of it.
#[test]
fn a_cached_prefix_changes_no_bit() {
    for case in cases() {
        let (_folder, model) = opened(&case, Dtype::F32, false);
        let row = ids(&case.0["ids"]);
        let mut other = row.clone();
        other[1] = (other[1] + 1) % model.spec().vocabulary as u32;
        let openings = vec![row[..3].to_vec(), Vec::new(), row[..4].to_vec(), row[..4].to_vec()];
        let openings = PrefixCache::new(&model, model.spec().layers, openings);
        let (tokens, moving, tails) = ([&row[..], &row, &other, &row], [4, 3, 4, 2], [1, 2, 1, 3]);
        assert_eq!(openings.lookup(&model, &tokens, &moving).lengths, [3, 0, 1, 2]);
        let delta: Vec<f32> = (0..model.spec().hidden_size).map(|at| (at as f32 - 7.0) / 16.0).collect();
        for layer in 0..model.spec().layers {
            let found = [&PrefixCache::empty(), &openings].map(|openings| {
                let hooked = model.run_hook_cached(openings, layer, &tokens, &moving);
                let above = SuffixPass::new(&model, layer, &hooked, &moving, &tails);
                let evaluation = above.evaluate(&delta);
                let slopes = above.reverse_each(&evaluation, &evaluation.logits);
                let states: Vec<Vec<f32>> = (0..4).map(|index| hooked.state(index, moving[index]).to_vec()).collect();
                assert_eq!(above.row(2).evaluate(&delta).logits, {
                    let vocabulary = model.spec().vocabulary;
                    evaluation.logits[3 * vocabulary..4 * vocabulary].to_vec()
                });
                (hooked.keys, hooked.values, states, evaluation.logits, slopes)
            });
            assert!(found[0] == found[1], "{} at layer {layer}", case.name());
        }
    }
}

/// 16-bit weights are widened exactly: the same values in F16 and BF16, in one file or in shards, give the same bits.
#[test]
fn the_type_and_the_shards_change_no_bit() {
    for case in cases() {
        let row = ids(&case.0["ids"]);
        let logits = |dtype, sharded| opened(&case, dtype, sharded).1.logits(&[&row], &[3]).remove(0);
        let want = logits(Dtype::F32, false);
        for (dtype, sharded) in [(Dtype::F32, true), (Dtype::F16, false), (Dtype::BF16, true)] {
            assert_eq!(logits(dtype, sharded), want, "{} in {dtype}", case.name());
        }
    }
}

/// Token-by-token decoding gives the same bits as the whole text, on every instruction set.
#[test]
fn incremental_decoding_equals_a_full_pass() {
    for case in cases() {
        let (folder, model) = opened(&case, Dtype::BF16, false);
        let row = ids(&case.0["ids"]);
        let want = model.logits(&[&row], &[1]).remove(0);
        for isa in Isa::all() {
            let reopened = Model::open(folder.path(), isa).expect("the model opens");
            let mut text = Generation::new(&reopened, 1);
            let mut last = text.push(&[&row[..4]]);
            for token in &row[4..] {
                last = text.push(&[&[*token]]);
            }
            assert_eq!(last, want, "{} with {}", case.name(), isa.name());
        }
    }
}

/// Greedy decoding, alone and in a batch with a shorter prompt, adds the tokens that `generate` of transformers adds in
/// float64.
#[test]
fn every_family_decodes_as_transformers_does() {
    for case in cases() {
        let (_folder, model) = opened(&case, Dtype::F32, false);
        let (row, want) = (ids(&case.0["ids"]), ids(&case.0["greedy"]));
        for prompts in [vec![&row[..]], vec![&row[..5], &row]] {
            let mut generation = Generation::new(&model, prompts.len());
            let mut logits = generation.push(&prompts);
            let mut told = Vec::new();
            for _ in 0..want.len() {
                let best: Vec<u32> = logits.chunks(model.spec().vocabulary).map(top).collect();
                told.push(*best.last().expect("a prompt"));
                logits = generation.push(&best.iter().map(std::slice::from_ref).collect::<Vec<_>>());
            }
            assert_eq!(told, want, "{}, {} prompts", case.name(), prompts.len());
        }
    }
}

/// Returns the token with the largest logit; of equal logits, the one with the lowest id.
fn top(logits: &[f32]) -> u32 {
    (0..logits.len()).fold(0, |best, id| if logits[id] > logits[best] { id } else { best }) as u32
}

/// Returns the error and the hint for the checkpoint of a case after `change`; the checkpoint must not open.
fn refused(name: &str, sharded: bool, change: impl FnOnce(&Path)) -> String {
    let folder = tempfile::tempdir().expect("a temporary folder");
    case(name).write(folder.path(), Dtype::F32, sharded);
    change(folder.path());
    let error: ModelError = Model::open(folder.path(), Isa::detect()).expect_err("a model that cannot be used");
    let said = format!("{error}\n{}", error.hint().unwrap_or_default());
    said.replace(&folder.path().display().to_string(), "MODEL")
}

fn config(folder: &Path, change: impl FnOnce(&mut Value)) {
    let path = folder.join("config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path).expect("config")).expect("JSON");
    change(&mut config);
    std::fs::write(path, config.to_string()).expect("the file is written");
}

#[test]
fn configs_that_cannot_be_read_say_which_key() {
    type Change = (&'static str, &'static str, Value, &'static str);
    let changes: [Change; 22] = [
        ("llama", "model_type", json!("mamba"), "architecture `mamba` is not supported"),
        ("llama", "model_type", json!(7), "`model_type` is 7; a text"),
        ("llama", "quantization_config", json!({ "quant_method": "gptq" }), "quantised (gptq)"),
        ("llama", "num_attention_heads", json!(0), "`num_attention_heads` is 0"),
        ("llama3", "num_key_value_heads", json!(3), "does not divide num_attention_heads"),
        ("llama", "hidden_size", json!(-4), "`hidden_size` is -4"),
        ("llama", "intermediate_size", json!(49), "has shape [48, 32], but config.json requires [49, 32]"),
        ("llama", "num_hidden_layers", json!(4), "has no tensor `model.layers.3."),
        ("llama", "vocab_size", json!(65), "has shape [64, 32]"),
        (
            "llama",
            "rope_scaling",
            json!({ "rope_type": "proportional" }),
            "supported: default, linear, dynamic, llama3",
        ),
        ("llama-yarn", "rope_scaling", json!({ "rope_type": "yarn" }), "`factor` is missing"),
        ("phi3-longrope", "rope_scaling", json!({ "type": "longrope" }), "a list of 4 positive numbers"),
        ("smollm3", "no_rope_layers", json!([1, 0]), "is not a list of 0 or 1"),
        ("cwm", "layer_types", json!(["full_attention"]), "for every layer"),
        ("llama", "rope_scaling", json!({ "rope_type": "linear" }), "`factor` is missing"),
        ("llama", "rope_scaling", json!("linear"), "an object was expected"),
        ("llama", "hidden_act", json!("mish"), "`hidden_act` is \"mish\""),
        ("llama", "head_dim", json!(7), "a positive even number of them was expected"),
        ("gpt_neo", "attention_types", json!([[["global"], 2]]), "does not give the kind of each of the 3 layers"),
        ("gpt_neo", "attention_types", json!([[["sparse"], 3]]), "supported: global, local"),
        ("qwen2-window", "max_window_layers", json!("x"), "a number of layers was expected"),
        ("gptj", "rotary_dim", json!(3), "rotates 3 of the 8 numbers of a head"),
    ];
    for (name, key, value, said) in changes {
        let found = refused(name, false, |folder| config(folder, |config| config[key] = value.clone()));
        assert!(found.contains(said) && found.contains("MODEL/config.json") | found.contains("tensor"), "{found}");
    }
}

#[test]
fn shards_that_do_not_fit_their_index_are_refused() {
    let index = |folder: &Path, change: &dyn Fn(&mut Value)| {
        let path = folder.join("model.safetensors.index.json");
        let mut index: Value = serde_json::from_slice(&std::fs::read(&path).expect("index")).expect("JSON");
        change(&mut index);
        std::fs::write(path, index.to_string()).expect("the file is written");
    };
    let said = |change: &dyn Fn(&Path)| refused("llama", true, change);
    let second = "model-00002-of-00002.safetensors";
    let missing = said(&|folder| std::fs::remove_file(folder.join(second)).expect("the file is removed"));
    assert!(missing.contains("names model-00002-of-00002.safetensors, which does not exist"), "{missing}");
    for out in [
        "../../etc/x.safetensors",
        "/x.safetensors",
        "a/b.safetensors",
        "..\\x.safetensors",
        "C:x.safetensors",
        ".x.safetensors",
        "x.bin",
    ] {
        let found = said(&|folder| index(folder, &|parsed| parsed["weight_map"]["model.norm.weight"] = json!(out)));
        assert!(found.contains("not a safetensors file of this folder"), "{out}: {found}");
    }
    let elsewhere = said(&|folder| {
        index(folder, &|parsed| parsed["weight_map"]["lm_head.weight"] = json!(second));
    });
    assert!(
        elsewhere.contains("assigns `lm_head.weight` to") && elsewhere.contains("does not contain it"),
        "{elsewhere}"
    );
    let twice = said(&|folder| {
        let all = case("llama").tensors(Dtype::F32);
        let inner = tempfile::tempdir().expect("a temporary folder");
        write_weights(inner.path(), &all, Dtype::F32, false);
        std::fs::copy(inner.path().join("model.safetensors"), folder.join(second)).expect("the file is copied");
    });
    assert!(twice.contains("is in two files"), "{twice}");
    for (text, problem) in [("{}", "no object `weight_map`"), ("{\"weight_map\":{}}", "empty"), ("[", "is not JSON")] {
        let found = said(&|folder| std::fs::write(folder.join("model.safetensors.index.json"), text).expect("written"));
        assert!(found.contains(problem), "{found}");
    }
}

/// Opens the checkpoint of a case with its tensors changed by `change`.
fn changed(name: &str, change: impl FnOnce(&mut Tensors)) -> Result<Model, ModelError> {
    changed_and(name, false, change)
}

/// Does the same as [`changed`]; with `tied`, config.json states that the output matrix is the embedding.
fn changed_and(name: &str, tied: bool, change: impl FnOnce(&mut Tensors)) -> Result<Model, ModelError> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (case, mut tensors) = (case(name), case(name).tensors(Dtype::F32));
    case.write(folder.path(), Dtype::F32, false);
    change(&mut tensors);
    write_weights(folder.path(), &tensors, Dtype::F32, false);
    if tied {
        config(folder.path(), |config| config["tie_word_embeddings"] = json!(true));
    }
    Model::open(folder.path(), Isa::detect())
}

type Tensors = std::collections::BTreeMap<String, (Vec<u64>, Vec<u8>)>;

/// The embedding and the head of the families that are tested with tied weights.
const TIED: [(&str, &str, &str); 6] = [
    ("qwen2", "model.embed_tokens.weight", "lm_head.weight"),
    ("llama3", "model.embed_tokens.weight", "lm_head.weight"),
    ("gpt2", "transformer.wte.weight", "lm_head.weight"),
    ("gpt_neo", "transformer.wte.weight", "lm_head.weight"),
    ("gptj", "transformer.wte.weight", "lm_head.weight"),
    ("gpt_neox", "gpt_neox.embed_in.weight", "embed_out.weight"),
];

/// A tied checkpoint whose stored head differs from the embedding is refused, because transformers 5 uses the stored
/// head and version 4 uses the embedding.
#[test]
fn a_tied_head_that_is_stored_must_be_the_embedding() {
    for (name, embedding, head) in TIED {
        let same = changed_and(name, true, |tensors| {
            let copy = tensors[embedding].clone();
            tensors.insert(head.to_owned(), copy);
        });
        assert!(same.expect("the same matrix").checkpoint().remarks().is_empty(), "{name}");
        for wrong in ["elements", "rows"] {
            let error = changed_and(name, true, |tensors| {
                let (mut shape, mut bytes) = tensors[embedding].clone();
                if wrong == "rows" {
                    shape[0] += 1;
                    bytes.extend(vec![0; 4 * shape[1] as usize]);
                } else {
                    bytes[..4].copy_from_slice(&3.0_f32.to_le_bytes());
                }
                tensors.insert(head.to_owned(), (shape, bytes));
            });
            let error = error.expect_err("two heads");
            assert!(error.to_string().contains(&format!("`{head}` is a different matrix")), "{name}: {error}");
            assert!(error.hint().is_some_and(|hint| hint.contains("set `tie_word_embeddings` to false")), "{name}");
        }
    }
}

/// If the stored head is the rounded embedding, the embedding is used, and a remark reports the difference.
#[test]
fn a_tied_head_in_a_smaller_type_is_reported() {
    let said = |first: f32| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        case("llama3").write(folder.path(), Dtype::F32, false);
        let mut tensors = case("llama3").tensors(Dtype::F32);
        let (shape, embedding) = tensors.get_mut("model.embed_tokens.weight").expect("an embedding");
        embedding[..4].copy_from_slice(&first.to_le_bytes());
        let (half, shape) = (Dtype::F16.weight_dtype().expect("a type"), shape.clone());
        let wide = corrigenda::numeric::Elements::of_bytes(corrigenda::numeric::WeightDtype::F32, embedding)
            .to_f32()
            .into_owned();
        let mut head = Vec::new();
        wide.iter().for_each(|x| corrigenda::numeric::half::append(half, *x, &mut head));
        let written: Vec<_> = tensors
            .iter()
            .map(|(name, (sides, data))| (name.clone(), Dtype::F32, sides.clone(), &data[..]))
            .chain([("lm_head.weight".to_owned(), Dtype::F16, shape, &head[..])])
            .map(|(name, dtype, shape, data)| corrigenda::safetensors::TensorData { name, dtype, shape, data })
            .collect();
        let bytes = corrigenda::safetensors::write(&written, &std::collections::BTreeMap::new());
        std::fs::write(folder.path().join("model.safetensors"), bytes).expect("the file is written");
        let model = Model::open(folder.path(), Isa::detect()).expect("the model opens");
        model.checkpoint().remarks().iter().map(|one| one.message.clone()).collect::<String>()
    };
    assert_eq!(said(0.25), "", "F16 holds it exactly");
    assert!(said(0.1).contains("`lm_head.weight` in ") && said(0.1).contains("rounded to its type"), "{}", said(0.1));
}

/// An index may list tensors that the model does not need, such as a tied head.
#[test]
fn an_index_may_list_unused_tensors() {
    let index = |folder: &Path, names: &[&str]| {
        let path = folder.join("model.safetensors.index.json");
        let mut index: Value = serde_json::from_slice(&std::fs::read(&path).expect("index")).expect("JSON");
        for name in names {
            index["weight_map"][name] = json!("model-00001-of-00002.safetensors");
        }
        std::fs::write(path, index.to_string()).expect("the file is written");
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    case("qwen2").write(folder.path(), Dtype::F32, true);
    index(folder.path(), &["lm_head.weight", "model.layers.0.self_attn.rotary_emb.inv_freq"]);
    assert!(Model::open(folder.path(), Isa::detect()).is_ok());
    // A tensor that the model needs must be in the file that the index names.
    let needed = refused("llama", true, |damaged| {
        config(damaged, |config| config["num_hidden_layers"] = json!(4));
        index(damaged, &["model.layers.3.self_attn.q_proj.weight"]);
    });
    assert!(needed.contains("assigns `model.layers.3.self_attn.q_proj.weight` to model-00001-of-00002"), "{needed}");
}

#[test]
fn unread_tensors_are_reported() {
    let with = |name: &str, tensor: &str| {
        let model = changed(name, |tensors| drop(tensors.insert(tensor.to_owned(), (vec![1], vec![0; 4]))));
        model.expect("it opens").checkpoint().remarks().iter().map(|one| one.message.clone()).collect::<String>()
    };
    for (name, tensor) in [
        ("llama", "model.layers.0.self_attn.q_norm.weight"),
        ("llama", "model.layers.1.self_attn.q_proj.bias"),
        ("llama", "model.layers.7.mlp.up_proj.weight"),
        ("llama", "lm_head.bias"),
        ("llama", "model.norm.bias"),
        ("gpt_neox", "gpt_neox.layers.0.attention.q_norm.weight"),
    ] {
        let found = with(name, tensor);
        assert!(found.contains("does not read a tensor") && found.contains(tensor), "{name}: {found}");
    }
    for (name, tensor) in [
        ("llama", "model.layers.0.self_attn.rotary_emb.inv_freq"),
        ("gptj", "transformer.h.0.attn.masked_bias"),
        ("gptj", "transformer.h.0.attn.bias"),
        ("gpt_neo", "transformer.h.0.attn.attention.bias"),
        ("gpt_neox", "gpt_neox.layers.0.attention.masked_bias"),
        ("llama", "score.weight"),
    ] {
        assert_eq!(with(name, tensor), "", "{name}: {tensor}");
    }
}

#[test]
fn tensor_names_show_what_was_saved() {
    let renamed = |rename: &dyn Fn(&str) -> String| {
        let error = changed("llama", |tensors| {
            *tensors = std::mem::take(tensors).into_iter().map(|(name, tensor)| (rename(&name), tensor)).collect();
        });
        let error = error.expect_err("other names");
        format!("{error}\n{}", error.hint().unwrap_or_default())
    };
    for (prefix, help) in [
        ("module.", "`model.module.save_pretrained(NEW)`"),
        ("_orig_mod.", "`model._orig_mod.save_pretrained(NEW)`"),
        ("base_model.model.", "merge_and_unload"),
        ("language_model.", "`model.language_model.save_pretrained(NEW)`"),
        ("other.", "names without `other.`"),
    ] {
        let found = renamed(&|name| format!("{prefix}{name}"));
        assert!(found.contains(&format!("begin with `{prefix}`")) && found.contains(help), "{found}");
    }
    let found = renamed(&|name| name.replace("model.layers", "model.language_model.layers"));
    assert!(found.contains("begin with `model.language_model.`"), "{found}");
    for end in ["qweight", "weight_packed", "weight_scale_inv"] {
        let quantised = renamed(&|name| name.replace("q_proj.weight", &format!("q_proj.{end}")));
        assert!(
            quantised.contains("quantised (it has `model.layers.0.self_attn.q_proj.") && quantised.contains(end),
            "{quantised}"
        );
    }
    let classifier = renamed(&|name| name.replace("lm_head.weight", "score.weight"));
    assert!(
        classifier.contains("`score.weight` and no `lm_head.weight`") && classifier.contains("not a language model"),
        "{classifier}"
    );
    let untied = renamed(&|name| name.replace("lm_head.weight", "x"));
    assert!(untied.contains("set it to true"), "{untied}");
    let adapter = renamed(&|name| name.replace("q_proj.weight", "q_proj.base_layer.weight"));
    assert!(adapter.contains("adapter in addition to the model"), "{adapter}");
}

#[test]
fn adapters_and_other_classes_are_reported() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    case("llama").write(folder.path(), Dtype::F32, false);
    std::fs::write(folder.path().join("adapter_config.json"), "{\"base_model_name_or_path\":\"org/base\"}")
        .expect("written");
    config(folder.path(), |config| config["architectures"] = json!(["GemmaForCausalLM"]));
    let model = Model::open(folder.path(), Isa::detect()).expect("the model opens");
    let said: Vec<&str> = model.checkpoint().remarks().iter().map(|one| one.message.as_str()).collect();
    assert!(said[0].contains("names GemmaForCausalLM, but `model_type` is `llama`"), "{said:?}");
    assert!(said[1].contains("an adapter for `org/base`, which is not read"), "{said:?}");
}

#[test]
fn other_types_of_weights_are_refused_with_what_to_do() {
    let found = refused("llama", false, |folder| {
        let mut tensors = case("llama").tensors(Dtype::F32);
        for (_, bytes) in tensors.values_mut() {
            bytes.truncate(bytes.len() / 4);
        }
        write_weights(folder, &tensors, Dtype::I8, false);
    });
    assert!(
        found.contains("is I8; weights are read in F32, F16 and BF16") && found.contains("before it was quantised")
    );
}

/// A trained checkpoint continues a story as transformers does (tests/reference/stories.py).
#[test]
fn a_trained_llama_generates_its_story() {
    let Some(folder) = shared("models/tinystories-656k") else { return };
    let golden = golden("stories.json");
    let model = Model::open(&folder, Isa::detect()).expect("the model opens");
    let tokens = Tokens::open(&folder, model.spec().vocabulary).expect("its tokenizer opens");
    for story in golden["stories"].as_array().expect("stories") {
        let prompt = story["prompt"].as_str().expect("a prompt");
        let mut row = tokens.encode(prompt).expect("the text is tokenized").ids;
        assert_eq!(row, ids(&story["ids"]), "{prompt}");
        let mut text = Generation::new(&model, 1);
        let mut logits = text.push(&[&row]);
        let first = numbers(&story["logits"]);
        assert!(distance(&logits, &first) < 1e-4, "{prompt}: {:e}", distance(&logits, &first));
        for _ in 0..ids(&story["greedy"]).len() {
            let best = top(&logits);
            row.push(best);
            logits = text.push(&[&[best]]);
        }
        let told = &row[row.len() - ids(&story["greedy"]).len()..];
        assert_eq!(told, ids(&story["greedy"]), "{prompt}");
        assert_eq!(tokens.decode(told).trim(), story["text"].as_str().expect("a text").trim());
    }
}

/// A project on a trained checkpoint is planned, built, tested and exported, and the export is opened.
#[test]
fn a_trained_llama_is_edited() {
    let Some(folder) = shared("models/tinystories-656k") else { return };
    let project = Project::new();
    let corpus = shared("data/wiki_8mb.txt").expect("a corpus beside the models");
    let corpus = std::fs::read_to_string(corpus).expect("the corpus");
    project.write("corpus.txt", &corpus.lines().take(400).collect::<Vec<_>>().join("\n"));
    let settings = format!(
        "format = 1\n[model]\npath = {:?}\n[rome]\nlayer = 0\n[statistics]\ncorpus = \"corpus.txt\"\n",
        folder.canonicalize().expect("a path")
    );
    project.write("corrigenda.toml", &settings);
    for (name, _) in EDITS {
        std::fs::remove_file(project.path(name)).expect("an edit of another model");
    }
    // The tokens of this model span several words and end in white space, so the prompt ends in white space too.
    let edit = "format = 1\n[[edit]]\nid = \"lily.pet\"\nsubject = \"Lily\"\n\
        prompt = \"Once upon a time, there was a girl named {} who had a big \"\ntarget = \"cat\"\n\
        [edit.expect]\nunchanged = [\"Once upon a time, there was a boy named Tom who had a big\"]\n";
    project.write("edits/lily.toml", edit);
    let before = Project::files(&folder);
    let plan = project.run(&["plan"]);
    assert!(plan.out().contains("[Lily"), "{}", plan.whole());
    let build = project.run(&["build"]);
    assert_eq!(build.code(), Some(0), "{}", build.whole());
    let test = project.run(&["test", "--format", "json"]).json();
    let answers = test["answers"].as_array().expect("answers");
    assert_eq!(answers[0]["before"]["holds"], json!(false), "{test}");
    assert_eq!(answers[0]["after"]["holds"], json!(true), "{test}");
    for arguments in [&["export", "checkpoint", "out"][..], &["verify", "out"], &["build", "--locked"]] {
        let run = project.run(arguments);
        assert_eq!(run.code(), Some(0), "{}", run.whole());
    }
    assert_eq!(before, Project::files(&folder), "the base is as it was");
}
