//! Tries the edits of a project at one layer. Each edit is compiled and linked alone, and tested on its own prompts,
//! its paraphrases and its neighbours. The results are cached in the store by digests of their inputs.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::best_layer::{LayerResult, Shares};
use crate::behaviour::PromptKind;
use crate::behaviour::ask::{BaselineRun, Inquiry};
use crate::behaviour::expectation::{
    Expectation, SetFigures, Share, UnrunnablePrompt, check_finite_answers, expectations, inquiries,
};
use crate::diagnostics::{Code, Diagnostic, Failure};
use crate::digest::{Digest, FieldHasher};
use crate::numeric::NUMERICS;
use crate::pipeline::objects::{Objects, gather};
use crate::pipeline::plan_linker::PlanLinker;
use crate::pipeline::policy_limits::{thresholds, unrunnable_error};
use crate::pipeline::sinks::detect;
use crate::pipeline::statistics::factor;
use crate::pipeline::{Base, BuildContext, Plan, Setup, plan};
use crate::progress::Progress;
use crate::project::{Edit, Prefaces, Project};
use crate::stats::CachedStatistics;
use crate::store::{EntryKind, Store, StoreError};

/// The number of edits that are compiled first at a layer. If no value vector is found for any of them, the remaining
/// edits are not compiled.
pub const FIRST: usize = 8;

/// The maximum number of log-probabilities of the base that are cached in memory across layers: 512 MiB of `f64`.
const MAX_CACHED_NUMBERS: usize = 1 << 26;

/// The edits of a project to try at several layers, and the cached results of the unedited base on the prompts of these
/// edits.
pub struct LayerTrials<'a> {
    project: &'a Project,
    base: &'a Base,
    store: &'a Store,
    progress: &'a dyn Progress,
    /// The results of the unedited base on the prompts of an edit, by the index of the edit. These results are the same
    /// for every edited layer.
    before: RefCell<BTreeMap<usize, BaselineRun>>,
}

impl<'a> LayerTrials<'a> {
    pub fn new(project: &'a Project, base: &'a Base, store: &'a Store, progress: &'a dyn Progress) -> Self {
        Self { project, base, store, progress, before: RefCell::default() }
    }

    /// Compiles, links and tests each edit alone at the layer of `setup`, or reads the results from the store. `cached`
    /// has the second moment of the layer's MLP keys. The returned flag is true if the results were read from the
    /// store.
    ///
    /// # Errors
    /// If the second moment cannot be factorised, a text of an edit cannot be tokenized, an edited weight or an output
    /// is not finite, or the store cannot be read or written.
    pub fn at(&self, setup: &Setup, cached: &CachedStatistics) -> Result<(LayerResult, bool), Failure> {
        let address = self.address(setup, cached)?;
        let edits = self.project.edits.edits.len();
        let cached_result = self.store.recall(EntryKind::Report, &address, |bytes| {
            let tried: Option<LayerResult> = serde_json::from_slice(bytes).ok();
            tried.filter(|tried| tried.layer == setup.layer && tried.edits.len() == edits)
        })?;
        if let Some(tried) = cached_result {
            return Ok((tried, true));
        }
        let tried = self.compute(setup, cached)?;
        let bytes = serde_json::to_vec(&tried).expect("counts can be serialized");
        self.store.put(EntryKind::Report, &address, &bytes)?;
        Ok((tried, false))
    }

    /// Returns the store address of a layer's results, a digest of all their inputs.
    fn address(&self, setup: &Setup, cached: &CachedStatistics) -> Result<Digest, Failure> {
        let (project, mut hasher) = (self.project, FieldHasher::new("layer-tried/1"));
        hasher.text("numerics", NUMERICS).digest("base", &self.base.locked.digest);
        hasher.digest("settings", &setup.digest()).digest("statistics", &cached.content);
        let thresholds = thresholds(&project.config);
        hasher.float("unchanged-kl", thresholds.unchanged_kl).float("min-probability", thresholds.min_probability);
        let starts = detect::candidate_prefaces(self.base);
        hasher.texts("prefaces", starts.iter().map(String::as_str));
        hasher.number("first", FIRST as u64).number("edits", project.edits.edits.len() as u64);
        for edit in &project.edits.edits {
            hasher.digest("expectation", &edit.expectation());
            for (name, _) in edit.names() {
                hasher.digest("meaning", &edit.meaning_of(name));
            }
        }
        if project.edits.edits.iter().any(|edit| edit.chat) {
            let chat = self.base.tokens.chat().map_err(|error| {
                let finding = Diagnostic::new(Code::ChatUnusable, error.to_string());
                Failure::from(finding).with_sources(&project.edits.sources)
            })?;
            hasher.digest("chat", chat.digest());
        }
        Ok(hasher.finish())
    }

    fn compute(&self, setup: &Setup, cached: &CachedStatistics) -> Result<LayerResult, Failure> {
        let (project, base) = (self.project, self.base);
        let edits = &project.edits.edits;
        let mut plan = plan(project, base, setup, self.store)?;
        let (factor, _) = factor(self.context(setup), cached)?;
        let (objects, compiled) = self.compile(setup, &mut plan)?;
        // An edit needs one value vector for its subject and one for each alias. It fails if any of them is missing.
        let lacks =
            |edit: &Edit| plan.edits.iter().any(|one| one.edit.id == edit.id && !objects.contains_key(&one.meaning));
        let refused: Vec<bool> = edits.iter().map(lacks).collect();
        let position = |id: &str| edits.iter().position(|edit| edit.id == id);
        plan.edits.retain(|one| position(&one.edit.id).is_some_and(|index| !refused[index]));
        let prefaces = plan.prefaces();
        let linker = PlanLinker::new(&project.edits.sources, base, setup, &plan, &objects, &factor);
        let mut shares = Vec::with_capacity(edits.len());
        self.progress.begin("edits to try", edits.len() as u64);
        for (index, edit) in edits.iter().enumerate() {
            let alone =
                if refused[index] { Ok(none_hold(edit)) } else { self.try_edit(&linker, &prefaces, index, edit) };
            shares.push(alone.inspect_err(|_| self.progress.end())?);
            self.progress.set_position(index as u64 + 1);
        }
        self.progress.end();
        let untried = edits.len() - compiled;
        let refused = refused.iter().filter(|refused| **refused).count();
        Ok(LayerResult::new(setup.layer, shares, refused, untried))
    }

    /// Compiles the edits. Returns the compiled edits, and the number of edits that were tried. If no value vector is
    /// found for any of the first [`FIRST`] edits, the remaining edits are not tried.
    fn compile(&self, setup: &Setup, plan: &mut Plan<'_>) -> Result<(Objects, usize), StoreError> {
        let edits = &self.project.edits.edits;
        // If the edited layer is the last one and the prompt continues after the subject, no value can change the
        // answer. The optimisation is skipped for such edits.
        let mut beyond: Vec<_> = plan.edits.extract_if(.., |one| one.is_out_of_reach(self.base, setup)).collect();
        let first: usize = edits.iter().take(FIRST).map(|edit| edit.names().count()).sum();
        let mut rest = Plan { edits: plan.edits.split_off(first.min(plan.edits.len())), warnings: Vec::new() };
        let mut objects = self.gather(setup, plan)?;
        let given_up = objects.is_empty() && !rest.edits.is_empty();
        if !given_up {
            objects.extend(self.gather(setup, &rest)?);
        }
        plan.edits.append(&mut rest.edits);
        plan.edits.append(&mut beyond);
        Ok((objects, if given_up { FIRST } else { edits.len() }))
    }

    fn context<'s>(&'s self, setup: &'s Setup) -> BuildContext<'s> {
        BuildContext { project: self.project, base: self.base, setup, store: self.store, progress: self.progress }
    }

    fn gather(&self, setup: &Setup, plan: &Plan<'_>) -> Result<Objects, StoreError> {
        Ok(gather(self.context(setup), plan)?.objects)
    }

    fn try_edit(
        &self,
        linker: &PlanLinker<'_>,
        prefaces: &Prefaces,
        index: usize,
        edit: &Edit,
    ) -> Result<Shares, Failure> {
        let (project, base) = (self.project, self.base);
        let edits = linker.edits().iter().enumerate();
        let chosen: Vec<usize> = edits.filter(|(_, one)| one.edit.id == edit.id).map(|(at, _)| at).collect();
        let linked = linker.link_subset(&chosen)?;
        let patched = base.patched(&linked.patch).map_err(|error| {
            Failure::from(Diagnostic::new(Code::NotFinite, error.to_string())).with_sources(&project.edits.sources)
        })?;
        let mut list = expectations(&[edit], &[], prefaces);
        // The score of a layer does not depend on consequences.
        list.retain(|one| one.kind != PromptKind::Consequence);
        let cannot = |unrunnable: Vec<UnrunnablePrompt>| unrunnable_error(project, &unrunnable);
        let inquiries = inquiries(&base.tokens, base.model.spec().max_positions, &list).map_err(cannot)?;
        let pairs = self.before(index, &inquiries, |before| before.against(&patched, &inquiries));
        let pairs = check_finite_answers(pairs, &list).map_err(cannot)?;
        let asked: Vec<(&Expectation<'_>, _)> = list.iter().zip(&pairs).collect();
        let SetFigures { efficacy, paraphrase, unchanged, .. } = SetFigures::of(asked, thresholds(&project.config));
        Ok(Shares { efficacy, paraphrase, unchanged })
    }

    /// Calls the function `with` on the base's results for the prompts of the edit at `index`. Results that are not in
    /// the cache are computed, and then cached unless the cache would hold more than [`MAX_CACHED_NUMBERS`] numbers.
    fn before<T>(&self, index: usize, inquiries: &[Inquiry], with: impl FnOnce(&BaselineRun) -> T) -> T {
        if let Some(before) = self.before.borrow().get(&index) {
            return with(before);
        }
        let before = BaselineRun::of(&self.base.model, inquiries);
        let out = with(&before);
        let mut baselines = self.before.borrow_mut();
        if baselines.values().map(BaselineRun::numbers).sum::<usize>() + before.numbers() <= MAX_CACHED_NUMBERS {
            baselines.insert(index, before);
        }
        out
    }
}

/// Returns the shares of an edit without a value vector: its prompts and paraphrases fail, and its neighbours are not
/// counted.
fn none_hold(edit: &Edit) -> Shares {
    let none = |all: usize| Share { met: 0, all };
    Shares {
        efficacy: none(edit.names().count()),
        paraphrase: none(edit.expect.paraphrase.len()),
        unchanged: Share::default(),
    }
}
