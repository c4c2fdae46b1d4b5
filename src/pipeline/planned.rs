//! Defines a set of edits that is resolved to tokens, with the store addresses of the edits and their entries in the
//! lock.

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

/// An edit with one name of its subject, resolved to tokens.
pub struct PlannedEdit<'a> {
    pub edit: &'a Edit,
    /// The name of the subject that the prompt contains: the subject itself, or one of its aliases.
    pub name: &'a str,
    /// The byte range of the name in the edit file.
    pub span: &'a Range<usize>,
    /// The digest of what the weights depend on: subject, prompt, target and `chat`.
    pub meaning: Digest,
    /// The tokens of the prompt under every context template, the position of the subject's last token in each, and the
    /// tokens of the target.
    pub resolved: Resolved,
    /// The attention sink at the subject's last token in the bare prompt; `None` if that token is not at a sink.
    pub sink: Option<Sink>,
    /// The address of the compiled object in the store; the object may not exist yet.
    pub object: Digest,
}

/// The edits of a project, resolved to the tokens that the base reads.
pub struct Plan<'a> {
    /// One entry per subject name, sorted by the id of the edit. The entries for the aliases of an edit follow the
    /// entry for its subject.
    pub edits: Vec<PlannedEdit<'a>>,
    /// Warnings for the user, for example about subjects at attention sinks.
    pub warnings: Vec<Diagnostic>,
}

impl PlannedEdit<'_> {
    /// Returns the text that is put before the bare prompt so that the subject is not at an attention sink. Returns
    /// `None` if there is no sink, or if no text avoids it.
    pub fn preface(&self) -> Option<&str> {
        self.sink.as_ref()?.preface.as_deref()
    }

    /// Returns the prompt with this name as the subject, after the preface if there is one.
    pub fn filled(&self) -> String {
        [self.preface().unwrap_or_default(), &self.edit.filled_with(self.name)].concat()
    }

    /// Returns the context templates with which the edit is compiled; the preface is part of the first one.
    pub fn templates(&self, setup: &Setup) -> Vec<String> {
        detect::with_preface(&setup.templates, self.preface())
    }

    /// Returns the model input for `filled`, a text from [`PlannedEdit::filled`].
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

    /// Returns the name of the edit for messages: its id, followed by the alias if this entry is for an alias.
    pub fn label(&self) -> String {
        self.edit.label(self.name)
    }

    /// Returns the tokens on which the MLP key depends: for each context template, the tokens up to the last token of
    /// the subject.
    pub(super) fn key_tokens(&self) -> Vec<&[u32]> {
        self.resolved.rows.iter().map(|row| &row.ids[..=row.position]).collect()
    }

    /// Returns whether no value of the edit can change the answer: the edited layer is the last one, and the prompt
    /// continues after the subject. No attention follows the last layer, so a value changes the output only at the
    /// position of the subject.
    pub fn is_out_of_reach(&self, base: &Base, setup: &Setup) -> bool {
        let goes_on = self.resolved.rows.first().is_some_and(|bare| bare.position + 1 < bare.ids.len());
        goes_on && setup.layer + 1 == base.model.spec().layers
    }

    /// Returns the error for an edit whose answer no value can change ([`PlannedEdit::is_out_of_reach`]); `None` for
    /// other edits.
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

    /// Returns the entry of this edit in the lock; `layers` are the layers that the patch changes.
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

    /// Returns the edits in the order in which they are linked: sorted by `meaning`, the digest of subject, prompt,
    /// target and `chat`.
    pub fn by_meaning(&self) -> Vec<&PlannedEdit<'_>> {
        let mut edits: Vec<_> = self.edits.iter().collect();
        edits.sort_by_key(|planned| planned.meaning);
        edits
    }

    /// Returns the lock that a build writes for this plan, these second moments and the patch with this id.
    pub fn lock(&self, base: &Base, setup: &Setup, statistics: Vec<LockedStatistics>, patch: Digest) -> Lock {
        let layers = setup.layers(base);
        let mut edits: Vec<_> = self.edits.iter().map(|planned| planned.lock_entry(base, &layers)).collect();
        // Sorted by id and alias, as in the lock file; the order of the aliases in an edit does not matter.
        edits.sort_by(|a, b| (&a.id, &a.alias).cmp(&(&b.id, &b.alias)));
        let patch = LockedPatch { settings: setup.digest(), set: Lock::set_of(&edits), id: patch };
        Lock { numerics: NUMERICS.to_owned(), base: base.locked.clone(), statistics, edits, patch }
    }

    /// Returns the differences between a lock and the lock that a build would write now, as far as they are known
    /// before the build.
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
        // `fresh` has the statistics of `lock`, so a changed origin (imported or summed) is compared separately.
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
