//! Encodes and decodes cached measurements: a header with the digests of the models, then the values, little-endian.
//!
//! Every decoder returns `None` if the header or the number of bytes is not as expected.

use super::AnswerScore;
use super::ask::{Inquiry, Prediction, PredictionPair, TOP};
use super::task::encode::EncodedItem;
use super::task::score::Answers;
use crate::behaviour::damage::Damage;
use crate::digest::Digest;
use crate::store::{EntryKind, Store, StoreError};

const MAGIC: &[u8; 8] = b"measure1";
/// The size of the header in bytes: 8 bytes of magic, and the digests of the base model and of two patches.
const HEAD: usize = 8 + 3 * 32;

/// The header of a cached measurement, which identifies the two models that were compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheHeader {
    /// The digest of the base model, over all its files.
    pub base: Digest,
    /// The id of the earlier model's patch; `None` if this model is the base model.
    pub before: Option<Digest>,
    /// The id of the later model's patch; `None` if this model is the base model, or if only the earlier model was
    /// measured.
    pub after: Option<Digest>,
}

impl CacheHeader {
    /// Reads the header of a cached measurement, without the values. Returns `None` if the file is missing, is damaged
    /// or has another format.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn of_entry(store: &Store, key: &Digest) -> Result<Option<Self>, StoreError> {
        match store.read_prefix(EntryKind::Measured, key, HEAD as u64) {
            Err(StoreError::Damaged { .. }) => Ok(None),
            found => Ok(found?.and_then(|(bytes, _)| Self::read(&mut EntryReader(&bytes)))),
        }
    }

    /// Returns the ids of the patches of the two models, at most two. A base model without a patch adds no id.
    pub fn patches(&self) -> impl Iterator<Item = Digest> {
        [self.before, self.after].into_iter().flatten()
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend(self.base.bytes());
        for patch in [self.before, self.after] {
            out.extend(patch.map_or([0; 32], |patch| *patch.bytes()));
        }
        out
    }

    fn read(reader: &mut EntryReader<'_>) -> Option<Self> {
        if reader.take::<8>()? != *MAGIC {
            return None;
        }
        let base = Digest::from_bytes(reader.take()?);
        let mut patch = || {
            let bytes = reader.take::<32>()?;
            Some((bytes != [0; 32]).then(|| Digest::from_bytes(bytes)))
        };
        Some(Self { base, before: patch()?, after: patch()? })
    }
}

/// The bytes of a cached measurement that are still to be decoded.
struct EntryReader<'a>(&'a [u8]);

impl<'a> EntryReader<'a> {
    /// Returns a reader of the bytes after the header; `None` if the bytes do not start with `header`.
    fn after(bytes: &'a [u8], header: &CacheHeader) -> Option<Self> {
        let mut reader = Self(bytes);
        (CacheHeader::read(&mut reader)? == *header).then_some(reader)
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*first)
    }

    fn count(&mut self) -> Option<usize> {
        Some(u32::from_le_bytes(self.take()?) as usize)
    }

    fn number(&mut self) -> Option<f64> {
        Some(f64::from_bits(u64::from_le_bytes(self.take()?))).filter(|number| number.is_finite())
    }

    /// Returns a text whose number of bytes is encoded before it.
    fn text(&mut self) -> Option<String> {
        let length = self.count()?;
        let (first, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        String::from_utf8(first.to_vec()).ok()
    }

    fn prediction(&mut self) -> Option<Prediction> {
        let top = (0..at_most(self.count()?, TOP)?).map(|_| Some((u32::from_le_bytes(self.take()?), self.number()?)));
        let top = top.collect::<Option<Vec<_>>>()?;
        let scores = self.count()?;
        let score = |_| {
            let holds = match self.take::<1>()? {
                [0] => false,
                [1] => true,
                _ => return None,
            };
            Some(AnswerScore { holds, probability: self.number()?, nll: self.number()? })
        };
        let scores = (0..scores).map(score).collect::<Option<_>>()?;
        Some(Prediction { top, scores })
    }

    /// Returns `value` if all bytes were decoded; `None` if bytes remain, because the file is then damaged.
    fn end<T>(&self, value: T) -> Option<T> {
        self.0.is_empty().then_some(value)
    }
}

fn at_most(count: usize, most: usize) -> Option<usize> {
    (count <= most).then_some(count)
}

/// Decodes the predictions of both models. Returns `None` unless the header matches, there is one pair of predictions
/// per inquiry, and every prediction has one score per accepted answer.
pub(super) fn decode_answers(bytes: &[u8], header: &CacheHeader, inquiries: &[Inquiry]) -> Option<Vec<PredictionPair>> {
    let mut reader = EntryReader::after(bytes, header)?;
    let mut out = Vec::with_capacity(inquiries.len());
    for inquiry in inquiries {
        let (before, after) = (reader.prediction()?, reader.prediction()?);
        if [&before, &after].iter().any(|prediction| prediction.scores.len() != inquiry.answers()) {
            return None;
        }
        out.push(PredictionPair { before, after, divergence: reader.number()?, texts: None });
    }
    reader.end(out)
}

pub(super) fn encode_answers(header: &CacheHeader, pairs: &[PredictionPair]) -> Vec<u8> {
    let mut out = header.encode();
    for pair in pairs {
        for prediction in [&pair.before, &pair.after] {
            out.extend((prediction.top.len() as u32).to_le_bytes());
            for (token, probability) in &prediction.top {
                out.extend(token.to_le_bytes());
                out.extend(probability.to_le_bytes());
            }
            out.extend((prediction.scores.len() as u32).to_le_bytes());
            for AnswerScore { holds, probability, nll } in &prediction.scores {
                out.push(u8::from(*holds));
                out.extend(probability.to_le_bytes());
                out.extend(nll.to_le_bytes());
            }
        }
        out.extend(pair.divergence.to_le_bytes());
    }
    out
}

/// Decodes the damage on neutral text; `None` unless the header matches.
pub(super) fn decode_damage(bytes: &[u8], header: &CacheHeader) -> Option<Damage> {
    let mut reader = EntryReader::after(bytes, header)?;
    let damage = Damage {
        documents: reader.count()?,
        tokens: reader.count()?,
        divergence: reader.number()?,
        perplexity_before: reader.number()?,
        perplexity_after: reader.number()?,
    };
    reader.end(damage)
}

pub(super) fn encode_damage(header: &CacheHeader, damage: &Damage) -> Vec<u8> {
    let mut out = header.encode();
    for count in [damage.documents, damage.tokens] {
        out.extend((count as u32).to_le_bytes());
    }
    for number in [damage.divergence, damage.perplexity_before, damage.perplexity_after] {
        out.extend(number.to_le_bytes());
    }
    out
}

/// Decodes hidden states; `None` unless the header matches and there are exactly `numbers` values.
pub(super) fn decode_states(bytes: &[u8], header: &CacheHeader, numbers: usize) -> Option<Vec<f32>> {
    let EntryReader(rest) = EntryReader::after(bytes, header)?;
    let (found, odd) = rest.as_chunks::<4>();
    let sound = odd.is_empty() && found.len() == numbers;
    sound.then(|| found.iter().map(|number| f32::from_le_bytes(*number)).collect())
}

pub(super) fn encode_states(header: &CacheHeader, states: &[f32]) -> Vec<u8> {
    let mut out = header.encode();
    out.extend(states.iter().flat_map(|number| number.to_le_bytes()));
    out
}

/// Decodes a continuation; `None` unless the header matches and the text is UTF-8.
pub(super) fn decode_text(bytes: &[u8], header: &CacheHeader) -> Option<String> {
    let EntryReader(rest) = EntryReader::after(bytes, header)?;
    String::from_utf8(rest.to_vec()).ok()
}

pub(super) fn encode_text(header: &CacheHeader, text: &str) -> Vec<u8> {
    let mut out = header.encode();
    out.extend(text.as_bytes());
    out
}

/// Decodes the answers of one model to some questions of a task; `None` unless the header matches and there is one
/// answer per question.
pub(super) fn decode_task(bytes: &[u8], header: &CacheHeader, questions: &[EncodedItem]) -> Option<Answers> {
    let mut reader = EntryReader::after(bytes, header)?;
    let choices: Vec<usize> = questions.iter().filter_map(EncodedItem::answers).map(<[_]>::len).collect();
    let answers = if choices.len() == questions.len() {
        let sums = |count: &usize| (0..*count).map(|_| reader.number()).collect::<Option<Vec<f64>>>();
        Answers::Likelihoods(choices.iter().map(sums).collect::<Option<_>>()?)
    } else {
        Answers::Texts(questions.iter().map(|_| reader.text()).collect::<Option<_>>()?)
    };
    reader.end(answers)
}

pub(super) fn encode_task(header: &CacheHeader, answers: &Answers) -> Vec<u8> {
    let mut out = header.encode();
    match answers {
        Answers::Likelihoods(sums) => out.extend(sums.iter().flatten().flat_map(|sum| sum.to_le_bytes())),
        Answers::Texts(texts) => {
            for text in texts {
                out.extend((text.len() as u32).to_le_bytes());
                out.extend(text.as_bytes());
            }
        }
    }
    out
}
