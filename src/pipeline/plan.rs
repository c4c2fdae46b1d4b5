//! Resolves every edit to the tokens that the model reads, before anything is compiled.

use std::collections::BTreeMap;
use std::ops::Range;

use super::sinks::detect;
use super::sinks::detect::{ResidualNorms, Sink};
use super::sinks::prefaces;
use super::{Base, Setup};
use crate::behaviour::Question;
use crate::behaviour::ask::Inquiry;
use crate::behaviour::expectation::expectations;
use crate::compile::object::address;
use crate::compile::{Fact, ResolveError, Resolved};
use crate::diagnostics::{Code, Diagnostic, Failure, Sources, most_similar};
use crate::digest::Digest;
use crate::model::{ModelError, Prompt};
use crate::numeric::NUMERICS;
use crate::project::{
    Difference, Edit, Lock, LockField, LockItem, LockedEdit, LockedPatch, LockedStatistics, Prefaces, Probe, Project,
    pairs,
};
use crate::store::Store;

/// An edit with one name of its subject, resolved to tokens.
pub struct Planned<'a> {
    pub edit: &'a Edit,
    /// The name: the subject, or one of its aliases.
    pub name: &'a str,
    /// The place of the name in the source file.
    pub place: &'a Range<usize>,
    /// The digest of what the weights depend on: subject, prompt, target and `chat`.
    pub meaning: Digest,
    /// The tokens of the prompt under every context template, the position of the subject's last token in each, and the
    /// tokens of the target.
    pub resolved: Resolved,
    /// The attention sink at the subject's last token in the bare prompt; `None` if there is none.
    pub sink: Option<Sink>,
    /// The address of the compiled object in the store; the object may not exist yet.
    pub object: Digest,
}

/// A resolved set of edits.
pub struct Plan<'a> {
    /// The edits by id; the aliases of an edit follow its subject.
    pub edits: Vec<Planned<'a>>,
    /// Warnings for the user, for example about subjects at attention sinks.
    pub warnings: Vec<Diagnostic>,
}

/// Resolves every edit of the project.
///
/// # Errors
/// If the model cannot read an edit (all such edits are reported together), or the store fails.
pub fn plan<'a>(project: &'a Project, base: &Base, setup: &Setup, store: &Store) -> Result<Plan<'a>, Failure> {
    let mut plan = Plan { edits: Vec::new(), warnings: Vec::new() };
    let mut errors = Vec::new();
    for edit in &project.edits.edits {
        let before = errors.len();
        for (name, place) in edit.names() {
            match planned(edit, name, place, base, setup) {
                Ok(planned) => plan.edits.push(planned),
                Err(error) => {
                    errors.push(unresolved(edit, place, &error));
                    // A chat template that fails for one name usually fails for all of them.
                    if matches!(error, ResolveError::Model(ModelError::Chat { .. })) {
                        break;
                    }
                }
            }
        }
        // An edit that cannot be resolved already has an error.
        if errors.len() == before {
            errors.extend(unrunnable(Some(edit), &[], base));
        }
    }
    errors.extend(unrunnable(None, &project.probes, base));
    if errors.is_empty() {
        let norms = ResidualNorms::new(base, setup, store);
        prefaces::choose_prefaces(&mut plan.edits, base, setup, &norms)?;
        plan.warnings = prefaces::warnings(&plan, base, setup, &norms)?;
    }
    plan.warnings.extend(plan.edits.iter().flat_map(|planned| planned.warnings(base)));
    if setup.ridge.unwrap_or(0.0) == 0.0 {
        errors.extend(identical_keys(&plan));
    }
    if errors.is_empty() {
        return Ok(plan);
    }
    errors.append(&mut plan.warnings);
    crate::diagnostics::sort(&mut errors);
    Err(Failure::invalid(errors, &project.edits.sources))
}

fn planned<'a>(
    edit: &'a Edit,
    name: &'a str,
    place: &'a Range<usize>,
    base: &Base,
    setup: &Setup,
) -> Result<Planned<'a>, ResolveError> {
    let Setup { layer, templates, settings, .. } = setup;
    let fact = Fact { subject: name, prompt: &edit.prompt, target: &edit.target, chat: edit.chat };
    let resolved = Resolved::new(&base.tokens, templates, fact, base.model.spec().max_positions)?;
    let reading = base.tokens.reading(edit.chat)?;
    let meaning = edit.meaning_of(name);
    let object = address(&base.locked.digest, reading.as_ref(), &meaning, *layer, templates, settings);
    Ok(Planned { edit, name, place, meaning, resolved, sink: None, object })
}

fn unresolved(edit: &Edit, name: &Range<usize>, error: &ResolveError) -> Diagnostic {
    let spans = &edit.spans;
    let message = format!("edit `{}`: {error}", edit.id);
    match error {
        ResolveError::NoToken { .. } | ResolveError::Places { .. } => Diagnostic::new(Code::SubjectUnresolved, message)
            .at(spans.file, name, "no token covers its last character")
            .help("the key of an edit is taken at the subject's last token: check the tokenizer, or reword"),
        ResolveError::TooLong { .. } => Diagnostic::new(Code::PromptTooLong, message)
            .at(spans.file, &spans.prompt, "with a context template before it and the target after it")
            .help("shorten the prompt"),
        ResolveError::Model(ModelError::Chat { .. }) => {
            without_chat(message).at(spans.file, spans.chat.as_ref().unwrap_or(&spans.prompt), "asked in a chat")
        }
        ResolveError::EmptyTarget(_) | ResolveError::Model(_) => {
            Diagnostic::new(Code::TargetUnresolved, message).at(spans.file, &spans.target, "cannot be tokenized")
        }
    }
}

/// Returns the error for a prompt in a chat when the model has no usable chat template.
fn without_chat(message: String) -> Diagnostic {
    Diagnostic::new(Code::ChatUnusable, message).help(
        "use `chat` only for models that were trained to chat, with the template of that training; leave it out for \
               others",
    )
}

/// Returns errors for the old answer and the expectations of an edit, or for the probes, that this model cannot
/// evaluate.
fn unrunnable(edit: Option<&Edit>, probes: &[Probe], base: &Base) -> Vec<Diagnostic> {
    let (limit, tokens) = (base.model.spec().max_positions, &base.tokens);
    let edits: Vec<&Edit> = edit.into_iter().collect();
    let mut found: Vec<Diagnostic> = Vec::new();
    let what = if edit.is_some() { "edit" } else { "probe" };
    let mut note = |id: &str, error: ModelError, file, span: &Range<usize>| {
        let message = format!("{what} `{id}`: {error}");
        let finding = match error {
            ModelError::Chat { .. } => without_chat(message),
            _ => Diagnostic::new(Code::PromptTooLong, message).help("shorten the text"),
        };
        let finding = finding.at(file, span, "cannot be evaluated");
        found.push(match edit.and_then(|edit| edit.spans.chat.as_ref()) {
            Some(chat) => finding.with(file, chat, "it is asked in a chat"),
            None => finding,
        });
    };
    for edit in &edits {
        for (was, span) in edit.was.iter().zip(&edit.spans.was) {
            let asked = edit.names().map(|(name, _)| {
                Question::new(tokens, Prompt { text: &edit.filled_with(name), chat: edit.chat }, was, limit)
            });
            if let Some(error) = asked.filter_map(Result::err).next() {
                note(&edit.id, error, edit.spans.file, span);
            }
        }
    }
    for one in expectations(&edits, probes, &Prefaces::default()) {
        if let Err(error) = Inquiry::new(tokens, one.model_input(), one.answers.iter().copied(), limit) {
            note(one.id, error, one.file, &one.place);
        }
    }
    found
}

/// Returns the warning that the base does not predict `was`, which is written at `span`; `label` describes what it
/// predicts instead.
pub fn base_disagrees(edit: &Edit, was: &str, span: &Range<usize>, label: impl Into<String>) -> Diagnostic {
    let message = format!("edit `{}`: the base does not say {was:?}", edit.id);
    Diagnostic::new(Code::BaseDisagrees, message)
        .at(edit.spans.file, span, label)
        .help("correct `was`, or reword the prompt as the training text may have it")
}

/// Returns a finding for every pair of edits with identical keys: the model reads the same tokens up to the subject's
/// last one under every context template. `corrigenda check` only compares texts, so it misses some of these pairs.
/// Without a ridge, the link would reject them after everything was computed.
fn identical_keys(plan: &Plan<'_>) -> Vec<Diagnostic> {
    let mut groups: BTreeMap<Vec<&[u32]>, Vec<&Planned<'_>>> = BTreeMap::new();
    for planned in &plan.edits {
        groups.entry(planned.key_tokens()).or_default().push(planned);
    }
    let mut findings = Vec::new();
    for (first, second) in groups.values().flat_map(|group| pairs(group)) {
        let (edit, other) = (second.edit, first.edit);
        let message = format!("edits `{}` and `{}` have the same key: cosine 1", other.id, edit.id);
        let finding = Diagnostic::new(Code::ParallelKeys, message)
            .at(edit.spans.file, second.place, "the model reads the same tokens up to here")
            .with(other.spans.file, first.place, "and up to here")
            .help("a key has one value: leave one of the edits out, or begin its prompt with other words")
            .help("or set `ridge` under `[link]`: then both hold in part");
        findings.push(finding);
    }
    findings
}

impl Planned<'_> {
    /// Returns the text that is put before the bare prompt to avoid an attention sink; `None` if there is no sink or no
    /// text avoids it.
    pub fn preface(&self) -> Option<&str> {
        self.sink.as_ref()?.preface.as_deref()
    }

    /// Returns the prompt with this name in it, after the preface if there is one.
    pub fn filled(&self) -> String {
        [self.preface().unwrap_or_default(), &self.edit.filled_with(self.name)].concat()
    }

    /// Returns the context templates with which the edit is compiled, the preface included.
    pub fn templates(&self, setup: &Setup) -> Vec<String> {
        detect::with_preface(&setup.templates, self.preface())
    }

    /// Returns the model input for a text from [`Planned::filled`].
    pub fn model_input<'t>(&self, filled: &'t str) -> Prompt<'t> {
        Prompt { text: filled, chat: self.edit.chat }
    }

    /// Returns the alias of the subject; `None` for the subject itself.
    pub fn alias(&self) -> Option<&str> {
        (self.name != self.edit.subject).then_some(self.name)
    }

    /// Returns the digest of the chat template with which the prompts are tokenized; `None` if the edit is not in a
    /// chat. All other inputs of the tokenization are files of the base.
    pub fn chat_template_digest(&self, base: &Base) -> Option<Digest> {
        // An edit with an unusable template was rejected when it was resolved.
        base.tokens.reading(self.edit.chat).ok().flatten()
    }

    /// Returns the id of the edit, with the alias if there is one.
    pub fn label(&self) -> String {
        self.edit.label(self.name)
    }

    /// Returns the tokens on which the key depends: for each row, those up to the subject's last one.
    fn key_tokens(&self) -> Vec<&[u32]> {
        self.resolved.rows.iter().map(|row| &row.ids[..=row.position]).collect()
    }

    /// Returns whether no value can change the answer: the edited layer is the last, and the prompt continues after the
    /// subject. No attention follows the last layer, so a value changes the output at its own position only.
    pub fn is_out_of_reach(&self, base: &Base, setup: &Setup) -> bool {
        let goes_on = self.resolved.rows.first().is_some_and(|bare| bare.position + 1 < bare.ids.len());
        goes_on && setup.layer + 1 == base.model.spec().layers
    }

    /// Returns the finding for an edit whose answer no value can change.
    fn out_of_reach(&self, base: &Base, setup: &Setup) -> Option<Diagnostic> {
        if !self.is_out_of_reach(base, setup) {
            return None;
        }
        let last = setup.layer;
        let message = format!(
            "edit `{}`: layer {last} is the model's last, and a value there reaches no token after the subject",
            self.label()
        );
        let spans = &self.edit.spans;
        Some(
            Diagnostic::new(Code::LayerLast, message)
                .at(
                    spans.file,
                    &spans.prompt,
                    if self.edit.chat {
                        "the chat template continues after it"
                    } else {
                        "the prompt continues after the subject"
                    },
                )
                .help("edit a lower layer: run `corrigenda trace --suggest-layer` to measure the best one"),
        )
    }

    fn warnings(&self, base: &Base) -> Vec<Diagnostic> {
        let mut found = Vec::new();
        let Self { edit, name, resolved, .. } = self;
        let (spans, filled, start) = (&edit.spans, edit.filled_with(name), edit.before_subject().len());
        if let Some((other, _)) = filled.match_indices(name).find(|(at, _)| *at != start) {
            let side = if other < start { "before" } else { "after" };
            let message = format!("edit `{}`: the subject also occurs {side} `{{}}`", edit.id);
            found.push(
                Diagnostic::new(Code::SubjectRepeated, message)
                    .at(spans.file, &spans.prompt, "here")
                    .with(spans.file, self.place, "the subject")
                    .help("the key is taken at `{}`; name the subject only once in the prompt if you can"),
            );
        }
        if let Some(row) = resolved.rows.iter().find(|row| row.merged) {
            let piece = base.tokens.piece(row.ids[row.position]);
            let message =
                format!("edit `{}`: the subject's last token {piece:?} also covers the text after it", edit.id);
            found.push(
                Diagnostic::new(Code::SubjectMerged, message)
                    .at(spans.file, &spans.prompt, "the tokenizer joins the subject to this")
                    .with(spans.file, self.place, "the subject")
                    .help("the edit then holds for this spelling only; put a space or a word after `{}` if you can"),
            );
        }
        found
    }

    /// Returns the edit as the lock records it.
    pub fn lock_entry(&self, base: &Base, layers: &[usize]) -> LockedEdit {
        let bare = &self.resolved.rows[0];
        LockedEdit {
            id: self.edit.id.clone(),
            alias: self.alias().map(str::to_owned),
            preface: self.preface().map(str::to_owned),
            meaning: self.meaning,
            expectation: self.edit.expectation(),
            record: self.edit.record(),
            tokens: base.tokens.pieces(&bare.ids),
            target_tokens: base.tokens.pieces(&self.resolved.target),
            position: bare.position as u64,
            layers: layers.iter().map(|layer| *layer as u64).collect(),
            object: self.object,
        }
    }
}

impl Plan<'_> {
    /// Rejects edits whose answer no value can change.
    ///
    /// # Errors
    /// If the edited layer is the last and prompts continue after their subjects: one finding per edit.
    pub fn check_reach(&self, base: &Base, setup: &Setup, sources: &Sources) -> Result<(), Failure> {
        let findings: Vec<_> = self.edits.iter().filter_map(|planned| planned.out_of_reach(base, setup)).collect();
        if findings.is_empty() { Ok(()) } else { Err(Failure::invalid(findings, sources)) }
    }

    /// Returns the prefaces of all edits that have one.
    pub fn prefaces(&self) -> Prefaces {
        let stated = self.edits.iter().filter_map(|one| Some((one.edit.id.as_str(), one.name, one.preface()?)));
        stated.collect()
    }

    /// Returns the edits in the order in which they are linked: by the digest of their meaning.
    pub fn by_meaning(&self) -> Vec<&Planned<'_>> {
        let mut edits: Vec<_> = self.edits.iter().collect();
        edits.sort_by_key(|planned| planned.meaning);
        edits
    }

    /// Returns the lock of this plan with these statistics and this patch.
    pub fn lock(&self, base: &Base, setup: &Setup, statistics: Vec<LockedStatistics>, patch: Digest) -> Lock {
        let layers = setup.layers(base);
        let mut edits: Vec<_> = self.edits.iter().map(|planned| planned.lock_entry(base, &layers)).collect();
        // Sorted by id and alias, as in the lock file; the order of the aliases in an edit does not matter.
        edits.sort_by(|a, b| (&a.id, &a.alias).cmp(&(&b.id, &b.alias)));
        let patch = LockedPatch { settings: setup.digest(), set: Lock::set_of(&edits), id: patch };
        Lock { numerics: NUMERICS.to_owned(), base: base.locked.clone(), statistics, edits, patch }
    }
}

impl Plan<'_> {
    /// Returns every difference between a lock and what a build would write now, as far as it is known before a build.
    pub fn differences(&self, lock: &Lock, base: &Base, setup: &Setup) -> Vec<Difference> {
        let fresh = self.lock(base, setup, lock.statistics.clone(), lock.patch.id);
        let mut differences = lock.differences(&fresh);
        let corpus = setup.provenance.corpus;
        let other = lock.statistics.iter().filter(|locked| locked.corpus != corpus);
        differences.extend(other.map(|locked| Difference {
            item: LockItem::Statistics(locked.layer),
            field: LockField::Corpus,
            locked: locked.corpus.to_string(),
            fresh: corpus.to_string(),
        }));
        // Whether statistics are imported or summed is recorded in the lock by the next build.
        differences.extend(lock.statistics.iter().filter_map(|locked| {
            let current = setup.for_layer(usize::try_from(locked.layer).ok()?).provenance.imported;
            let origin = |file: Option<Digest>| file.map_or_else(|| "summed".to_owned(), |file| file.to_string());
            (current != locked.imported).then(|| Difference {
                item: LockItem::Statistics(locked.layer),
                field: LockField::Imported,
                locked: origin(locked.imported),
                fresh: origin(current),
            })
        }));
        differences
    }
}

/// Returns the edits with these ids, or all edits if the list is empty.
///
/// # Errors
/// If an id is not that of an edit in the set.
pub fn only<'e>(project: &'e Project, ids: &[String]) -> Result<Vec<&'e Edit>, Failure> {
    let unknown: Vec<_> = ids.iter().filter(|id| project.edits.get(id).is_none()).collect();
    if !unknown.is_empty() {
        let finding = |id: &&String| {
            if let Some(why) = project.edits.written().get(id.as_str()).and_then(|edit| edit.parked.as_ref()) {
                let message = format!("edit `{id}` is parked: {why}");
                return Diagnostic::new(Code::UnknownId, message).help("a parked fact is not part of the set");
            }
            let finding = Diagnostic::new(Code::UnknownId, format!("no edit has the id `{id}`"));
            let near = most_similar(id, project.edits.edits.iter().map(|edit| edit.id.as_str()));
            finding.suggest(near, "`corrigenda plan` lists the ids")
        };
        return Err(Failure::invalid(unknown.iter().map(finding).collect(), &Sources::default()));
    }
    Ok(project.edits.edits.iter().filter(|edit| ids.is_empty() || ids.contains(&edit.id)).collect())
}
