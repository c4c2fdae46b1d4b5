//! Averages the effects of causal tracing over many facts, by token class and layer, with 95 % intervals, as in the
//! figures of Meng et al. 2022.

use std::collections::BTreeMap;

use super::indirect_effects::FactTrace;
use super::plan::RestoredKind;
use crate::numeric::Mean;

/// A class of tokens by their position in the prompt. Effects are averaged per class, as in figure 1 of Meng et al.
/// 2022.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TokenClass {
    /// The first token of the subject, also if the subject has only one token.
    FirstSubject,
    /// The tokens between the first and the last token of the subject. Two such tokens of one fact count as two values
    /// in the average of this class.
    MiddleSubject,
    /// The last token of the subject. A subject of one token is in this class and in
    /// [`FirstSubject`](Self::FirstSubject).
    LastSubject,
    /// The token after the subject. If it is the last token of the prompt, it is also in [`Last`](Self::Last).
    FirstAfter,
    /// The tokens after [`FirstAfter`](Self::FirstAfter) and before the last token of the prompt.
    Further,
    /// The last token of the prompt. If the subject ends the prompt, this token is also in
    /// [`LastSubject`](Self::LastSubject).
    Last,
}

impl TokenClass {
    /// All classes, in the order in which their tokens occur in a prompt.
    pub const ALL: [Self; 6] =
        [Self::FirstSubject, Self::MiddleSubject, Self::LastSubject, Self::FirstAfter, Self::Further, Self::Last];

    /// Returns the label of the class in figures, such as `last subject token`.
    pub fn words(self) -> &'static str {
        match self {
            Self::FirstSubject => "first subject token",
            Self::MiddleSubject => "middle subject tokens",
            Self::LastSubject => "last subject token",
            Self::FirstAfter => "first token after",
            Self::Further => "further tokens",
            Self::Last => "last token",
        }
    }

    /// Returns the name of the class in JSON, such as `last-subject-token`.
    pub fn name(self) -> String {
        self.words().replace(' ', "-")
    }

    /// Returns the classes of the token with the index `token` in the prompt; empty if the token is before the subject.
    fn of(traced: &FactTrace, token: usize) -> Vec<Self> {
        let (subject, last) = (&traced.subject, traced.tokens.len() - 1);
        let is = |class: &Self| match class {
            Self::FirstSubject => token == subject.start,
            Self::MiddleSubject => token > subject.start && token + 1 < subject.end,
            Self::LastSubject => token + 1 == subject.end,
            Self::FirstAfter => token == subject.end,
            Self::Further => token > subject.end && token < last,
            Self::Last => token == last,
        };
        Self::ALL.into_iter().filter(is).collect()
    }
}

/// The average indirect effects, one mean per layer, by the kind of restored state and the token class.
pub type ByClass = BTreeMap<(RestoredKind, TokenClass), Vec<Mean>>;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct AverageEffects {
    /// The number of facts over which the means are taken.
    pub facts: usize,
    /// The mean probability of the answer token in the clean run.
    pub clean: Mean,
    /// The mean probability of the answer token in the corrupted runs.
    pub corrupted: Mean,
    /// The average total effect: the probability of the answer token in the clean run minus its probability in the
    /// corrupted runs.
    pub total: Mean,
    /// The average indirect effects: the probability of the answer token with a state restored minus its probability in
    /// the corrupted runs.
    pub indirect: ByClass,
}

impl AverageEffects {
    pub fn of(traced: &[FactTrace]) -> Self {
        let mean = |number: &dyn Fn(&FactTrace) -> f64| Mean::of(&traced.iter().map(number).collect::<Vec<_>>());
        let mut numbers: BTreeMap<(RestoredKind, TokenClass), Vec<Vec<f64>>> = BTreeMap::new();
        for one in traced {
            for (kind, table) in &one.restored {
                let only_last = one.places.only_last_subject(*kind);
                let first = if only_last { one.subject.end - 1 } else { 0 };
                for (row, token) in table.iter().zip(first..) {
                    for class in TokenClass::of(one, token) {
                        // A token can be in several classes, for example the only token of a subject. If states are
                        // restored only at the subject's last token, the effect is counted only in the class
                        // `LastSubject`.
                        if only_last && class != TokenClass::LastSubject {
                            continue;
                        }
                        let layers = numbers.entry((*kind, class)).or_insert_with(|| vec![Vec::new(); row.len()]);
                        layers.iter_mut().zip(row).for_each(|(all, p)| all.push(p - one.corrupted));
                    }
                }
            }
        }
        let means = |layers: Vec<Vec<f64>>| layers.iter().map(|all| Mean::of(all)).collect();
        Self {
            facts: traced.len(),
            clean: mean(&|one| one.clean),
            corrupted: mean(&|one| one.corrupted),
            total: mean(&FactTrace::total_effect),
            indirect: numbers.into_iter().map(|(key, layers)| (key, means(layers))).collect(),
        }
    }

    /// Returns the layer with the largest mean effect, and this mean. If several layers have the largest mean, the
    /// first of them is returned. Returns `None` if no state of this kind was restored, or no fact has a token of this
    /// class.
    pub fn peak(&self, kind: RestoredKind, class: TokenClass) -> Option<(usize, Mean)> {
        let layers = self.indirect.get(&(kind, class))?;
        let first = layers.first().map(|mean| (0, *mean))?;
        Some(layers.iter().enumerate().fold(
            first,
            |best, (layer, mean)| {
                if mean.value > best.1.value { (layer, *mean) } else { best }
            },
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::research::trace::fact::KnownFact;
    use crate::research::trace::plan::RestoredTokens;

    fn traced(tokens: usize, subject: std::ops::Range<usize>, state: Vec<Vec<f64>>) -> FactTrace {
        let fact =
            KnownFact { id: "a".into(), prompt: "p".into(), subject: 0..1, answer: None, relation: None, chat: false };
        FactTrace {
            fact,
            tokens: vec!["t".into(); tokens],
            subject,
            answer: "x".into(),
            answer_tokens: None,
            clean: 0.9,
            corrupted: 0.1,
            places: RestoredTokens::All,
            restored: vec![(RestoredKind::State, state)],
        }
    }

    #[test]
    fn means_have_their_interval() {
        let mean = Mean::of(&[1.0, 2.0, 3.0, 4.0]);
        assert_eq!((mean.value, mean.count), (2.5, 4));
        assert!((mean.ci95 - 1.96 * (5.0f64 / 3.0).sqrt() / 2.0).abs() < 1e-12);
        assert_eq!(Mean::of(&[3.0]), Mean { value: 3.0, ci95: 0.0, count: 1 });
        assert_eq!(Mean::of(&[]), Mean::default());
    }

    #[test]
    fn tokens_have_their_classes() {
        let one = traced(8, 1..4, Vec::new());
        let classes: Vec<Vec<TokenClass>> = (0..8).map(|token| TokenClass::of(&one, token)).collect();
        let [first, middle, last, after, further, end] = TokenClass::ALL.map(|class| vec![class]);
        assert_eq!(classes, [vec![], first, middle, last, after, further.clone(), further, end]);
        // A subject of one token at the end of the prompt is in three classes: first and last subject token, and last
        // token.
        let single = traced(2, 1..2, Vec::new());
        assert_eq!(TokenClass::of(&single, 1), [TokenClass::FirstSubject, TokenClass::LastSubject, TokenClass::Last]);
        let at_start = traced(3, 0..2, Vec::new());
        assert_eq!(
            TokenClass::of(&at_start, 2),
            [TokenClass::FirstAfter, TokenClass::Last],
            "the published means count the token in both classes"
        );
    }

    #[test]
    fn effects_are_pooled_by_class_and_layer() {
        let rows = |x: f64| vec![vec![0.1, x], vec![0.2, 0.3], vec![0.5, 0.4]];
        let effects = AverageEffects::of(&[traced(3, 0..2, rows(0.3)), traced(3, 0..1, rows(0.5))]);
        assert!((effects.total.value - 0.8).abs() < 1e-12);
        let at = |class, layer: usize| effects.indirect[&(RestoredKind::State, class)][layer];
        assert!((at(TokenClass::FirstSubject, 1).value - 0.3).abs() < 1e-12);
        // The mean is over two values: at the last subject token of the first fact, and at the only subject token of
        // the second.
        assert!((at(TokenClass::LastSubject, 1).value - 0.3).abs() < 1e-12);
        assert_eq!((at(TokenClass::Last, 0).count, at(TokenClass::FirstAfter, 0).count), (2, 2));
        assert_eq!(effects.peak(RestoredKind::State, TokenClass::Last).map(|(layer, _)| layer), Some(0));
        assert_eq!(effects.peak(RestoredKind::Mlp, TokenClass::Last), None);
    }
}
