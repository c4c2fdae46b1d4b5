//! Defines the plan of a build: every edit with its tokens, its store address and its entry in `corrigenda.lock`.

use std::ops::Range;

use super::sinks::detect;
use super::sinks::detect::Sink;
use super::{Base, Setup};
use crate::compile::Resolved;
use crate::diagnostics::{Code, Diagnostic, Failure, Sources};
use crate::digest::Digest;
use crate::model::Prompt;
use crate::numeric::NUMERICS;
use crate::project::{
    Difference, Edit, Lock, LockField, LockItem, LockedEdit, LockedPatch, LockedStatistics, Prefaces,
};

/// A tokenized edit, with its subject or one of its aliases in the prompt.
pub struct PlannedEdit<'a> {
    pub edit: &'a Edit,
    /// The subject of the edit, or the alias that takes its place in the prompt.
    pub name: &'a str,
    /// The byte range of `name` in the edit file.
    pub span: &'a Range<usize>,
    /// The digest of the fields of the edit that affect the patch: subject or alias, prompt, target and `chat`.
    pub meaning: Digest,
    /// The tokens of the prompt with every context template, the position of the subject's last token in each of them,
    /// and the tokens of the target.
    pub resolved: Resolved,
    /// The attention sink at the subject's last token in the prompt without a context template; `None` if there is no
    /// sink.
    pub sink: Option<Sink>,
    /// The store address of the compiled edit, which may not be compiled yet.
    pub object: Digest,
}

/// The tokenized edits of a project, with warnings about them.
pub struct Plan<'a> {
    /// The subjects and aliases of all edits, one item for each. The items are sorted by the id of the edit; within an
    /// edit, the subject comes first.
    pub edits: Vec<PlannedEdit<'a>>,
    /// Warnings for the user, for example about subjects at attention sinks.
    pub warnings: Vec<Diagnostic>,
}

impl PlannedEdit<'_> {
    /// Returns the text that is put before the prompt so that the subject is not at an attention sink. Returns `None`
    /// if there is no sink, or if no text avoids it.
    pub fn preface(&self) -> Option<&str> {
        self.sink.as_ref()?.preface.as_deref()
    }

    /// Returns the prompt with `name` in place of the subject. If the edit needs a preface to avoid an attention sink,
    /// the preface is put before the prompt.
    pub fn filled(&self) -> String {
        [self.preface().unwrap_or_default(), &self.edit.filled_with(self.name)].concat()
    }

    /// Returns the context templates with which the edit is compiled. If the edit needs a preface to avoid an attention
    /// sink, the preface is part of the first template.
    pub fn templates(&self, setup: &Setup) -> Vec<String> {
        detect::with_preface(&setup.templates, self.preface())
    }

    /// Combines `filled` (a text from [`PlannedEdit::filled`]) and the `chat` flag of the edit into the input of the
    /// tokenizer.
    pub fn model_input<'t>(&self, filled: &'t str) -> Prompt<'t> {
        Prompt { text: filled, chat: self.edit.chat }
    }

    /// Returns `name` if it is an alias; `None` if it is the subject itself.
    pub fn alias(&self) -> Option<&str> {
        (self.name != self.edit.subject).then_some(self.name)
    }

    /// Returns the digest of the chat template for a chat edit. For any other edit, returns a constant digest if the
    /// tokenizer would append special tokens, which the program removes from prompts. In all other cases,
    /// `tokenizer.json` alone determines the tokens of the prompt, and the result is `None`.
    pub fn chat_template_digest(&self, base: &Base) -> Option<Digest> {
        // This call cannot fail, because a plan rejects chat edits if the model has no usable chat template.
        base.tokens.reading(self.edit.chat).ok().flatten()
    }

    /// Returns the id of the edit for messages, followed by `name` if that is an alias.
    pub fn label(&self) -> String {
        self.edit.label(self.name)
    }

    /// Returns the tokens on which the MLP key depends: for each context template, the tokens up to the last token of
    /// the subject.
    pub(super) fn key_tokens(&self) -> Vec<&[u32]> {
        self.resolved.rows.iter().map(|row| &row.ids[..=row.position]).collect()
    }

    /// Returns whether the edit cannot change the answer, because the edited layer is the last layer of the model and
    /// the prompt continues after the subject. The edit changes the residual stream only at the subject. Only the
    /// attention of a later layer could carry this change to the following tokens.
    pub fn is_out_of_reach(&self, base: &Base, setup: &Setup) -> bool {
        let goes_on = self.resolved.rows.first().is_some_and(|bare| bare.position + 1 < bare.ids.len());
        goes_on && setup.layer + 1 == base.model.spec().layers
    }

    /// Returns an error if [`PlannedEdit::is_out_of_reach`] is true; `None` otherwise.
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

    pub(super) fn warnings(&self, base: &Base) -> Vec<Diagnostic> {
        let mut found = Vec::new();
        let Self { edit, name, resolved, .. } = self;
        let (spans, filled, start) = (&edit.spans, edit.filled_with(name), edit.before_subject().len());
        if let Some((other, _)) = filled.match_indices(name).find(|(at, _)| *at != start) {
            let side = if other < start { "before" } else { "after" };
            let message = format!("edit `{}`: the subject also occurs {side} `{{}}`", edit.id);
            found.push(
                Diagnostic::new(Code::SubjectRepeated, message)
                    .at(spans.file, &spans.prompt, "here")
                    .with(spans.file, self.span, "the subject")
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
                    .with(spans.file, self.span, "the subject")
                    .help("the edit then holds for this spelling only; put a space or a word after `{}` if you can"),
            );
        }
        found
    }

    /// Returns the entry of this edit in `corrigenda.lock`; `layers` are the layers that the patch changes.
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
    /// Rejects edits that cannot change the answer (see [`PlannedEdit::is_out_of_reach`]).
    ///
    /// # Errors
    /// If the edited layer is the last layer of the model and prompts continue after their subjects; there is one error
    /// per such edit.
    pub fn check_reach(&self, base: &Base, setup: &Setup, sources: &Sources) -> Result<(), Failure> {
        let findings: Vec<_> = self.edits.iter().filter_map(|planned| planned.out_of_reach(base, setup)).collect();
        if findings.is_empty() { Ok(()) } else { Err(Failure::invalid(findings, sources)) }
    }

    /// Returns the prefaces of the edits: texts that are put before prompts to keep the subjects away from attention
    /// sinks.
    pub fn prefaces(&self) -> Prefaces {
        let stated = self.edits.iter().filter_map(|one| Some((one.edit.id.as_str(), one.name, one.preface()?)));
        stated.collect()
    }

    /// Returns the edits in the order in which they are linked: sorted by `meaning`, the digest of subject, prompt,
    /// target and `chat`.
    pub fn by_meaning(&self) -> Vec<&PlannedEdit<'_>> {
        let mut edits: Vec<_> = self.edits.iter().collect();
        edits.sort_by_key(|planned| planned.meaning);
        edits
    }

    /// Returns the content of `corrigenda.lock` after a build of this plan. `statistics` are the entries for the second
    /// moments of the MLP keys, and `patch` is the id of the patch.
    pub fn lock(&self, base: &Base, setup: &Setup, statistics: Vec<LockedStatistics>, patch: Digest) -> Lock {
        let layers = setup.layers(base);
        let mut edits: Vec<_> = self.edits.iter().map(|planned| planned.lock_entry(base, &layers)).collect();
        // `corrigenda.lock` lists the edits by id and alias. The order of the aliases in an edit file does not change
        // the lock.
        edits.sort_by(|a, b| (&a.id, &a.alias).cmp(&(&b.id, &b.alias)));
        let patch = LockedPatch { settings: setup.digest(), set: Lock::set_of(&edits), id: patch };
        Lock { numerics: NUMERICS.to_owned(), base: base.locked.clone(), statistics, edits, patch }
    }

    /// Returns the differences between `lock` and the `corrigenda.lock` that a build would write now. The id of the
    /// patch and the digests of the second moments are not compared, because they are known only after the build.
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
        // `fresh` copies the second moments of `lock`, so `lock.differences` never reports a different origin of a
        // second moment (imported, or computed from the corpus). The origins are compared here.
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
