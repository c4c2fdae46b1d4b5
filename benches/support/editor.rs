//! Compiles and links edits of one layer of a model, without a project.

use std::collections::BTreeMap;

use corrigenda::compile::{Compiled, Fact, Resolved, Settings, compile, presets};
use corrigenda::digest::Digest;
use corrigenda::link::{ClosedForm, LinkPair, link};
use corrigenda::model::{Model, Tokens};
use corrigenda::numeric::cholesky::Factor;
use corrigenda::patch::{Patch, Target, materialise};
use corrigenda::stats::{SecondMoment, sum::DOCUMENTS};

type Failure = Box<dyn std::error::Error>;

/// The model, the settings and the second moments with which all edits are compiled and linked.
pub struct Editor {
    pub model: Model,
    pub tokens: Tokens,
    pub templates: Vec<String>,
    pub settings: Settings,
    pub layer: usize,
    factor: Factor,
    /// The digest of the unedited down-projection weight of the layer.
    base: Digest,
}

impl Editor {
    /// Creates an editor with the default context templates and settings. Computes the second moment C of the MLP keys
    /// over `documents`.
    pub fn new(model: Model, tokens: Tokens, layer: usize, documents: &[String]) -> Result<Self, Failure> {
        model.spec().check_layer(layer)?;
        let (factor, ridge) = moment(&model, &tokens, layer, documents)?.factor()?;
        if ridge > 0.0 {
            println!("C of layer {layer} took a ridge of {ridge:e}");
        }
        let base = model.checkpoint().edited(layer).digest();
        let (templates, settings) = (presets::lines(presets::TEMPLATES), Settings::default());
        Ok(Self { templates, settings, model, tokens, layer, factor, base })
    }

    pub fn compile(&self, fact: Fact) -> Result<Compiled, Failure> {
        let resolved = Resolved::new(&self.tokens, &self.templates, fact, self.model.spec().max_positions)?;
        Ok(compile(&self.model, self.layer, &resolved, &self.settings))
    }

    /// Links the edits together and returns the base with the resulting patch. `edits` must be sorted by the digest, as
    /// in a build.
    pub fn linked(&self, edits: &[(Digest, &Compiled)]) -> Result<Model, Failure> {
        let pairs: Vec<LinkPair> =
            edits.iter().map(|(_, side)| LinkPair { key: &side.key, value: &side.value }).collect();
        let linked = link(&self.factor, &pairs, 0.0, |key| self.model.mlp_output_f64(self.layer, key))?;
        let target = self.target(edits.iter().map(|(meaning, _)| *meaning).collect(), &linked);
        let weight = self.model.checkpoint().edited(self.layer);
        let patch = Patch::new(BTreeMap::from([(weight.name.clone(), target)]))?;
        let data = materialise(&weight.name, &patch.targets()[&weight.name], &weight.to_f32())?;
        Ok(self.model.with_edited(self.layer, data))
    }

    fn target(&self, edits: Vec<Digest>, linked: &ClosedForm) -> Target {
        let spec = self.model.spec();
        let columns = &linked.u;
        Target {
            base: self.base,
            dtype: self.model.checkpoint().edited(self.layer).dtype.into(),
            layout: spec.family.layout,
            out: spec.hidden_size,
            inner: spec.intermediate_size,
            edits,
            u: (0..spec.hidden_size).flat_map(|row| columns.iter().map(move |column| column[row] as f32)).collect(),
            v: linked.v.iter().flatten().map(|&x| x as f32).collect(),
        }
    }
}

fn moment(model: &Model, tokens: &Tokens, layer: usize, documents: &[String]) -> Result<SecondMoment, Failure> {
    let mut moment = SecondMoment::new(model.spec().intermediate_size);
    for batch in documents.chunks(DOCUMENTS) {
        let mut rows = Vec::new();
        for document in batch {
            let mut row = tokens.encode(document)?.ids;
            row.truncate(model.spec().max_positions);
            rows.push(row);
        }
        let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
        moment.add(model.isa(), &model.keys(layer, &rows));
    }
    Ok(moment)
}

/// A number of trials and how many of them succeeded.
#[derive(Default)]
pub struct Share {
    yes: usize,
    all: usize,
}

impl Share {
    pub fn add(&mut self, yes: bool) {
        self.yes += usize::from(yes);
        self.all += 1;
    }

    pub fn value(&self) -> f64 {
        self.yes as f64 / self.all.max(1) as f64
    }
}
