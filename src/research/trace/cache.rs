//! Caches the traces of facts in the store, because computing one trace takes as much time as compiling many edits. The
//! store address of a trace is a digest of the model, the fact, the noise and the settings of the trace.

use serde::{Deserialize, Serialize};

use super::fact::{KnownFact, Skipped};
use super::indirect_effects::{FactTrace, trace};
use super::noise::Noise;
use super::plan::{RestoredKind, TracePlan};
use crate::digest::{Digest, FieldHasher};
use crate::model::{Model, Tokens};
use crate::numeric::NUMERICS;
use crate::progress::NoProgress;
use crate::store::{EntryKind, Store, StoreError};

/// A trace as stored in the cache, without its fact. Probabilities are stored as the bits of `f64`, so they are
/// restored exactly.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CachedTrace {
    tokens: Vec<String>,
    subject: [usize; 2],
    answer: String,
    answer_tokens: Option<usize>,
    clean: u64,
    corrupted: u64,
    /// One table of probabilities per kind of restored state, in the order of [`TracePlan::kinds`]. The shape of a
    /// table is `[tokens][layers]`; each entry has the bits of an `f64`.
    restored: Vec<Vec<Vec<u64>>>,
}

/// Traces a fact, or reads the trace from the store.
///
/// # Errors
/// Returns the outer error if the store cannot be read or written. Returns the inner error if the fact cannot be
/// traced; this error is not cached.
pub fn trace_cached(
    (model, tokens, base): (&Model, &Tokens, &Digest),
    fact: &KnownFact,
    (noise, plan): (&Noise, &TracePlan),
    store: &Store,
) -> Result<Result<FactTrace, Skipped>, StoreError> {
    let chat = match fact.chat.then(|| tokens.chat()).transpose() {
        Ok(chat) => chat.map(|chat| *chat.digest()),
        Err(error) => return Ok(Err(error.into())),
    };
    let address = address(base, chat.as_ref(), fact, noise, plan);
    let kept = store.recall(EntryKind::Report, &address, |bytes| {
        let kept: Option<CachedTrace> = serde_json::from_slice(bytes).ok();
        kept.filter(|kept| kept.restored.len() == plan.kinds.len()).map(|kept| kept.traced(fact, plan))
    })?;
    if let Some(traced) = kept {
        return Ok(Ok(traced));
    }
    let traced = match trace(model, tokens, fact, noise, plan, &NoProgress) {
        Ok(traced) => traced,
        Err(left_out) => return Ok(Err(left_out)),
    };
    let bytes = serde_json::to_vec(&CachedTrace::new(&traced)).expect("numbers and texts can be written");
    store.put(EntryKind::Report, &address, &bytes)?;
    Ok(Ok(traced))
}

/// Returns the store address of a trace, a digest of all its inputs.
fn address(base: &Digest, chat: Option<&Digest>, fact: &KnownFact, noise: &Noise, plan: &TracePlan) -> Digest {
    let mut canon = FieldHasher::new("traced/1");
    canon.text("numerics", NUMERICS).digest("base", base);
    if let Some(chat) = chat {
        canon.digest("chat", chat);
    }
    canon.text("prompt", &fact.prompt);
    canon.number("start", fact.subject.start as u64).number("end", fact.subject.end as u64);
    canon.texts("answer", fact.answer.as_deref().into_iter());
    canon.text("noise", &noise.rule.to_string()).float("scale", noise.scale);
    canon.number("seed", noise.seed.into()).number("samples", noise.samples as u64);
    canon.number("window", plan.window as u64).text("severed", plan.severed.name());
    canon.text("places", plan.places.name());
    canon.texts("kinds", plan.kinds.iter().map(|kind| kind.name())).finish()
}

impl CachedTrace {
    fn new(traced: &FactTrace) -> Self {
        let bits = |row: &Vec<f64>| row.iter().map(|x| x.to_bits()).collect();
        let table = |(_, table): &(RestoredKind, Vec<Vec<f64>>)| table.iter().map(bits).collect();
        Self {
            tokens: traced.tokens.clone(),
            subject: [traced.subject.start, traced.subject.end],
            answer: traced.answer.clone(),
            answer_tokens: traced.answer_tokens,
            clean: traced.clean.to_bits(),
            corrupted: traced.corrupted.to_bits(),
            restored: traced.restored.iter().map(table).collect(),
        }
    }

    fn traced(self, fact: &KnownFact, plan: &TracePlan) -> FactTrace {
        let numbers = |row: Vec<u64>| row.into_iter().map(f64::from_bits).collect();
        let table = |table: Vec<Vec<u64>>| table.into_iter().map(numbers).collect();
        FactTrace {
            fact: fact.clone(),
            tokens: self.tokens,
            subject: self.subject[0]..self.subject[1],
            answer: self.answer,
            answer_tokens: self.answer_tokens,
            clean: f64::from_bits(self.clean),
            corrupted: f64::from_bits(self.corrupted),
            places: plan.places,
            restored: plan.kinds.iter().copied().zip(self.restored.into_iter().map(table)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::research::trace::RestoredTokens;

    #[test]
    fn a_cached_trace_has_the_same_bits() {
        let fact =
            KnownFact { id: "a".into(), prompt: "p".into(), subject: 0..1, answer: None, relation: None, chat: false };
        let kinds = vec![RestoredKind::Mlp, RestoredKind::Attention];
        let severed = super::super::SeveredNoise::Same;
        let plan = TracePlan { kinds: kinds.clone(), window: 1, severed, places: RestoredTokens::All };
        let table = |shift: f64| vec![vec![0.1 + shift, 1.0 / 3.0], vec![1e-300, f64::NAN]];
        let traced = FactTrace {
            fact: fact.clone(),
            tokens: vec!["p".into()],
            subject: 0..1,
            answer: " x".into(),
            answer_tokens: Some(2),
            clean: 0.1 + 0.2,
            corrupted: 5e-324,
            places: RestoredTokens::All,
            restored: kinds.into_iter().zip([table(0.0), table(0.2)]).collect(),
        };
        let bytes = serde_json::to_vec(&CachedTrace::new(&traced)).expect("written");
        let back: CachedTrace = serde_json::from_slice(&bytes).expect("read");
        let back = back.traced(&fact, &plan);
        // `Debug` prints enough digits to distinguish any two `f64` values except NaNs, so equal texts mean equal
        // numbers.
        assert_eq!(format!("{back:?}"), format!("{traced:?}"));
    }
}
