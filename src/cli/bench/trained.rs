//! Finds trained editors in the store, and lists them.

use std::collections::BTreeMap;

use crate::cli::answers::NamedBase;
use crate::cli::answers::bench::{ListedEditor, TrainedList};
use crate::cli::context::Context;
use crate::cli::format::Format;
use crate::diagnostics::{Code, Diagnostic, Failure, Sources};
use crate::digest::Digest;
use crate::pipeline::Base;
use crate::report::Outcome;
use crate::report::table::{Table, bytes, plural};
use crate::research::bench::editors::EditorName;
use crate::research::bench::eval_context::PreparedCase;
use crate::research::hypernetworks::data::seen_digest;
use crate::research::hypernetworks::settings::{Method, TrainedOn, editor_name};
use crate::research::hypernetworks::stored::{self, EditorHead, ListedFile, StoredEditor};
use crate::store::{Store, StoreError};

fn refused(message: String) -> Diagnostic {
    Diagnostic::new(Code::BenchRefused, message)
}

fn store_failed(error: &StoreError) -> Failure {
    Failure::from(Diagnostic::new(Code::StoreFailed, error.to_string()))
}

/// Reads the trained editor of each name that needs one. `chosen` has beginnings of addresses: with one that fits, the
/// other editors of the same name are not considered.
pub(super) fn find_all(
    store: &Store,
    base: &Base,
    names: &[EditorName],
    chosen: &[String],
) -> Result<BTreeMap<EditorName, StoredEditor>, Failure> {
    if names.iter().all(|name| name.trained().is_none()) {
        return Ok(BTreeMap::new());
    }
    let listed = stored::list(store).map_err(|error| store_failed(&error))?;
    let mut found = BTreeMap::new();
    for name in names {
        if let Some((method, on)) = name.trained() {
            found.insert(*name, find(store, base, &listed, (method, on), chosen)?);
        }
    }
    Ok(found)
}

fn find(
    store: &Store,
    base: &Base,
    listed: &[ListedFile],
    (method, on): (Method, TrainedOn),
    chosen: &[String],
) -> Result<StoredEditor, Failure> {
    let name = editor_name(method, on);
    let (mut fitting, mut others) = (Vec::new(), Vec::new());
    for (address, _, head) in listed {
        match head {
            Ok(head) if head.inputs.name() == name => match stored::check(head, &base.model, &base.locked.digest) {
                Ok(()) => fitting.push((address, head)),
                Err(why) => others.push(format!("{}: {why}", address.short())),
            },
            Ok(_) => {}
            Err(why) => others.push(format!("{}: {why}", address.short())),
        }
    }
    let of_choice = |address: &Digest| chosen.iter().any(|choice| address.hex().starts_with(choice.as_str()));
    if fitting.iter().any(|(address, _)| of_choice(address)) {
        fitting.retain(|(address, _)| of_choice(address));
    }
    let data = match on {
        TrainedOn::Text => "text",
        TrainedOn::Zsre => "zsre FILE",
        TrainedOn::Cf => "cf FILE",
    };
    let command = format!("run `corrigenda bench train {} {data}`", method.name());
    match fitting[..] {
        [] => {
            let why = match others.first() {
                None => String::new(),
                Some(first) => format!("; {} cannot be used: {first}", plural(others.len(), "trained editor")),
            };
            Err(refused(format!("{name}: the store has no trained editor for this base{why}")).help(command).into())
        }
        [(address, _)] => stored::read(store, address, &base.model, &base.locked.digest)
            .map_err(|why| refused(format!("{name}: {}: {why}", address.short())).help(command).into()),
        _ => {
            let line = |(address, head): &(&Digest, &EditorHead)| format!("{} ({})", address.short(), described(head));
            let lines: Vec<String> = fitting.iter().map(line).collect();
            let message = format!("{name}: {} fit: {}", plural(fitting.len(), "trained editor"), lines.join("; "));
            Err(refused(message).help("choose one with `--trained ADDRESS`").into())
        }
    }
}

/// Describes the training of an editor in one line.
fn described(head: &EditorHead) -> String {
    let (facts, steps) = (plural(head.facts, "fact"), head.inputs.numbers["steps"]);
    format!("{facts} of {}, step {} of {steps}, seed {}", head.file, head.best, head.inputs.seed)
}

/// Describes the training of each editor, for the lines below the tables.
///
/// # Errors
/// If an editor was trained with a record under test, and `seen` is false.
pub(super) fn lines(
    trained: &BTreeMap<EditorName, StoredEditor>,
    cases: &[PreparedCase],
    seen: bool,
) -> Result<Vec<(String, String)>, Failure> {
    let (mut lines, mut findings) = (Vec::new(), Vec::new());
    for (name, stored) in trained {
        let learned: Vec<&PreparedCase> =
            cases.iter().filter(|one| stored.seen.contains(&seen_digest(&one.case))).collect();
        let mut text = format!("{}, {}", described(&stored.head), stored.address.short());
        if let Some(first) = learned.first() {
            let case = &first.case;
            let count = format!("{} of the {} records", learned.len(), cases.len());
            let record = format!("record {} (case {}, {:?})", case.record, case.id, case.subject);
            if !seen {
                let message = format!("{} was trained with {count} under test; the first is {record}", name.text());
                let help =
                    "exclude the records from the training with `bench train … --without FILE`, or pass `--seen`";
                findings.push(refused(message).help(help));
            }
            text += &format!("; trained with {count}");
        }
        lines.push((name.text().to_owned(), text));
    }
    if findings.is_empty() { Ok(lines) } else { Err(Failure { findings, ..Failure::from(refused(String::new())) }) }
}

pub(super) fn listed(address: Digest, size: u64, head: EditorHead) -> ListedEditor {
    let loss = head.curve.iter().find(|one| one.step == head.best).map_or(f64::NAN, |one| one.total);
    ListedEditor {
        name: head.inputs.name(),
        address,
        base: NamedBase { name: head.base_name, digest: head.inputs.base.to_string() },
        file: head.file,
        facts: head.facts,
        steps: head.inputs.numbers["steps"] as usize,
        best: head.best,
        loss,
        seed: head.inputs.seed,
        settings: head.inputs.numbers,
        size,
    }
}

/// Lists the trained editors in the store.
pub(super) fn ls(context: &Context) -> Outcome {
    let store = match context.store() {
        Ok(store) => store,
        Err(finding) => return context.fail(finding),
    };
    let all = match stored::list(&store) {
        Ok(all) => all,
        Err(error) => return context.fail_store(&error),
    };
    let (mut editors, mut unusable) = (Vec::new(), Vec::new());
    for (address, size, head) in all {
        match head {
            Ok(head) => editors.push(listed(address, size, head)),
            Err(why) => unusable.push(format!("{}: {why}", address.short())),
        }
    }
    editors.sort_by(|a, b| (&a.name, &a.address).cmp(&(&b.name, &b.address)));
    if context.format == Format::Json {
        context.answer_json(Outcome::Ok, &[], &Sources::default(), TrainedList { editors, unusable });
        return Outcome::Ok;
    }
    let mut table = Table::new(&[3, 7], &[2, 4, 5, 6, 8]);
    table.row(["address", "editor", "facts", "of", "step", "loss", "seed", "base", "size"]);
    for one in &editors {
        table.row([
            one.address.short(),
            one.name.clone(),
            one.facts.to_string(),
            one.file.clone(),
            format!("{} of {}", one.best, one.steps),
            format!("{:.4}", one.loss),
            one.seed.to_string(),
            one.base.name.clone(),
            bytes(one.size),
        ]);
    }
    let mut text = if editors.is_empty() {
        "the store has no trained editor; `corrigenda bench train` makes one\n".to_owned()
    } else {
        table.render(context.ui.width())
    };
    for why in unusable {
        text += &format!("cannot be used: {why}\n");
    }
    context.ui.answer(&text);
    Outcome::Ok
}
