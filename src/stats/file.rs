//! Writes and reads second moments: safetensors files with the lower triangle of a sum and the provenance of the sum.

use std::collections::BTreeMap;
use std::io::{self, Write};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::moment::SecondMoment;
use crate::digest::{Digest, FieldHasher};
use crate::numeric::NUMERICS;
use crate::safetensors::{Dtype, Header, HeaderError, header_bytes};

/// The inputs that determine the bytes of a second moment. Two runs of this program with equal inputs give equal bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Provenance {
    /// The version of the arithmetic, such as `portable-1`.
    pub numerics: String,
    /// The digest of the base model's files.
    pub base: Digest,
    /// The index of the layer whose MLP keys are summed.
    pub layer: usize,
    /// The length of an MLP key.
    pub inner: usize,
    /// The digest of the corpus text without its byte order mark and with `\n` as line ends.
    pub corpus: Digest,
    /// The maximum number of tokens of a document; the rest of a longer document is not read.
    pub max_tokens: usize,
    /// The maximum number of documents that are read; `None` for all documents of the corpus.
    pub max_documents: Option<u64>,
    /// The digest of the file from which the statistics are imported; `None` if this program computes the statistics.
    /// The field is not serialised, because [`Statistics::imported`] contains the same digest.
    #[serde(skip)]
    pub imported: Option<Digest>,
}

/// The sum of the outer products of one layer's MLP keys, with its provenance.
#[derive(Clone, Debug, PartialEq)]
pub struct Statistics {
    pub provenance: Provenance,
    /// The number of documents that were read; 0 for imported statistics.
    pub documents: u64,
    /// The digest of the file from which the second moment was imported; `None` if this program computed it. The user
    /// states the provenance of an imported second moment, and the program does not verify this statement.
    pub imported: Option<Digest>,
    pub moment: SecondMoment,
}

/// The error for a file without valid statistics, or with the statistics of another provenance.
#[derive(Debug, thiserror::Error)]
pub enum StatisticsFileError {
    #[error("the statistics are damaged: {0}")]
    Header(#[from] HeaderError),
    /// The file is a valid safetensors file, but it lacks the provenance or the triangle of a sum, or one of them is
    /// invalid.
    #[error("the statistics are damaged: {0}")]
    Damaged(String),
    #[error("these statistics are of another {field}: expected {expected}, found {found}")]
    Foreign {
        /// The name of the provenance field that differs.
        field: &'static str,
        /// The value of the differing field in the requested provenance.
        expected: String,
        /// The value of the differing field in the file.
        found: String,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Metadata {
    format: u32,
    documents: u64,
    keys: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    imported: Option<Digest>,
    provenance: Provenance,
}

const FORMAT: u32 = 1;
const TENSOR: &str = "sum";
const KEY: &str = "corrigenda";

impl Provenance {
    /// Returns the address that statistics with this provenance have in the store. The address of imported statistics
    /// also depends on the digest of the imported file.
    pub fn address(&self) -> Digest {
        let mut canon = FieldHasher::new("statistics/1");
        canon.text("numerics", &self.numerics).digest("base", &self.base).number("layer", self.layer as u64);
        canon.number("inner", self.inner as u64).digest("corpus", &self.corpus);
        canon.number("max-tokens", self.max_tokens as u64);
        canon.number("max-documents", self.max_documents.unwrap_or(u64::MAX));
        if let Some(file) = &self.imported {
            canon.digest("imported", file);
        }
        canon.finish()
    }

    /// Returns a copy with `imported` set to `None`: the provenance of the sum that this program would compute itself.
    #[must_use]
    pub fn summed(&self) -> Self {
        Self { imported: None, ..self.clone() }
    }

    /// Checks that `found` has the same values as `self` in all fields except `imported`.
    ///
    /// # Errors
    /// If a field differs. The error [`StatisticsFileError::Foreign`] names the first such field.
    pub fn expect(&self, found: &Self) -> Result<(), StatisticsFileError> {
        let limit = |most: Option<u64>| most.map_or_else(|| "none".to_owned(), |most| most.to_string());
        let fields = [
            ("numerics", self.numerics.clone(), found.numerics.clone()),
            ("model", self.base.to_string(), found.base.to_string()),
            ("layer", self.layer.to_string(), found.layer.to_string()),
            ("key width", self.inner.to_string(), found.inner.to_string()),
            ("corpus", self.corpus.to_string(), found.corpus.to_string()),
            ("length of documents", self.max_tokens.to_string(), found.max_tokens.to_string()),
            ("number of documents", limit(self.max_documents), limit(found.max_documents)),
        ];
        match fields.into_iter().find(|(_, expected, actual)| expected != actual) {
            Some((field, expected, actual)) => Err(StatisticsFileError::Foreign { field, expected, found: actual }),
            None => Ok(()),
        }
    }
}

impl Statistics {
    /// Returns empty statistics, to which MLP keys can be added.
    pub fn new(provenance: Provenance) -> Self {
        let moment = SecondMoment::new(provenance.inner);
        Self { provenance, documents: 0, imported: None, moment }
    }

    /// Writes the statistics as a safetensors file. Equal statistics have equal bytes.
    ///
    /// # Errors
    /// If the writer fails.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let metadata = Metadata {
            format: FORMAT,
            documents: self.documents,
            keys: self.moment.count(),
            imported: self.imported,
            provenance: self.provenance.clone(),
        };
        write_triangle(out, TENSOR, self.moment.inner(), &serde_json::to_string(&metadata)?, self.moment.lower())
    }

    /// Reads statistics, and rejects those whose provenance differs from `expected`.
    ///
    /// # Errors
    /// If the bytes are damaged, or of another model, layer, corpus or document limit.
    pub fn read(bytes: &[u8], expected: &Provenance) -> Result<Self, StatisticsFileError> {
        let (metadata, lower): (Metadata, _) = read_triangle(bytes, TENSOR)?;
        expected.expect(&metadata.provenance)?;
        let moment = SecondMoment::from_lower(expected.inner, metadata.keys, lower.into_iter());
        let moment = moment.ok_or_else(|| StatisticsFileError::Damaged("the sum has an unexpected size".into()))?;
        let Metadata { provenance, documents, imported, .. } = metadata;
        Ok(Self { provenance, documents, imported, moment })
    }

    /// Reads only the header of a file of `length` bytes; `first` are its first bytes.
    ///
    /// # Errors
    /// If the header is damaged or incomplete.
    pub fn describe(first: &[u8], length: u64) -> Result<StatisticsHeader, StatisticsFileError> {
        let Metadata { provenance, documents, keys, imported, .. } = metadata(&Header::parse(length, first)?)?;
        Ok(StatisticsHeader { provenance, documents, keys, imported })
    }
}

/// The header of a statistics file: everything except the sum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatisticsHeader {
    pub provenance: Provenance,
    /// The number of documents that were read; 0 for imported statistics.
    pub documents: u64,
    /// The number of MLP keys in the sum, one per token.
    pub keys: u64,
    /// The digest of the file from which the second moment was imported; `None` if this program computed it.
    pub imported: Option<Digest>,
}

impl Provenance {
    /// Returns the provenance of a sum over all documents of a corpus, with the arithmetic of this program.
    pub fn new(base: Digest, layer: usize, inner: usize, corpus: Digest, max_tokens: usize) -> Self {
        Self {
            numerics: NUMERICS.to_owned(),
            base,
            layer,
            inner,
            corpus,
            max_tokens,
            max_documents: None,
            imported: None,
        }
    }
}

/// Writes a safetensors file with one F64 tensor: the lower triangle of a matrix with `order` rows, row by row.
/// `metadata` is the text under the only metadata key.
pub(super) fn write_triangle<'r>(
    out: &mut dyn Write,
    tensor: &str,
    order: usize,
    metadata: &str,
    rows: impl Iterator<Item = &'r [f64]>,
) -> io::Result<()> {
    let metadata = BTreeMap::from([(KEY.to_owned(), metadata.to_owned())]);
    let length = (order * (order + 1) / 2) as u64;
    out.write_all(&header_bytes(&[(tensor, Dtype::F64, &[length])], &metadata))?;
    let mut bytes = Vec::new();
    for row in rows {
        bytes.clear();
        bytes.extend(row.iter().flat_map(|x| x.to_le_bytes()));
        out.write_all(&bytes)?;
    }
    Ok(())
}

/// Reads a file that [`write_triangle`] wrote, and checks that all numbers are finite. Returns the metadata and the
/// packed lower triangle.
pub(super) fn read_triangle<M: for<'d> Deserialize<'d>>(
    bytes: &[u8],
    tensor: &str,
) -> Result<(M, Vec<f64>), StatisticsFileError> {
    let header = Header::parse(bytes.len() as u64, bytes)?;
    let metadata = metadata(&header)?;
    let damaged = |why: &str| StatisticsFileError::Damaged(why.to_owned());
    let info = header.tensors.get(tensor).filter(|info| info.dtype == Dtype::F64);
    let info = info.ok_or_else(|| damaged("the triangle is missing, or not F64"))?;
    let (words, _) = bytes[info.start as usize..info.end as usize].as_chunks::<8>();
    let numbers: Vec<f64> = words.iter().map(|word| f64::from_le_bytes(*word)).collect();
    if numbers.iter().any(|number| !number.is_finite()) {
        return Err(damaged("it holds a number that is not finite"));
    }
    Ok((metadata, numbers))
}

fn metadata<M: for<'d> Deserialize<'d>>(header: &Header) -> Result<M, StatisticsFileError> {
    let text = header.metadata.get(KEY).ok_or_else(|| StatisticsFileError::Damaged("it has no provenance".into()))?;
    serde_json::from_str(text).map_err(|problem| StatisticsFileError::Damaged(format!("its provenance: {problem}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numeric::Isa;

    fn sample() -> Statistics {
        let mut statistics = Statistics::new(Provenance::new(Digest::of(b"b"), 3, 5, Digest::of(b"c"), 64));
        let keys: Vec<f32> = (0..35).map(|x| (x as f32 * 0.37).sin()).collect();
        statistics.moment.add(Isa::plain(), &keys);
        statistics.documents = 2;
        statistics
    }

    fn bytes(statistics: &Statistics) -> Vec<u8> {
        let mut out = Vec::new();
        statistics.write(&mut out).expect("memory");
        out
    }

    #[test]
    fn comes_back_as_it_was() {
        let statistics = sample();
        let written = bytes(&statistics);
        let read = Statistics::read(&written, &statistics.provenance).expect("just written");
        assert_eq!(bytes(&read), written);
        assert_eq!(read.moment.matrix(), statistics.moment.matrix());
        let described = Statistics::describe(&written[..480], written.len() as u64).expect("just written");
        let want =
            StatisticsHeader { provenance: statistics.provenance.clone(), documents: 2, keys: 7, imported: None };
        assert_eq!(described, want);
        let file = Some(Digest::of(b"a file"));
        let with_import = bytes(&Statistics { imported: file, ..statistics.clone() });
        assert_eq!(Statistics::read(&with_import, &statistics.provenance).expect("just written").imported, file);
    }

    #[test]
    fn statistics_of_something_else_are_refused() {
        let statistics = sample();
        let written = bytes(&statistics);
        type Change = fn(&mut Provenance);
        let asked = Provenance { imported: Some(Digest::of(b"a file")), ..statistics.provenance.clone() };
        assert_ne!(asked.address(), statistics.provenance.address());
        assert_eq!(asked.summed().address(), statistics.provenance.address());
        let changes: [(Change, &str); 5] = [
            (|p| p.base = Digest::of(b"x"), "another model"),
            (|p| p.layer = 4, "another layer: expected 4, found 3"),
            (|p| p.corpus = Digest::of(b"x"), "another corpus"),
            (|p| p.max_tokens = 9, "another length"),
            (|p| p.max_documents = Some(9), "another number of documents: expected 9, found none"),
        ];
        for (change, part) in changes {
            let mut expected = statistics.provenance.clone();
            change(&mut expected);
            assert_ne!(expected.address(), statistics.provenance.address());
            let error = Statistics::read(&written, &expected).expect_err(part).to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn damage_is_refused() {
        let statistics = sample();
        let mut written = bytes(&statistics);
        let last = written.len() - 8;
        written[last..].copy_from_slice(&f64::NAN.to_le_bytes());
        assert!(matches!(Statistics::read(&written, &statistics.provenance), Err(StatisticsFileError::Damaged(_))));
        written.truncate(last);
        assert!(matches!(Statistics::read(&written, &statistics.provenance), Err(StatisticsFileError::Header(_))));
    }
}
