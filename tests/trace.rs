//! Causal tracing against a whole forward pass for every cell in PyTorch (tests/reference/trace.py).

use corrigenda::model::{Model, Tokens};
use corrigenda::numeric::Isa;
use corrigenda::safetensors::Dtype;
use corrigenda::trace::{Kind, KnownFact, Noise, NoiseRule, Plan, subject_in, trace};

use crate::support::families::write_steep;
use crate::support::{golden, numbers, tiny};

#[test]
fn every_cell_agrees_with_pytorch() {
    let golden = golden("trace.json");
    let settings = &golden["settings"];
    let whole = |key: &str| settings[key].as_u64().expect("a number") as usize;
    let scale = settings["scale"].as_f64().expect("a number");
    let noise = Noise { rule: NoiseRule::Fixed(scale), scale, seed: 1, samples: whole("samples") };
    let plan = Plan { kinds: Kind::ALL.to_vec(), window: whole("window") };
    for of in golden["models"].as_array().expect("models") {
        let folder = tempfile::tempdir().expect("a folder");
        let name = of["model"].as_str().expect("a name");
        match name {
            "gpt2" => tiny::write_editable_model(folder.path()),
            name => write_steep(name, folder.path(), Dtype::F32, false),
        }
        let model = Model::open(folder.path(), Isa::detect()).expect("it opens");
        let tokens = Tokens::open(folder.path(), model.spec().vocabulary).expect("its tokenizer opens");
        for fact in of["facts"].as_array().expect("facts") {
            let text = |key: &str| fact[key].as_str().expect("a text");
            let (prompt, subject) = (text("prompt"), text("subject"));
            let place = subject_in(prompt, subject).expect("the subject");
            let known = KnownFact { id: "a".into(), prompt: prompt.into(), subject: place, answer: None, chat: false };
            let traced = trace(&model, &tokens, &known, &noise, &plan).expect("traced");
            assert_eq!(numbers(&fact["place"]), [traced.subject.start as f64, traced.subject.end as f64]);
            assert_eq!(traced.answer, tokens.piece(fact["answer"].as_u64().expect("an id") as u32));
            let near = |found: f64, want: f64, what: &str| {
                assert!((found - want).abs() < 1e-4, "{name}, {prompt}: {what}: {found} {want}");
            };
            near(traced.clean, fact["clean"].as_f64().expect("a number"), "clean");
            near(traced.corrupted, fact["corrupted"].as_f64().expect("a number"), "corrupted");
            for (kind, table) in &traced.restored {
                let want = numbers(&fact["tables"][kind.name()]);
                assert_eq!(want.len(), table.iter().map(Vec::len).sum::<usize>());
                table.iter().flatten().zip(want).for_each(|(found, want)| near(*found, want, kind.name()));
            }
        }
    }
}
