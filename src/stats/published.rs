//! Reads second moments as ROME published them: an `.npz` with `mom2.mom2` (the sum `Σ k kᵀ` over the MLP keys) and
//! `mom2.count` (their number). ROME's `rome/layer_stats.py` writes the file with `np.savez`, which does not compress.
//!
//! An `.npz` is a zip archive of `.npy` members. Only these two members are read, and only if they are uncompressed.
//! The length of the model's MLP keys determines the maximum size of the members and of the file.

use std::fs::File;
use std::io::{BufReader, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use zip::{CompressionMethod, ZipArchive};

use super::moment::SecondMoment;
use crate::digest::Digest;
use crate::numeric::npy::NpyArray;
use crate::regular_file;

/// The archive member with the raw sum `Σ k kᵀ`.
const SUM: &str = "mom2.mom2.npy";
/// The archive member with the number of MLP keys in the sum.
const COUNT: &str = "mom2.count.npy";
/// The maximum size in bytes of the `.npy` header of an archive member, and of the whole member [`COUNT`].
const HEADER: u64 = 1 << 12;
/// The maximum size in bytes of everything in the archive except the sum and the `.npy` header of the sum.
const REST: u64 = 1 << 20;
/// The maximum number of archive members; published files have four.
const MOST_MEMBERS: u16 = 64;

/// The reason why a published second moment is rejected: the file cannot be read, is too large, changes while it is
/// read, or is not in the format that ROME publishes, or its content is invalid for the given model.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the error messages describe the variants and their fields")]
pub enum PublishedError {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{path} is not a regular file")]
    NotAFile { path: PathBuf },
    #[error("{path} has {size} bytes: more than the second moment of keys of width {inner} can have")]
    TooLarge { path: PathBuf, size: u64, inner: usize },
    #[error("{path} changed while it was read: try again when nothing writes to it")]
    Changed { path: PathBuf },
    #[error("{path} is not an npz file: {why}")]
    NotZip { path: PathBuf, why: String },
    #[error("{path} has no member {member}: it is not in the format that ROME publishes")]
    Missing { path: PathBuf, member: &'static str },
    #[error("{path}, {member}: {why}")]
    Member { path: PathBuf, member: &'static str, why: String },
}

/// A published second moment, read from a file.
#[derive(Debug, PartialEq)]
pub struct Published {
    pub file: Digest,
    /// The sum of the outer products of the MLP keys, and the number of keys.
    pub moment: SecondMoment,
}

/// Reads a published second moment, whose MLP keys must have length `inner`.
///
/// # Errors
/// If the file cannot be read, changes while it is read, is not in the format that ROME publishes, or has MLP keys of
/// another length.
pub fn read(path: &Path, inner: usize) -> Result<Published, PublishedError> {
    let io = |source| PublishedError::Io { path: path.to_owned(), source };
    let metadata = path.metadata().map_err(io)?;
    if !metadata.is_file() {
        return Err(PublishedError::NotAFile { path: path.to_owned() });
    }
    let most = 8 * (inner as u64).pow(2) + HEADER;
    if metadata.len() > most + REST {
        return Err(PublishedError::TooLarge { path: path.to_owned(), size: metadata.len(), inner });
    }
    let mut opened = regular_file::open(path).map_err(io)?;
    let (file, _) = Digest::of_reader((&opened).take(most + REST)).map_err(io)?;
    let not_zip = |why: String| PublishedError::NotZip { path: path.to_owned(), why };
    if let Some(members) = members(&mut opened, metadata.len()).map_err(io)?.filter(|members| *members > MOST_MEMBERS) {
        let says = if members == u16::MAX { "very many".to_owned() } else { members.to_string() };
        return Err(not_zip(format!("it states {says} members; at most {MOST_MEMBERS} are accepted")));
    }
    opened.rewind().map_err(io)?;
    let opened = ZipArchive::new(BufReader::new(opened));
    let mut archive = opened.map_err(|error| not_zip(error.to_string()))?;
    let wrong = |member, why: String| PublishedError::Member { path: path.to_owned(), member, why };
    let count = member(&mut archive, path, COUNT, HEADER)?;
    let count = count_of(&count).map_err(|why| wrong(COUNT, why))?;
    let sum = member(&mut archive, path, SUM, most)?;
    // A new length or modification time means that the file was changed after its digest was computed.
    let after = path.metadata().map_err(io)?;
    if (after.len(), after.modified().ok()) != (metadata.len(), metadata.modified().ok()) {
        return Err(PublishedError::Changed { path: path.to_owned() });
    }
    let moment = moment_of(&sum, inner, count).map_err(|why| wrong(SUM, why))?;
    Ok(Published { file, moment })
}

/// Returns the number of members according to the end record of the zip archive. Returns `None` if there is no end
/// record, and `u16::MAX` for a zip64 archive. If several byte ranges look like end records, returns the largest
/// number.
///
/// The number is checked before the zip library opens the archive, because the library allocates memory for all members
/// at once.
fn members(file: &mut File, length: u64) -> std::io::Result<Option<u16>> {
    /// The size in bytes of the end record of a zip archive, without the comment in the record.
    const END: usize = 22;
    /// The number of bytes at the end of the file that are searched for the end record. The comment in an end record
    /// has at most 65,535 bytes.
    const COMMENT: u64 = 1 << 17;
    let tail = length.min(COMMENT);
    file.seek(SeekFrom::Start(length - tail))?;
    let mut bytes = Vec::new();
    file.take(tail).read_to_end(&mut bytes)?;
    let ends = bytes.windows(END).filter(|end| end.starts_with(b"PK\x05\x06"));
    let count = |end: &[u8]| {
        if end[12..20].chunks(4).any(|place| place == [0xff; 4]) {
            u16::MAX
        } else {
            u16::from_le_bytes([end[10], end[11]])
        }
    };
    Ok(ends.map(count).max())
}

/// Returns the bytes of the archive member `name`, which must be uncompressed and have at most `most` bytes.
fn member(
    archive: &mut ZipArchive<BufReader<File>>,
    path: &Path,
    name: &'static str,
    most: u64,
) -> Result<Vec<u8>, PublishedError> {
    let wrong = |why: String| PublishedError::Member { path: path.to_owned(), member: name, why };
    let mut member = archive.by_name(name).map_err(|error| match error {
        zip::result::ZipError::FileNotFound => PublishedError::Missing { path: path.to_owned(), member: name },
        error => wrong(error.to_string()),
    })?;
    if member.compression() != CompressionMethod::Stored || member.encrypted() {
        return Err(wrong("it is compressed; write it with `np.savez`, which does not compress".to_owned()));
    }
    if member.size() > most {
        return Err(wrong(format!("it has {} bytes; at most {most} are accepted", member.size())));
    }
    let mut bytes = Vec::new();
    member.by_ref().take(most).read_to_end(&mut bytes).map_err(|error| wrong(error.to_string()))?;
    Ok(bytes)
}

fn count_of(bytes: &[u8]) -> Result<u64, String> {
    let array = NpyArray::parse(bytes)?;
    let count = array.numbers().next().filter(|_| array.shape.iter().all(|side| *side == 1));
    // The conversion to u64 is exact, because f64 represents every integer below 9e15.
    count
        .filter(|count| *count >= 1.0 && *count < 9e15 && count.fract() == 0.0)
        .map(|count| count as u64)
        .ok_or_else(|| "it is not a number of keys".to_owned())
}

/// Parses the sum, and checks that it can be a sum of outer products `k kᵀ`: square, finite, symmetric, and without a
/// negative diagonal element.
fn moment_of(bytes: &[u8], inner: usize, count: u64) -> Result<SecondMoment, String> {
    let array = NpyArray::parse(bytes)?;
    if array.shape != [inner, inner] {
        return Err(format!("its shape is {:?}, but keys of this model have {inner} numbers", array.shape));
    }
    if let Some(place) = array.numbers().position(|x| !x.is_finite()) {
        return Err(format!("element [{}, {}] is not finite", place / inner, place % inner));
    }
    let at = |row: usize, column: usize| array.at(row * inner + column);
    for row in 0..inner {
        if at(row, row) < 0.0 {
            return Err(format!("element [{row}, {row}] is negative: this is not a second moment"));
        }
        for column in 0..row {
            let (one, other) = (at(row, column), at(column, row));
            // The published sums were computed in f32, so they are only nearly symmetric.
            if (one - other).abs() > 1e-4 * (at(row, row) * at(column, column)).sqrt() {
                return Err(format!("elements [{row}, {column}] and [{column}, {row}] differ: it is not symmetric"));
            }
        }
    }
    let (mut row, mut column) = (0, 0);
    let lower = (0..inner * (inner + 1) / 2).map(|_| {
        let number = at(row, column);
        (row, column) = if column == row { (row + 1, 0) } else { (row, column + 1) };
        number
    });
    SecondMoment::from_lower(inner, count, lower).ok_or_else(|| "its size is not the expected one".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numeric::npy::tests::npy;
    use std::io::Write as _;
    use zip::write::SimpleFileOptions;

    fn npz(members: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        for (name, bytes) in members {
            let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
            archive.start_file(*name, options).expect("a member");
            archive.write_all(bytes).expect("written");
        }
        archive.finish().expect("whole").into_inner()
    }

    fn sum(numbers: [f32; 4]) -> Vec<u8> {
        npy("<f4", "(2, 2)", &numbers.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>())
    }

    fn sound() -> Vec<(&'static str, Vec<u8>)> {
        vec![
            ("mom2.constructor.npy", npy("<U5", "()", &[0; 20])),
            (COUNT, npy("<i8", "()", &12_i64.to_le_bytes())),
            (SUM, sum([4.0, 1.0, 1.0, 2.0])),
            ("sample_size.npy", npy("<i8", "()", &100_000_i64.to_le_bytes())),
        ]
    }

    fn read_bytes(bytes: &[u8], inner: usize) -> Result<Published, PublishedError> {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), bytes).expect("written");
        read(file.path(), inner)
    }

    #[test]
    fn what_rome_publishes_is_read() {
        let bytes = npz(&sound());
        let found = read_bytes(&bytes, 2).expect("sound");
        assert_eq!((found.moment.count(), found.file), (12, Digest::of(&bytes)));
        assert_eq!(found.moment.lower().collect::<Vec<_>>(), [&[4.0][..], &[1.0, 2.0]]);
    }

    /// Returns a valid archive with additional members, 65 in total, which is one more than [`MOST_MEMBERS`].
    fn crowded() -> Vec<u8> {
        let names: Vec<String> = (0..61).map(|number| format!("{number}.npy")).collect();
        let others = names.iter().map(|name| (name.as_str(), Vec::new()));
        npz(&sound().into_iter().chain(others).collect::<Vec<_>>())
    }

    /// Returns an archive in which every member is marked as deflated.
    fn compressed() -> Vec<u8> {
        let mut bytes = npz(&sound());
        for (start, method) in [(b"PK\x03\x04", 8), (b"PK\x01\x02", 10)] {
            let places: Vec<usize> = (0..bytes.len()).filter(|&at| bytes[at..].starts_with(start)).collect();
            places.into_iter().for_each(|at| bytes[at + method] = 8);
        }
        bytes
    }

    /// Returns an archive whose end record refers to a zip64 record.
    fn elsewhere() -> Vec<u8> {
        let mut bytes = npz(&sound());
        let end = bytes.len() - 22;
        bytes[end + 16..end + 20].fill(0xff);
        bytes
    }

    #[test]
    fn anything_else_is_refused_in_words() {
        let with = |index: usize, bytes: Vec<u8>| {
            let mut members = sound();
            members[index].1 = bytes;
            npz(&members)
        };
        let cases = [
            (npz(&sound()[..2]), "no member mom2.mom2.npy"),
            (npz(&sound()[2..]), "no member mom2.count.npy"),
            (with(1, npy("<i8", "()", &0_i64.to_le_bytes())), "not a number of keys"),
            (with(1, npy("<i8", "()", &(-3_i64).to_le_bytes())), "not a number of keys"),
            (with(1, npy("|O", "()", b"\x80\x03K\x0c.")), "not a row-major array of plain numbers"),
            (with(2, sum([4.0, 1.0, 3.0, 2.0])), "not symmetric"),
            (with(2, sum([-4.0, 1.0, 1.0, 2.0])), "negative"),
            (with(2, sum([f32::NAN, 1.0, 1.0, 2.0])), "not finite"),
            (with(2, npy("<f4", "(4,)", &[0; 16])), "its shape is [4]"),
            (with(2, vec![0; 100_000]), "at most"),
            (crowded(), "65 members"),
            (compressed(), "compress"),
            (elsewhere(), "very many members"),
            ([&crowded()[..], &[0; 65_536 + 14]].concat(), "65 members"),
            (b"PK\x03\x04".to_vec(), "not an npz file"),
            (b"\x80\x02}q\x00.".to_vec(), "not an npz file"),
            (vec![0; 2 << 20], "more than the second moment"),
        ];
        for (bytes, said) in cases {
            let error = read_bytes(&bytes, 2).expect_err(said).to_string();
            assert!(error.contains(said), "{error}, not {said}");
        }
        let sound = npz(&sound());
        for length in (0..sound.len()).step_by(7) {
            assert!(read_bytes(&sound[..length], 2).is_err(), "cut off at {length}");
        }
        assert!(matches!(read(Path::new("/"), 2), Err(PublishedError::NotAFile { .. })));
    }
}
