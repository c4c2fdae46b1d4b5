//! Samples records of a dataset. The sample depends only on the records and the seed.

use std::collections::{BTreeMap, BTreeSet};

use super::data::{Case, RejectedRecord};
use crate::digest::{Digest, FieldHasher};

/// Samples up to `limit` of the records for which `wanted` returns true, or all of them if `limit` is `None`. The
/// sample is in the order of `cases`.
///
/// If several wanted records have the same prompt (with the subject filled in), only the first of them can be sampled.
/// The others are returned as rejected, unless the sample was complete before they were considered. `wanted` may run
/// the model, so it is called for as few records as possible.
pub fn sample_records(
    cases: Vec<Case>,
    limit: Option<usize>,
    seed: u64,
    mut wanted: impl FnMut(&Case) -> bool,
) -> (Vec<Case>, Vec<RejectedRecord>) {
    let mut of_prompt: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (index, case) in cases.iter().enumerate() {
        of_prompt.entry(case.filled()).or_default().push(index);
    }
    let place = |case: &Case| FieldHasher::new("bench-drawn/1").number("seed", seed).number("case", case.id).finish();
    let mut order: Vec<(Digest, usize)> = cases.iter().enumerate().map(|(index, case)| (place(case), index)).collect();
    order.sort();
    let mut asked = BTreeMap::new();
    let mut ask = |index: usize| *asked.entry(index).or_insert_with(|| wanted(&cases[index]));
    let (mut kept, mut left) = (BTreeSet::new(), Vec::new());
    for (_, index) in order {
        if limit == Some(kept.len()) {
            break;
        }
        let first = of_prompt[&cases[index].filled()].iter().copied().find(|other| ask(*other));
        if first == Some(index) {
            kept.insert(index);
        } else if let Some(first) = first.filter(|_| ask(index)) {
            let Case { record, id, .. } = cases[index];
            left.push(RejectedRecord {
                record,
                id: Some(id),
                why: format!("it has the prompt of record {}", cases[first].record),
            });
        }
    }
    let kept = cases.into_iter().enumerate().filter(|(index, _)| kept.contains(index)).map(|(_, case)| case);
    (kept.collect(), left)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(record: u64, subject: &str) -> Case {
        let text = |text: &str| text.to_owned();
        let (prompt, target, subject) = (text("{} is in"), text("Peru"), text(subject));
        Case { record, id: record, subject, prompt, target, ..Case::default() }
    }

    fn records(cases: &[Case]) -> Vec<u64> {
        cases.iter().map(|case| case.record).collect()
    }

    #[test]
    fn sampling_checks_few_records() {
        let cases: Vec<Case> = (0..40).map(|record| case(record, &format!("Place {record}"))).collect();
        let odd = |case: &Case| case.record % 2 == 1;
        let (all, left) = sample_records(cases.clone(), None, 7, odd);
        assert_eq!((records(&all), left.len()), ((0..20).map(|n| 2 * n + 1).collect(), 0));
        let mut asked = 0;
        let (some, _) = sample_records(cases.clone(), Some(3), 7, |case| {
            asked += 1;
            odd(case)
        });
        assert!(some.len() == 3 && asked < 20, "{asked} asked for");
        // The sample is the same as if the records were filtered with `odd` before sampling.
        assert_eq!(sample_records(cases.into_iter().filter(odd).collect(), Some(3), 7, |_| true).0, some);
    }

    #[test]
    fn of_equal_prompts_the_first_wanted_is_sampled() {
        let cases = vec![case(0, "Rome"), case(1, "Rome"), case(2, "Oslo"), case(3, "Rome")];
        let (kept, left) = sample_records(cases, None, 1, |case| case.record != 0);
        assert_eq!(records(&kept), [1, 2]);
        assert_eq!(
            left.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["record 3 (case 3): it has the prompt of record 1"]
        );
    }
}
