//! Provides the common input of all editors: one base, one corpus and one set of settings. It tokenizes records, and
//! caches second moments, values and projectors, so that all editors use the same ones.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use super::data::Case;
use super::metrics::{counterfact, zsre};
use crate::compile::object::address;
use crate::compile::value::Hook;
use crate::compile::{Compiled, Fact, Object, ResolveError, Resolved, Settings, compile_at};
use crate::diagnostics::Failure;
use crate::digest::{Digest, FieldHasher};
use crate::link::alphaedit::Projector;
use crate::model::ModelError;
use crate::numeric::cholesky::Factor;
use crate::pipeline::setup::CorpusDigest;
use crate::pipeline::statistics::{factor, load_or_compute};
use crate::pipeline::{Base, BuildContext, Setup};
use crate::progress::Progress;
use crate::project::Project;
use crate::project::edits::edit::meaning;
use crate::store::{EntryKind, Store};

pub struct PreparedCase {
    /// The record as read from the dataset.
    pub case: Case,
    /// The tokenized prompt of the record, one row per prompt template; the first row is the bare prompt.
    pub resolved: Resolved,
    /// The meaning digest of the edit that the record describes; the record's value is cached under it.
    pub meaning: Digest,
    /// The tokenized prompts and answers on which an edited model is measured.
    pub questions: CaseQuestions,
}

/// The tokenized prompts and answers of one record, by the metrics that apply to its dataset.
pub enum CaseQuestions {
    /// Pairs of answers whose likelihoods are compared (CounterFact).
    Likelihoods(counterfact::LikelihoodQuestions),
    /// Tokens to predict, which are compared with the correct ones (zsRE).
    Tokens(zsre::TokenQuestions),
}

/// The MLP key and the value vector of one record at one layer.
#[derive(Clone, Debug)]
pub struct KeyValue {
    /// The MLP key `k*`, `[f]` with f = the MLP width.
    pub key: Vec<f32>,
    /// The value `v*`, `[d]` with d = the hidden size.
    pub value: Vec<f32>,
    /// Whether the optimisation of the value converged.
    pub converged: bool,
}

pub struct EvalContext<'a> {
    pub project: &'a Project,
    /// The base model, which every editor starts from.
    pub base: &'a Base,
    /// The store from which statistics, values and factors are read, and to which they are written.
    pub store: &'a Store,
    /// The resolved settings of the project: layer, prompt templates, settings of the value optimisation, statistics.
    pub setup: Setup,
    /// The number of values that were read from the store instead of being computed.
    pub from_store: Cell<usize>,
    factors: RefCell<BTreeMap<usize, Rc<Factor>>>,
    projectors: RefCell<BTreeMap<usize, Rc<Projector>>>,
}

impl<'a> EvalContext<'a> {
    /// Resolves the settings of a project without computing statistics.
    ///
    /// # Errors
    /// If the project's layer, prompt templates or corpus cannot be used.
    pub fn new(project: &'a Project, base: &'a Base, store: &'a Store) -> Result<Self, Failure> {
        let setup = Setup::new(project, base, store, CorpusDigest::Remembered)?;
        let (factors, projectors) = (RefCell::default(), RefCell::default());
        Ok(Self { project, base, store, setup, from_store: Cell::new(0), factors, projectors })
    }

    /// Returns the Cholesky factor of a layer's second moment, which is computed on the first call for the layer.
    ///
    /// # Errors
    /// If the corpus or the store cannot be read, or the statistics cannot be computed.
    pub fn factor(&self, layer: usize, progress: &dyn Progress) -> Result<Rc<Factor>, Failure> {
        if let Some(found) = self.factors.borrow().get(&layer) {
            return Ok(Rc::clone(found));
        }
        let setup = self.setup.for_layer(layer);
        let (cached, _) = load_or_compute(self.build_context(&setup, progress))?;
        let (found, _) = factor(self.build_context(&setup, progress), &cached)?;
        let found = Rc::new(found);
        self.factors.borrow_mut().insert(layer, Rc::clone(&found));
        Ok(found)
    }

    /// Returns the context for the steps of a build, with this setup.
    pub(crate) fn build_context<'c>(&'c self, setup: &'c Setup, progress: &'c dyn Progress) -> BuildContext<'c> {
        BuildContext { project: self.project, base: self.base, setup, store: self.store, progress }
    }

    /// Returns AlphaEdit's projector of a layer; `None` if it has not been cached yet.
    pub(crate) fn projector(&self, layer: usize) -> Option<Rc<Projector>> {
        self.projectors.borrow().get(&layer).map(Rc::clone)
    }

    /// Caches AlphaEdit's projector of a layer in memory and returns it.
    pub(crate) fn keep_projector(&self, layer: usize, projector: Projector) -> Rc<Projector> {
        let projector = Rc::new(projector);
        self.projectors.borrow_mut().insert(layer, Rc::clone(&projector));
        projector
    }

    /// Tokenizes a record. If `likelier` is true, the record is measured by comparing the likelihoods of two answers,
    /// otherwise by the share of correct tokens.
    ///
    /// # Errors
    /// If the tokenizer rejects a text of the record, or a text does not fit the context.
    pub fn prepare(&self, case: Case, likelier: bool) -> Result<PreparedCase, ResolveError> {
        let (tokens, limit) = (&self.base.tokens, self.base.model.spec().max_positions);
        let fact = Fact { subject: &case.subject, prompt: &case.prompt, target: &case.target, chat: false };
        let resolved = Resolved::new(tokens, &self.setup.templates, fact, limit)?;
        let asked = |error: ModelError| ResolveError::from(error);
        let questions = if likelier {
            CaseQuestions::Likelihoods(counterfact::LikelihoodQuestions::new(&case, tokens, limit).map_err(asked)?)
        } else {
            CaseQuestions::Tokens(zsre::TokenQuestions::new(&case, tokens, limit).map_err(asked)?)
        };
        let meaning = meaning(&case.subject, &case.prompt, &case.target, false);
        Ok(PreparedCase { case, resolved, meaning, questions })
    }

    /// Returns the MLP key and the value vector of a record, read from the store, or computed and stored. A value that
    /// did not converge is stored under an address that `build` never reads.
    ///
    /// # Errors
    /// If the store cannot be read or written.
    pub fn key_value(
        &self,
        meaning: &Digest,
        resolved: &Resolved,
        layer: usize,
        settings: &Settings,
        hook: Hook,
    ) -> Result<KeyValue, Failure> {
        // `resolved` has one row per prompt template, but an editor may use fewer templates than the project has.
        let templates = &self.setup.templates[..resolved.rows.len().min(self.setup.templates.len())];
        // A record is never a chat message.
        let reading = self.base.tokens.reading(false).ok().flatten();
        let own = address(&self.base.locked.digest, reading.as_ref(), meaning, layer, templates, settings);
        let own = match hook {
            Hook::Mlp => own,
            Hook::Block => FieldHasher::new("bench-block/1").digest("object", &own).finish(),
        };
        let other = FieldHasher::new("bench-unconverged/1").digest("object", &own).finish();
        for (address, converged) in [(&own, true), (&other, false)] {
            let object = self.store.recall(EntryKind::Object, address, |bytes| Object::from_bytes(bytes).ok())?;
            if let Some(site) = object.and_then(|mut object| object.sites.remove(&layer)) {
                self.from_store.set(self.from_store.get() + 1);
                return Ok(KeyValue { key: site.key, value: site.value, converged });
            }
        }
        let compiled = compile_at(&self.base.model, layer, resolved, settings, hook);
        let Compiled { converged, .. } = compiled;
        let object = Object::new(layer, &compiled);
        self.store.put(EntryKind::Object, if converged { &own } else { &other }, &object.to_bytes())?;
        Ok(KeyValue { key: compiled.key, value: compiled.value, converged })
    }
}
