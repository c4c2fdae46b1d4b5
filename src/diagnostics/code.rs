//! Defines the codes of findings in one table, with their default severities.
//!
//! Users filter findings by code, so a code is never renamed and its meaning never changes.

use std::fmt;

use schemars::JsonSchema;
use serde::{Serialize, Serializer};

/// The severity of a finding: an error prevents a build, a warning does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// The project cannot be built until the finding is fixed.
    Error,
    /// The user should look at the finding, but it does not stop a build.
    Warning,
}

impl Severity {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// The default severity of a code, and whether a policy may change it.
enum Weight {
    /// An error that a policy can neither hide nor make a warning, because the input is invalid or cannot be used.
    Error,
    /// A warning by default; a policy may make it an error or hide it.
    Warning,
    /// An error by default; a policy may make it a warning or hide it.
    Rule,
}

impl Weight {
    fn severity(self) -> Severity {
        match self {
            Self::Error | Self::Rule => Severity::Error,
            Self::Warning => Severity::Warning,
        }
    }
}

/// Declares every code once: variant, public name, [`Weight`], and a sentence that says when the finding is reported.
macro_rules! codes {
    ($($variant:ident $name:literal $severity:ident $description:literal)*) => {
        /// The stable identifier of a type of finding, such as `duplicate-id`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Code { $(#[doc = $description] $variant,)* }

        impl Code {
            /// All codes, in the order in which they are declared.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Returns the public name in kebab case, such as `duplicate-id`.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Returns a sentence that says when a finding with this code is reported.
            pub fn description(self) -> &'static str {
                match self { $(Self::$variant => $description,)* }
            }

            /// Returns the default severity. A policy may change it if [`Code::is_adjustable`] returns true.
            pub fn severity(self) -> Severity {
                match self { $(Self::$variant => Weight::$severity.severity(),)* }
            }

            /// Returns whether the project's policy may change the severity. The severity is fixed if the
            /// finding means that the input is invalid or cannot be used, or if it is about the store.
            pub fn is_adjustable(self) -> bool {
                // The store is not part of the project, so the project's policy does not apply to it.
                let own = self != Self::StoreDamaged;
                match self { $(Self::$variant => own && !matches!(Weight::$severity, Weight::Error),)* }
            }
        }
    };
}

codes! {
    ProjectMissing "project-missing" Error "There is no corrigenda.toml in the folder."
    ProjectExists "project-exists" Error "A file that would be written already exists."
    NoEdits "no-edits" Error "The folder of edits is missing or contains no edit, and no edit has been built yet."
    FactsWithdrawn "facts-withdrawn" Warning "No fact is declared, but the lock lists some: a build withdraws them."
    PathOutside "path-outside" Error "A path is outside the project's folder, or is that folder."
    FileUnreadable "file-unreadable" Error "A file or folder could not be read."
    FileIgnored "file-ignored" Warning "A file in the folder of edits seems to contain facts, but is not read."
    FileIrregular "file-irregular" Error "A symbolic link or a special file was found where a regular file is needed."
    FileTooLarge "file-too-large" Error "A file is larger than one mebibyte, or holds too many values, and was not read."
    InvalidUtf8 "invalid-utf8" Error "A file is not UTF-8 text."
    Syntax "syntax" Error "A file is not valid TOML."
    UnknownKey "unknown-key" Error "A key is unknown to this version."
    MissingKey "missing-key" Error "A required key is missing."
    WrongType "wrong-type" Error "A value does not have the type that its key requires."
    OutOfRange "out-of-range" Error "A number, or the length of a list, is outside the allowed range."
    UnsupportedFormat "unsupported-format" Error "A file has a format that this version does not support."
    TooManyEdits "too-many-edits" Error "The project has more edits than a set can hold."
    TextTooLong "text-too-long" Error "A text is longer than 4096 bytes."
    EmptyText "empty-text" Error "A required text is empty, or only white space."
    ControlCharacter "control-character" Error "A text holds a control character or a line break."
    BidiCharacter "bidi-character" Warning "A text contains an invisible character that changes its displayed order."
    NotNormalised "not-normalised" Warning "A text is not in Unicode normal form C."
    BadId "bad-id" Error "An id holds characters other than a-z, 0-9, dot and hyphen, or is too long."
    DuplicateId "duplicate-id" Error "Two edits have the same id."
    DuplicateEdit "duplicate-edit" Error "Two edits have the same prompt, subject and target."
    Contradiction "contradiction" Error "Two edits require different targets after the same prompt."
    SubjectWhitespace "subject-whitespace" Error "A subject begins or ends with white space."
    SharedSubject "shared-subject" Warning "Two edits have the same subject, so their keys are similar."
    DuplicateAlias "duplicate-alias" Error "An alias repeats another name of the subject."
    TrailingSpace "trailing-space" Warning "A prompt ends in white space, which belongs to the answer that follows."
    PlaceholderMissing "placeholder-missing" Error "A prompt has no {} for the subject."
    PlaceholderRepeated "placeholder-repeated" Error "A prompt has more than one {}."
    PlaceholderLiteral "placeholder-literal" Warning "An expectation holds {}, which is not replaced there."
    TargetUnchanged "target-unchanged" Error "The target is the same as the old answer in `was`."
    AcceptsOld "accepts-old" Warning "An accepted answer is the old answer, or the beginning of it."
    ParaphraseEdited "paraphrase-edited" Warning "A paraphrase should give the target, but another edit changes it."
    UnchangedEdited "unchanged-edited" Error "A prompt is expected to stay unchanged, but an edit changes it."
    DuplicateEntry "duplicate-entry" Warning "A list of expectations holds the same prompt or answer twice."
    LockConflict "lock-conflict" Error "The lock holds the markers of an unfinished merge."
    LockDamaged "lock-damaged" Error "The lock is not in the form that `corrigenda build` writes."
    LockNewer "lock-newer" Error "The lock was written by a newer version."
    LockMissing "lock-missing" Error "There is no lock, but `--locked` or the command needs one."
    LockStale "lock-stale" Error "The lock differs from what a build would write now."
    BaseChanged "base-changed" Error "The base model is not the one that the lock names."
    ModelUnusable "model-unusable" Error "The base model cannot be used."
    ModelAmbiguous "model-ambiguous" Error "The project has both a model without a name and models with names."
    ModelUnknown "model-unknown" Error "A model on the command line is not in the project."
    ModelUnchosen "model-unchosen" Error "The project has several models, and the command works on one."
    LayerMissing "layer-missing" Error "No layer is set, and no layer is published for a model of this shape."
    LayerUnknown "layer-unknown" Error "The model does not have the layer to edit."
    LayerLast "layer-last" Error "The layer to edit is the last one: a value there reaches no later token."
    TemplatesUnusable "templates-unusable" Error "The file of context templates cannot be used."
    CorpusUnusable "corpus-unusable" Error "The corpus of the statistics is not set, or cannot be used."
    StatisticsDeficient "statistics-deficient" Error "The second moment of the keys cannot be factored."
    StatisticsThin "statistics-thin" Warning "The corpus is too small for the statistics."
    StatisticsMissing "statistics-missing" Error "The statistics have not been computed yet."
    StatisticsForeign "statistics-foreign" Error "The statistics are those of another model, layer or corpus."
    StoreFailed "store-failed" Error "A file of the cache or of the project could not be read or written."
    StoreDamaged "store-damaged" Warning "An entry of the cache is damaged, and was not used."
    UnknownId "unknown-id" Error "An id on the command line is not the id of an edit."
    SubjectUnresolved "subject-unresolved" Error "No token covers the end of the subject."
    SubjectRepeated "subject-repeated" Warning "The subject occurs repeatedly in the prompt; the place of {} is used."
    SubjectSink "subject-sink" Warning "The subject is at an attention sink, where no value carries a fact."
    SubjectMisspelt "subject-misspelt" Warning "A paraphrase has words similar to the subject, but none of its names."
    SubjectMerged "subject-merged" Warning "The subject's last token also covers what follows it."
    PromptTooLong "prompt-too-long" Error "A prompt with its target is longer than the model's context."
    TargetUnresolved "target-unresolved" Error "The tokenizer has no token for the target, or rejects a text of the edit."
    ChatUnusable "chat-unusable" Error "A prompt is a chat message, but the model's chat template is missing or fails."
    BaseDisagrees "base-disagrees" Warning "The base does not give the answer in `was`."
    AlreadyTrue "already-true" Warning "The base already gives the target."
    NotConverged "not-converged" Error "No value was found that makes the model give the target."
    NullEdit "null-edit" Error "An edit changes nothing."
    NotFinite "not-finite" Error "An edit, or a weight after the edit, is not finite."
    ParallelKeys "parallel-keys" Error "The keys of two edits are so similar that both edits cannot be made."
    PatchMissing "patch-missing" Error "The patch that the lock names is not in the store."
    LockMerged "lock-merged" Error "The lock's patch was built from other edits than it lists: two locks were merged."
    LevelFixed "level-fixed" Error "A policy sets the level of a finding whose level is fixed."
    FieldRequired "field-required" Rule "An edit lacks a field that the policy requires."
    ProtectedSubject "protected-subject" Rule "An edit is about a subject that the policy protects."
    EditParked "edit-parked" Warning "A fact is parked: it is under review and not part of the set."
    StatusUnknown "status-unknown" Error "The status of a fact is unknown, or lacks its reason."
    ConsequenceUnknown "consequence-unknown" Error "The kind of a consequence is unknown."
    EditExpired "edit-expired" Warning "The expiry date of an edit has been reached."
    NearParallel "near-parallel" Warning "The keys of two edits are so similar that the edits affect each other."
    MaxEdits "max-edits" Rule "The set holds more edits than the policy allows."
    MaxRelativeNorm "max-relative-norm" Rule "The patch changes a tensor more than the policy allows."
    MinEfficacy "min-efficacy" Rule "Fewer edits hold than the policy requires."
    MinParaphrase "min-paraphrase" Rule "Fewer paraphrases hold than the policy requires."
    MinConsequence "min-consequence" Rule "Fewer consequences hold than the policy requires."
    MinUnchanged "min-unchanged" Rule "Fewer neighbours stay unchanged than the policy requires."
    MaxNeighbourhoodKl "max-neighbourhood-kl" Rule "A neighbour diverges from the base more than the policy allows."
    MaxDamage "max-damage" Rule "Neutral text diverges from the base more than is allowed."
    MaxPerplexity "max-perplexity" Rule "The perplexity of neutral text grows more than is allowed."
    MaxRepeats "max-repeats" Rule "More generated texts repeat themselves than is allowed."
    PromptUnusable "prompt-unusable" Error "A prompt cannot be run: it is missing, too long, or cannot be tokenized."
    MaxTaskLoss "max-task-loss" Rule "The accuracy of a task falls more than is allowed."
    ExpectationFailed "expectation-failed" Rule "The patched model does not give the answer that an edit expects."
    UpdateRefused "update-refused" Error "`--update` was used in CI, where shortfalls cannot be accepted."
    FormatUnknown "format-unknown" Error "The command does not support the requested output format."
    AcceptedOrphan "accepted-orphan" Rule "An accepted shortfall no longer occurs."
    SideUnusable "side-unusable" Error "A side of a comparison cannot be compared with the other."
    HistoryMissing "history-missing" Error "There is no git history of the project."
    HistoryUnreadable "history-unreadable" Error "A part of the git history cannot be read, or is not trusted."
    HistoryShallow "history-shallow" Warning "The clone is shallow: its history ends early."
    RevisionUnknown "revision-unknown" Error "A revision on the command line does not name a commit."
    PatchUnusable "patch-unusable" Error "A patch is damaged, or was made for another base."
    ExportRefused "export-refused" Error "A folder cannot be exported to, or a file of the base cannot be exported."
    TraceRefused "trace-refused" Error "A fact cannot be traced, or the model does not know it."
    SetLarge "set-large" Warning "The set has more facts than this link method was measured with."
    DatasetUnusable "dataset-unusable" Error "A file of records cannot be read, or contains no usable record."
    TaskUnusable "task-unusable" Error "A task's file cannot be read, or contains a question that cannot be asked."
    DuplicateTask "duplicate-task" Error "Two tasks have the same name."
    BenchRefused "bench-refused" Error "A benchmark cannot be run with the given options."
    TensorsUnread "tensors-unread" Warning "The weights hold tensors of the decoder that are not read."
    ArchitectureDiffers "architecture-differs" Warning "The class in config.json is of another family than `model_type`."
    AdapterUnread "adapter-unread" Warning "The model's folder contains an adapter, which is not read."
    HeadRounded "head-rounded" Warning "A tied output matrix is also stored separately, rounded to another type."
    TextsEnded "texts-ended" Warning "The tokenizer appends special tokens to texts; prompts are read without them."
    CheckpointUnusable "checkpoint-unusable" Error "A checkpoint cannot be read, written or checked."
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
