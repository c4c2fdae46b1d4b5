//! Provides the common input of all editors: one base, one corpus and one set of settings. Also tokenizes records, and
//! caches second moments, values and projectors, so that editors share them.

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

/// A record with its tokenized prompts and questions.
pub struct PreparedCase {
    /// The record as read from the dataset.
    pub case: Case,
    /// The tokenized prompt of the record, one row per prompt template, the bare prompt first.
    pub resolved: Resolved,
    /// The meaning digest that the record would have as an edit; values are cached under it.
    pub meaning: Digest,
    /// The tokenized questions of the record, to measure an edited model.
    pub questions: CaseQuestions,
}

/// The questions of one record, by the metrics of its dataset.
pub enum CaseQuestions {
    /// Compares the likelihoods of the new and the true answer.
    Likelihoods(counterfact::LikelihoodQuestions),
    /// Compares the top tokens with those of the correct answer.
    Tokens(zsre::TokenQuestions),
}

/// The key and the value of one record at one layer.
#[derive(Clone, Debug)]
pub struct KeyValue {
    /// The key `k*`, `[f]` with f = the MLP width.
    pub key: Vec<f32>,
    /// The value `v*`, `[d]` with d = the hidden size.
    pub value: Vec<f32>,
    /// Whether the optimisation of the value converged.
    pub converged: bool,
}

/// The common input of all editors, with caches for factors and projectors.
pub struct EvalContext<'a> {
    /// The project whose settings apply to all editors.
    pub project: &'a Project,
    /// The base model, which every editor starts from.
    pub base: &'a Base,
    /// The store for statistics, values and factors.
    pub store: &'a Store,
    /// The resolved settings of the project: layer, prompt templates, value search, statistics.
    pub setup: Setup,
    /// The number of values that were read from the store instead of being computed.
    pub from_store: Cell<usize>,
    factors: RefCell<BTreeMap<usize, Rc<Factor>>>,
    projectors: RefCell<BTreeMap<usize, Rc<Projector>>>,
}

impl<'a> EvalContext<'a> {
    /// Resolves the settings of a project; no statistics are computed yet.
    ///
    /// # Errors
    /// If its layer, templates or corpus cannot be used.
    pub fn new(project: &'a Project, base: &'a Base, store: &'a Store) -> Result<Self, Failure> {
        let setup = Setup::new(project, base, store, CorpusDigest::Remembered)?;
        let (factors, projectors) = (RefCell::default(), RefCell::default());
        Ok(Self { project, base, store, setup, from_store: Cell::new(0), factors, projectors })
    }

    /// Returns the Cholesky factor of a layer's second moment, computing it on the first call.
    ///
    /// # Errors
    /// If the corpus, the model or the store fails.
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

    /// Returns the inputs of a build's steps with this setup.
    pub(crate) fn build_context<'c>(&'c self, setup: &'c Setup, progress: &'c dyn Progress) -> BuildContext<'c> {
        BuildContext { project: self.project, base: self.base, setup, store: self.store, progress }
    }

    /// Returns AlphaEdit's projector of a layer, if it was computed.
    pub(crate) fn projector(&self, layer: usize) -> Option<Rc<Projector>> {
        self.projectors.borrow().get(&layer).map(Rc::clone)
    }

    /// Stores AlphaEdit's projector of a layer in memory and returns it.
    pub(crate) fn keep_projector(&self, layer: usize, projector: Projector) -> Rc<Projector> {
        let projector = Rc::new(projector);
        self.projectors.borrow_mut().insert(layer, Rc::clone(&projector));
        projector
    }

    /// Tokenizes a record. If `likelier` is true, it is measured by comparing likelihoods, otherwise by the share of
    /// correct tokens.
    ///
    /// # Errors
    /// If the model cannot read the record.
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

    /// Returns the key and the value of a record, from the store or computed and stored. A value that did not
    /// converge is stored under an address that no build reads.
    ///
    /// # Errors
    /// If the store fails.
    pub fn key_value(
        &self,
        meaning: &Digest,
        resolved: &Resolved,
        layer: usize,
        settings: &Settings,
        hook: Hook,
    ) -> Result<KeyValue, Failure> {
        // The rows may be truncated to the first templates.
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
