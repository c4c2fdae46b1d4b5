//! Holds what all editors of a benchmark share: the project, the base model, the store and the settings. The module
//! also tokenizes dataset records, and caches intermediate results that several editors use.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use super::data::Case;
use super::editors::EditorName;
use super::metrics::{counterfact, zsre};
use super::sequence::SequenceState;
use crate::compile::object::address;
use crate::compile::value::Hook;
use crate::compile::{Compiled, Fact, Object, ResolveError, Resolved, Settings, compile_at};
use crate::diagnostics::Failure;
use crate::digest::{Digest, FieldHasher};
use crate::link::alphaedit::Projector;
use crate::model::{Model, ModelError};
use crate::numeric::cholesky::Factor;
use crate::pipeline::setup::CorpusDigest;
use crate::pipeline::statistics::{factor, load_or_compute};
use crate::pipeline::{Base, BuildContext, Setup};
use crate::progress::Progress;
use crate::project::Project;
use crate::project::edits::edit::meaning;
use crate::research::hypernetworks::stored::StoredEditor;
use crate::store::{EntryKind, Store};

pub struct PreparedCase {
    pub case: Case,
    /// The tokenized prompt: one token sequence per context template. The first sequence is the prompt alone.
    pub resolved: Resolved,
    /// The digest of subject, prompt and target. It is part of the store address of the record's value vector.
    pub meaning: Digest,
    /// The tokenized prompts and answers on which an edited model is measured.
    pub questions: CaseQuestions,
}

/// The tokenized prompts and answers of one record, for the metrics of its dataset.
pub enum CaseQuestions {
    /// For CounterFact: pairs of answers whose likelihoods are compared.
    Likelihoods(counterfact::LikelihoodQuestions),
    /// For zsRE: the answer tokens that the model should predict.
    Tokens(zsre::TokenQuestions),
}

/// The MLP key and the value vector of one record at one layer.
#[derive(Clone, Debug)]
pub struct KeyValue {
    /// The MLP key `k*`, `[f]` with f = the size of the MLP's hidden layer.
    pub key: Vec<f32>,
    /// The value vector `v*`, `[d]` with d = the hidden size.
    pub value: Vec<f32>,
    pub converged: bool,
}

pub struct EvalContext<'a> {
    pub project: &'a Project,
    pub base: &'a Base,
    /// The cache of second moments, Cholesky factors and value vectors.
    pub store: &'a Store,
    /// The settings of the project with all defaults filled in: layer, context templates, value optimisation,
    /// statistics.
    pub setup: Setup,
    /// The number of value vectors that were read from the store instead of being computed.
    pub from_store: Cell<usize>,
    /// The trained editors that the benchmark uses.
    pub trained: BTreeMap<EditorName, StoredEditor>,
    /// What the batches of a sequence share; `None` if every edit starts from the base.
    pub(super) sequence: RefCell<Option<SequenceState>>,
    factors: RefCell<BTreeMap<usize, Rc<Factor>>>,
    projectors: RefCell<BTreeMap<usize, Rc<Projector>>>,
}

impl<'a> EvalContext<'a> {
    /// Creates the context from the settings of a project. Statistics are computed later, when an editor needs them.
    ///
    /// # Errors
    /// If no layer is set or published for the base model, or if the context templates or the corpus are invalid or
    /// cannot be read.
    pub fn new(project: &'a Project, base: &'a Base, store: &'a Store) -> Result<Self, Failure> {
        let setup = Setup::new(project, base, store, CorpusDigest::Remembered)?;
        let (factors, projectors) = (RefCell::default(), RefCell::default());
        let (trained, sequence) = (BTreeMap::new(), RefCell::default());
        Ok(Self { project, base, store, setup, from_store: Cell::new(0), trained, sequence, factors, projectors })
    }

    /// Returns the model that is edited: the base, or within a sequence the model with the earlier batches.
    pub(crate) fn model(&self) -> Model {
        self.sequence.borrow().as_ref().map_or_else(|| self.base.model.clone(), |sequence| sequence.model.clone())
    }

    /// Returns the Cholesky factor of a layer's second moment. The first call for a layer computes the factor or reads
    /// it from the store; later calls return the same factor.
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

    pub(crate) fn build_context<'c>(&'c self, setup: &'c Setup, progress: &'c dyn Progress) -> BuildContext<'c> {
        BuildContext { project: self.project, base: self.base, setup, store: self.store, progress }
    }

    /// Returns the null-space projector of AlphaEdit for a layer; `None` if the projector is not cached yet.
    pub(crate) fn projector(&self, layer: usize) -> Option<Rc<Projector>> {
        self.projectors.borrow().get(&layer).map(Rc::clone)
    }

    pub(crate) fn keep_projector(&self, layer: usize, projector: Projector) -> Rc<Projector> {
        let projector = Rc::new(projector);
        self.projectors.borrow_mut().insert(layer, Rc::clone(&projector));
        projector
    }

    /// Tokenizes a record: for the metrics of CounterFact if `likelier` is true, otherwise for the metrics of zsRE.
    ///
    /// # Errors
    /// If the tokenizer rejects a text of the record, or a text is longer than the context of the model.
    pub fn prepare(&self, case: Case, likelier: bool) -> Result<PreparedCase, ResolveError> {
        let (tokens, limit) = (&self.base.tokens, self.base.model.spec().max_positions);
        let fact = Fact {
            subject: &case.subject,
            prompt: &case.prompt,
            target: &case.target,
            chat: false,
            end: self.setup.settings.end,
        };
        let resolved = Resolved::new(tokens, &self.setup.templates, fact, limit)?;
        let questions = self.questions(&case, likelier, "").map_err(ResolveError::from)?;
        let meaning = meaning(&case.subject, &case.prompt, &case.target, (false, None));
        Ok(PreparedCase { case, resolved, meaning, questions })
    }

    /// Tokenizes the prompts and answers of a record, with the text `prefix` before every prompt: for the metrics of
    /// CounterFact if `likelier` is true, otherwise for the metrics of zsRE.
    ///
    /// # Errors
    /// If the tokenizer rejects a text, or a text with its prefix is longer than the context of the model.
    pub fn questions(&self, case: &Case, likelier: bool, prefix: &str) -> Result<CaseQuestions, ModelError> {
        let (tokens, limit) = (&self.base.tokens, self.base.model.spec().max_positions);
        Ok(if likelier {
            CaseQuestions::Likelihoods(counterfact::LikelihoodQuestions::after_prefix(prefix, case, tokens, limit)?)
        } else {
            CaseQuestions::Tokens(zsre::TokenQuestions::after_prefix(prefix, case, tokens, limit)?)
        })
    }

    /// Returns the MLP key and the value vector of a record. They are read from the store, or computed and then stored.
    /// Within a sequence they are computed on the edited model, and not stored. A value that did not converge is stored under a separate address, which `build` never reads.
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
        if self.sequence.borrow().is_some() {
            let Compiled { key, value, converged, .. } = compile_at(&self.model(), layer, resolved, settings, hook);
            return Ok(KeyValue { key, value, converged });
        }
        // An editor may use only the first context templates of the project. `resolved` then has fewer token sequences
        // than the project has templates.
        let templates = &self.setup.templates[..resolved.rows.len().min(self.setup.templates.len())];
        // The argument `false` means that the prompts are not chat messages: dataset records contain plain prompts.
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
