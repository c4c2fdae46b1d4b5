//! Chooses a preface for each edit whose subject is at an attention sink: a text before the prompt that moves the
//! subject away from the sink. Warns about these edits, and about paraphrases at a sink.

use super::detect;
use super::detect::{FIRST_UNCHECKED, ResidualNorms, SINK_NORM, Sink};
use crate::behaviour::PromptKind;
use crate::behaviour::expectation::expectations;
use crate::compile::object::address;
use crate::compile::{Fact, Resolved};
use crate::diagnostics::{Code, Diagnostic, Failure};
use crate::pipeline::{Base, Plan, PlannedEdit, Setup};

/// Finds the edits whose subject is at an attention sink, and chooses a preface for each of them. A preface is a text
/// before the prompt that moves the subject away from the sink. Edits in a chat are skipped.
///
/// # Errors
/// If the store cannot be read or written.
pub(crate) fn choose_prefaces(
    edits: &mut [PlannedEdit<'_>],
    base: &Base,
    setup: &Setup,
    norms: &ResidualNorms<'_>,
) -> Result<(), Failure> {
    let early: Vec<(usize, Vec<u32>)> = edits
        .iter()
        .enumerate()
        .filter(|(_, one)| !one.edit.chat)
        .filter_map(|(index, one)| Some((index, detect::early_subject(&one.resolved)?)))
        .collect();
    let rows: Vec<Vec<u32>> = early.iter().map(|(_, row)| row.clone()).collect();
    for ((index, _), relative_norm) in early.iter().zip(norms.relative_norms(&rows)?) {
        if relative_norm >= SINK_NORM {
            choose_preface(&mut edits[*index], relative_norm, base, setup, norms)?;
        }
    }
    Ok(())
}

/// Tests every text that can be put before the prompt to avoid an attention sink. The first text that moves the subject
/// away from the sink becomes the preface of the edit.
fn choose_preface(
    one: &mut PlannedEdit<'_>,
    relative_norm: f64,
    base: &Base,
    setup: &Setup,
    norms: &ResidualNorms<'_>,
) -> Result<(), Failure> {
    let end = one.edit.end.unwrap_or(setup.settings.end);
    let fact = Fact { subject: one.name, prompt: &one.edit.prompt, target: &one.edit.target, chat: false, end };
    let mut found = Sink { relative_norm, preface: None, failed_prefaces: Vec::new() };
    for preface in detect::candidate_prefaces(base) {
        let templates = detect::with_preface(&setup.templates, Some(&preface));
        let Ok(resolved) = Resolved::new(&base.tokens, &templates, fact, base.model.spec().max_positions) else {
            continue;
        };
        let bare = &resolved.rows[0];
        if norms.relative_norms(&[bare.ids[..=bare.position].to_vec()])?[0] >= SINK_NORM {
            found.failed_prefaces.push(preface);
        } else if found.preface.is_none() {
            let Setup { layer, settings, .. } = setup;
            let reading = one.chat_template_digest(base);
            one.object = address(&base.locked.digest, reading.as_ref(), &one.meaning, *layer, &templates, settings);
            one.resolved = resolved;
            found.preface = Some(preface);
        }
    }
    one.sink = Some(found);
    Ok(())
}

/// Returns warnings about edits and paraphrases whose subject is at an attention sink.
///
/// # Errors
/// If the store cannot be read or written.
pub(crate) fn warnings(
    plan: &Plan<'_>,
    base: &Base,
    setup: &Setup,
    norms: &ResidualNorms<'_>,
) -> Result<Vec<Diagnostic>, Failure> {
    let mut found: Vec<Diagnostic> = plan.edits.iter().filter_map(|one| fact_warning(one, setup)).collect();
    found.extend(paraphrase_warnings(plan, base, setup, norms)?);
    Ok(found)
}

/// Returns the warning for an edit whose subject is at an attention sink; `None` for other edits. If the edit has a
/// preface (a text before the prompt that avoids the sink), the warning states it.
fn fact_warning(one: &PlannedEdit<'_>, setup: &Setup) -> Option<Diagnostic> {
    let Sink { relative_norm, preface, failed_prefaces } = one.sink.as_ref()?;
    let message = format!(
        "edit `{}`: at the very beginning of a text, {:?} is an attention sink at layer {} (the residual stream is \
         {relative_norm:.1} times as long as usual): a value there cannot store a fact",
        one.label(),
        one.name,
        setup.layer
    );
    let finding = Diagnostic::new(Code::SubjectSink, message).at(
        one.edit.spans.file,
        one.span,
        "the prompt begins with this subject",
    );
    let after = |texts: &[String]| {
        let texts: Vec<String> = texts.iter().map(|text| format!("{text:?}")).collect();
        if texts.is_empty() { String::new() } else { format!(", nor directly after {}", texts.join(" or ")) }
    };
    Some(match preface {
        Some(preface) => finding
            .help(format!("the fact is stated and tested after {preface:?}: it will hold if there is text before it"))
            .help(format!("it will not hold at the very beginning of a text{}", after(failed_prefaces)))
            .help("put words before `{}` in the prompt to use another text"),
        None => finding.help("put words before `{}` in the prompt: otherwise the fact is unlikely to hold"),
    })
}

/// Returns the byte offset of the first occurrence of `name` in `text` that is not part of a longer word.
fn find_word(text: &str, name: &str) -> Option<usize> {
    let is_apart = |(at, _): &(usize, &str)| {
        let (before, after) = (text[..*at].chars().next_back(), text[at + name.len()..].chars().next());
        [before, after].into_iter().flatten().all(|next| !next.is_alphanumeric())
    };
    text.match_indices(name).find(is_apart).map(|(at, _)| at)
}

/// Returns a warning for each paraphrase that has no preface and whose subject is at an attention sink. For such a
/// paraphrase, the patched model is unlikely to give the target.
fn paraphrase_warnings(
    plan: &Plan<'_>,
    base: &Base,
    setup: &Setup,
    norms: &ResidualNorms<'_>,
) -> Result<Vec<Diagnostic>, Failure> {
    let edits: Vec<_> = plan.edits.iter().filter(|one| !one.edit.chat && one.alias().is_none()).collect();
    let edits: Vec<_> = edits.into_iter().map(|one| one.edit).collect();
    let asked = expectations(&edits, &[], &plan.prefaces());
    let (mut early, mut rows) = (Vec::new(), Vec::new());
    for one in asked.iter().filter(|one| one.kind == PromptKind::Paraphrase && one.preface == 0) {
        let Some(edit) = one.edit else { continue };
        let named = edit.names().filter_map(|(name, _)| Some((find_word(&one.prompt, name)?, name)));
        let Some((start, name)) = named.min_by_key(|(start, name)| (*start, usize::MAX - name.len())) else { continue };
        // The plan has already reported texts that cannot be tokenized.
        let Ok(framed) = base.tokens.encode_prompt(one.model_input()) else { continue };
        let last = framed.encoded.subject_last(&(start..start + name.len()));
        if let Some(last) = last.filter(|last| *last < FIRST_UNCHECKED) {
            rows.push(framed.encoded.ids[..=last].to_vec());
            early.push((one, edit, name));
        }
    }
    let mut found = Vec::new();
    for ((one, edit, name), relative_norm) in early.into_iter().zip(norms.relative_norms(&rows)?) {
        if relative_norm < SINK_NORM {
            continue;
        }
        let message = format!(
            "edit `{}`: in a paraphrase {name:?} ends at an attention sink of layer {} (the residual stream is {relative_norm:.1} \
             times as long as usual): the fact is unlikely to hold after it",
            edit.id, setup.layer
        );
        let finding = Diagnostic::new(Code::SubjectSink, message);
        let finding = finding.at(one.file, &one.span, "asked at the very beginning of a text");
        found.push(finding.help(format!("put words before {name:?} in the paraphrase")));
    }
    Ok(found)
}
