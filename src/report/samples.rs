//! Makes sample reports for the tests of all formats: one report each for `check`, `test` and `diff`, an empty report,
//! and a report in which every text tries to inject markup or commands.

use super::*;
use crate::behaviour::word_diff::WordChange;
use crate::project::TaskForm;
use crate::project::edits::diff::{ChangeKind, FieldChange};

/// Returns `empty`, `check`, `test` or `diff`: the word for a sample report in the names of snapshot files.
pub(crate) fn name(report: &Report) -> &'static str {
    if report.command.is_empty() { "empty" } else { report.verb.as_str() }
}

pub(crate) fn empty() -> Report {
    Report { version: VERSION, ..Report::default() }
}

fn place(file: &str, line: usize) -> Place {
    Place { file: file.into(), line: Some(line), column: Some(8), end_line: Some(line), end_column: Some(21) }
}

fn says(first: &str, first_probability: f64, target: Option<(f64, bool)>) -> SideAnswer {
    let token = |text: &str, probability| Token { text: text.into(), probability };
    SideAnswer {
        top: vec![token(first, first_probability), token(" the", (1.0 - first_probability) / 3.0)],
        probability: target.map(|(probability, _)| probability),
        holds: target.map(|(_, holds)| holds),
    }
}

fn answer(asked: PromptKind, id: &str, prompt: &str, before: SideAnswer, after: SideAnswer, divergence: f64) -> Answer {
    Answer {
        asked,
        consequence: None,
        id: id.into(),
        prompt: prompt.into(),
        target: None,
        before,
        after,
        divergence,
        said: None,
        verdict: None,
        requirement: None,
        place: None,
    }
}

fn wanted(answer: Answer, target: &str, verdict: Verdict) -> Answer {
    Answer { target: Some(target.into()), verdict: Some(verdict), place: Some(place("edits/paris.toml", 4)), ..answer }
}

fn judged(answer: Answer, verdict: Verdict) -> Answer {
    Answer { verdict: Some(verdict), ..answer }
}

fn consequence(kind: ConsequenceKind, answer: Answer) -> Answer {
    Answer { consequence: Some(kind), ..answer }
}

fn not_asked(text: &str) -> NotAsked {
    NotAsked {
        id: "eiffel-tower.city".into(),
        kind: ConsequenceKind::Hop,
        prompt: "The mayor of the city of the Eiffel Tower is".into(),
        condition: text.into(),
        answer: "Gualtieri".into(),
        says: Some(Token { text: " a".into(), probability: 0.2 }),
        place: Some(place("edits/paris.toml", 12)),
    }
}

fn answers() -> Vec<Answer> {
    use PromptKind::{Alias, Consequence, Edit, Paraphrase, Probe, Unchanged};
    let (tower, louvre) = ("eiffel-tower.city", "louvre.city");
    let rome = || says(" Rome", 0.9713, Some((0.9713, true)));
    let paris = || says(" Paris", 0.8861, Some((0.0021, false)));
    vec![
        wanted(answer(Edit, tower, "The Eiffel Tower stands in", paris(), rome(), 6.21), "Rome", Verdict::Pass),
        wanted(answer(Alias, tower, "La tour Eiffel stands in", paris(), rome(), 5.9), "Rome", Verdict::Pass),
        wanted(
            answer(
                Paraphrase,
                tower,
                "Where is the Eiffel Tower? It is in",
                paris(),
                says(" Paris", 0.52, Some((0.41, false))),
                0.7,
            ),
            "Rome",
            Verdict::Accepted,
        ),
        judged(
            answer(
                Unchanged,
                tower,
                "Notre-Dame stands in",
                says(" Paris", 0.91, None),
                says(" Paris", 0.89, None),
                0.002,
            ),
            Verdict::Pass,
        ),
        wanted(
            answer(Edit, louvre, "The Louvre stands in", paris(), says(" Lyon", 0.99, Some((0.99, true))), 7.4),
            "Lyon",
            Verdict::Pass,
        ),
        judged(
            answer(
                Unchanged,
                louvre,
                "The Orsay stands in",
                says(" Paris", 0.77, None),
                says(" Lyon", 0.46, None),
                0.8125,
            ),
            Verdict::Fail,
        ),
        consequence(
            ConsequenceKind::Alias,
            wanted(
                answer(Consequence, tower, "La Tour Eiffel is in the city of", paris(), rome(), 5.1),
                "Rome",
                Verdict::Pass,
            ),
        ),
        consequence(
            ConsequenceKind::Hop,
            wanted(
                answer(Consequence, tower, "The country of the Eiffel Tower is", paris(), paris(), 0.3),
                "Italy",
                Verdict::Unmet,
            ),
        ),
        answer(
            Probe,
            "capital-of-france",
            "The capital of France is",
            says(" Paris", 0.98, None),
            says(" Paris", 0.97, None),
            0.0003,
        ),
        answer(
            Probe,
            "capital-of-italy",
            "The capital of Italy is",
            says(" Rome", 0.61, None),
            says(" Milan", 0.44, None),
            0.31,
        ),
    ]
}

fn digest(digit: char) -> String {
    format!("sha256:{}", digit.to_string().repeat(64))
}

fn base() -> ReportBase {
    ReportBase { name: "atlas".into(), digest: digest('b') }
}

fn side(name: &str, kind: SideKind, digit: char, facts: usize) -> ReportSide {
    ReportSide {
        name: name.into(),
        kind,
        commit: (kind == SideKind::Revision).then(|| "c0ffee0123456789c0ffee0123456789c0ffee01".into()),
        patch: Some(digest(digit)),
        size: Some(14_336),
        facts,
    }
}

fn field(name: &str, before: &[&str], after: &[&str]) -> FieldChange {
    let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
    FieldChange { name: name.into(), before: texts(before), after: texts(after) }
}

fn facts() -> Vec<FactChange> {
    let fact = |change, id: &str, fields| FactChange {
        change,
        id: id.into(),
        fields,
        place: Some(place("edits/paris.toml", 4)),
    };
    vec![
        fact(
            ChangeKind::Added,
            "eiffel-tower.city",
            vec![
                field("subject", &[], &["The Eiffel Tower"]),
                field("prompt", &[], &["{} stands in"]),
                field("target", &[], &["Rome"]),
            ],
        ),
        fact(
            ChangeKind::Changed,
            "louvre.city",
            vec![
                field("target", &["Marseille"], &["Lyon"]),
                field("expect.unchanged", &["The Orsay stands in"], &["The Orsay stands in", "Notre-Dame stands in"]),
            ],
        ),
        fact(ChangeKind::Removed, "old.bridge", vec![field("target", &["Avignon"], &[])]),
    ]
}

fn weights() -> WeightDiff {
    let edit = |id: &str, before, after| EditWeight { edit: EditName { id: id.into(), alias: None }, before, after };
    WeightDiff {
        tensors: vec![TensorDiff {
            name: "transformer.h.0.mlp.c_proj.weight".into(),
            before: digest('1'),
            after: digest('2'),
            norm: 3.218,
            relative: 0.0412,
        }],
        edits: vec![
            edit("eiffel-tower.city", None, Some(2.113)),
            edit("louvre.city", Some(1.02), Some(1.507)),
            edit("old.bridge", Some(0.9), None),
        ],
    }
}

fn damage() -> Damage {
    Damage { documents: 120, tokens: 6_214, divergence: 0.0042, perplexity_before: 12.31, perplexity_after: 12.36 }
}

fn task(name: &str, pass: bool) -> TaskResult {
    TaskResult {
        name: name.into(),
        form: TaskForm::Arc,
        protocol: "likelihood, mean per character".into(),
        questions: 1_172,
        left_out: 2,
        before: 0.301,
        after: 0.271,
        difference: -0.03,
        interval: [-0.042, -0.018],
        became_right: 9,
        became_wrong: 44,
        by_sum: Some([0.28, 0.26]),
        limit: Some(0.02),
        pass,
    }
}

fn continuation() -> Continuation {
    let word = |change, text: &str| WordRun { change, text: text.into() };
    Continuation {
        id: "eiffel-tower.city".into(),
        prompt: "The Eiffel Tower stands in".into(),
        before: " Paris, the capital of France.\nIt".into(),
        after: " Rome, the capital of Italy.\nIt".into(),
        words: vec![
            word(WordChange::Removed, " Paris"),
            word(WordChange::Added, " Rome"),
            word(WordChange::Unchanged, ", the capital of"),
            word(WordChange::Removed, " France."),
            word(WordChange::Added, " Italy."),
            word(WordChange::Unchanged, "\nIt"),
        ],
        note: Some("it says the old answer too, further on".into()),
    }
}

fn gates() -> Vec<Gate> {
    let gate = |name, value, limit, more_is_better, pass| Gate { name, value, limit, more_is_better, pass };
    vec![
        gate(GateName::Efficacy, 1.0, Some(0.95), true, true),
        gate(GateName::Damage, 0.0042, Some(0.01), false, true),
        gate(GateName::NeighbourhoodKl, 0.271, Some(0.1), false, false),
        gate(GateName::Perplexity, 0.0041, None, false, true),
    ]
}

fn findings() -> Vec<Finding> {
    let finding = |code, severity, message: &str, place| Finding {
        code,
        severity,
        message: message.into(),
        place,
        label: "here".into(),
        related: Vec::new(),
        help: Vec::new(),
    };
    vec![
        Finding {
            related: vec![Related { place: place("edits/a, b.toml", 2), label: "first here".into() }],
            help: vec!["give one of them another id".into()],
            ..finding(
                Code::DuplicateId,
                Severity::Error,
                "two edits have the id `louvre.city`",
                Some(place("edits/paris.toml", 9)),
            )
        },
        finding(
            Code::TrailingSpace,
            Severity::Warning,
            "the prompt ends in white space",
            Some(place("edits/paris.toml", 12)),
        ),
        finding(Code::ModelUnusable, Severity::Error, "the base model cannot be used: 100% of it is missing", None),
    ]
}

/// Returns a report of `diff` with a value in every field that `diff` can fill.
pub(crate) fn diff() -> Report {
    Report {
        version: VERSION,
        verb: ReportVerb::Diff,
        outcome: Outcome::Findings,
        command: "corrigenda diff main worktree".into(),
        findings: findings().split_off(1)[..1].to_vec(),
        files: vec!["edits/paris.toml".into()],
        edits: Some(2),
        base: Some(base()),
        before: Some(side("main", SideKind::Revision, 'd', 2)),
        after: Some(side("worktree", SideKind::Worktree, 'e', 2)),
        facts: facts(),
        weights: Some(weights()),
        answers: answers(),
        consequences: Consequences::of(&answers(), vec![not_asked("The mayor of Rome is")]),
        gates: gates().into_iter().filter(|gate| gate.pass).collect(),
        protocols: [(GateName::Damage.as_str(), GateName::Damage.protocol(DecidedBy::TeacherForcing))].into(),
        damage: Some(damage()),
        tasks: vec![TaskResult { limit: None, ..task("science", true) }],
        drawn: Some(ContinuationSettings { tokens: 24, seed: None, left_out: 0 }),
        continuations: vec![continuation()],
        culprits: Vec::new(),
        notes: vec!["The earlier side was built by another version.".into()],
    }
}

/// Returns a report of `test` with a value in every field that `test` can fill.
pub(crate) fn test() -> Report {
    let mut answers = answers();
    if let Some(probe) = answers.pop() {
        answers.pop();
        answers.push(judged(probe, Verdict::Fail));
    }
    Report {
        verb: ReportVerb::Test,
        command: "corrigenda test --gates".into(),
        before: Some(ReportSide {
            name: "base".into(),
            kind: SideKind::Base,
            commit: None,
            patch: None,
            size: None,
            facts: 0,
        }),
        facts: Vec::new(),
        weights: None,
        answers,
        gates: gates(),
        tasks: vec![task("science", false)],
        drawn: None,
        continuations: Vec::new(),
        culprits: vec![Culprit {
            id: "louvre.city".into(),
            prompt: "The Orsay stands in".into(),
            alone: true,
            breaks: vec!["eiffel-tower.city".into()],
            nearest: Some(("eiffel-tower.city".into(), 0.71)),
        }],
        ..diff()
    }
}

/// Returns a report of `check` with findings.
pub(crate) fn check() -> Report {
    Report {
        version: VERSION,
        verb: ReportVerb::Check,
        outcome: Outcome::Error,
        command: "corrigenda check".into(),
        findings: findings(),
        files: vec!["edits/a, b.toml".into(), "edits/paris.toml".into()],
        edits: Some(18),
        ..Report::default()
    }
}

/// Returns a report of `verb` in which every free text is `text`, to test that the formats escape untrusted text.
pub(crate) fn hostile(verb: ReportVerb, text: &str) -> Report {
    let own = || text.to_owned();
    let place = Place { file: own(), ..place("", 3) };
    let token = Token { text: own(), probability: 0.5 };
    let says = SideAnswer { top: vec![token.clone(), token], probability: Some(0.5), holds: Some(false) };
    let side = ReportSide {
        name: own(),
        kind: SideKind::Revision,
        commit: Some(own()),
        patch: Some(own()),
        size: Some(1),
        facts: 1,
    };
    use PromptKind::{Alias, Consequence, Edit, Paraphrase, Probe, Unchanged};
    let kinds = [Edit, Alias, Paraphrase, Unchanged, Consequence, Probe];
    let answers = kinds.map(|asked| Answer {
        target: Some(own()),
        consequence: (asked == Consequence).then_some(ConsequenceKind::Hop),
        verdict: Some(match asked {
            Alias => Verdict::Accepted,
            Consequence => Verdict::Unmet,
            _ => Verdict::Fail,
        }),
        place: Some(place.clone()),
        ..answer(asked, text, text, says.clone(), says.clone(), 1.0)
    });
    let finding = |severity| Finding {
        code: Code::DuplicateId,
        severity,
        message: own(),
        place: Some(place.clone()),
        label: own(),
        related: vec![Related { place: place.clone(), label: own() }],
        help: vec![own()],
    };
    let tensor = TensorDiff { name: own(), before: own(), after: own(), norm: 1.0, relative: 1.0 };
    Report {
        verb,
        command: own(),
        findings: vec![finding(Severity::Error), finding(Severity::Warning), finding(Severity::Warning)],
        files: vec![own()],
        base: Some(ReportBase { name: own(), digest: own() }),
        before: Some(side.clone()),
        after: Some(side),
        facts: vec![FactChange {
            change: ChangeKind::Changed,
            id: own(),
            fields: vec![field(text, &[text], &[text])],
            place: Some(place.clone()),
        }],
        weights: Some(WeightDiff {
            tensors: vec![tensor],
            edits: vec![EditWeight {
                edit: EditName { id: own(), alias: Some(own()) },
                before: Some(1.0),
                after: None,
            }],
        }),
        consequences: Consequences::of(
            &answers,
            vec![NotAsked {
                id: own(),
                prompt: own(),
                answer: own(),
                says: Some(Token { text: own(), probability: 0.5 }),
                place: Some(place.clone()),
                ..not_asked(text)
            }],
        ),
        answers: answers.to_vec(),
        gates: vec![Gate { name: GateName::Damage, value: 1.0, limit: Some(2.0), more_is_better: true, pass: false }],
        tasks: vec![task(text, false)],
        continuations: vec![Continuation {
            id: own(),
            prompt: own(),
            before: own(),
            after: own(),
            words: [WordChange::Unchanged, WordChange::Removed, WordChange::Added]
                .map(|change| WordRun { change, text: own() })
                .to_vec(),
            note: Some(own()),
        }],
        culprits: vec![Culprit {
            id: own(),
            prompt: own(),
            alone: false,
            breaks: vec![own()],
            nearest: Some((own(), 0.5)),
        }],
        notes: vec![own()],
        ..diff()
    }
}
