use super::*;
use crate::safetensors::{TensorData, write};
use proptest::prelude::*;

fn file(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

fn parse(bytes: &[u8]) -> Result<Header, HeaderError> {
    Header::parse(bytes.len() as u64, bytes)
}

/// Asserts that a file with this header and `data` zero bytes is rejected with a message that contains `part`.
fn refused(header: &str, data: usize, part: &str) {
    let error = parse(&file(header, data)).expect_err(header).to_string();
    assert!(error.contains(part), "{error:?} does not contain {part:?}");
}

fn tensor(name: &str, dtype: &str, shape: &str, offsets: &str) -> String {
    format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}"#)
}

#[test]
fn too_short_or_too_long() {
    assert!(matches!(parse(b""), Err(HeaderError::Empty)));
    assert!(matches!(parse(&[1; 7]), Err(HeaderError::TooShort(7))));
    assert!(matches!(parse(&u64::MAX.to_le_bytes()), Err(HeaderError::TooLong(u64::MAX))));
    assert!(matches!(parse(&100_000_001_u64.to_le_bytes()), Err(HeaderError::TooLong(_))));
    let length = 9_u64.to_le_bytes();
    assert!(matches!(parse(&length), Err(HeaderError::PastEnd { header: 9, left: 0 })));
    assert!(matches!(Header::parse(100, &length), Err(HeaderError::NotGiven { needed: 17, given: 8 })));
}

#[test]
fn not_a_header() {
    let mut bytes = file("{  }", 0);
    bytes[9] = 0xff;
    assert!(matches!(parse(&bytes), Err(HeaderError::NotUtf8 { offset: 9 })));
    refused("", 0, "not a JSON object");
    refused(" {}", 0, "does not start with");
    refused("{", 0, "not a JSON object");
    refused("{}x", 0, "not a JSON object");
    refused("[]", 0, "does not start with");
    refused(r#"{"a":1}"#, 0, "does not describe tensors");
    refused(r#"{"__metadata__":{"a":1}}"#, 0, "does not describe tensors");
    refused(r#"{"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,0]}}"#, 0, "does not describe tensors");
    refused(r#"{"a":{"dtype":"U8","shape":[1.5],"data_offsets":[0,0]}}"#, 0, "does not describe tensors");
    refused(r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":0}}"#, 1, "unknown field `x`");
    let deep = format!(r#"{{"a":{{"dtype":"U8","shape":{}"#, "[".repeat(1_000_000));
    refused(&deep, 0, "does not describe tensors");
    let deep_field = format!(r#"{{"a":{{"x":{}"#, "[".repeat(1_000_000));
    refused(&deep_field, 0, "does not describe tensors");
}

#[test]
fn duplicates() {
    let a = tensor("a", "U8", "[1]", "[0,1]");
    refused(&format!("{{{a},{a}}}"), 1, "names `a` twice");
    refused(r#"{"__metadata__":{},"__metadata__":{}}"#, 0, "names `__metadata__` twice");
    refused(r#"{"__metadata__":{"k":"1","k":"2"}}"#, 0, "names `k` twice");
    refused(r#"{"a":{"dtype":"U8","dtype":"I8","shape":[1],"data_offsets":[0,1]}}"#, 1, "duplicate field `dtype`");
}

#[test]
fn tensors_that_do_not_fit() {
    let one = |dtype, shape, offsets| format!("{{{}}}", tensor("a", dtype, shape, offsets));
    refused(&one("F33", "[1]", "[0,4]"), 4, "unknown dtype `F33`");
    refused(&one("F32", "[18446744073709551615,2]", "[0,4]"), 4, "no length in whole bytes");
    refused(&one("F32", "[4611686018427387904]", "[0,4]"), 4, "no length in whole bytes");
    refused(&one("U8", "[]", "[18446744073709551615,18446744073709551615]"), 4, "no length");
    refused(&one("F32", "[2]", "[0,4]"), 4, "is 8 bytes, its offsets hold 4");
    refused(&one("U8", "[1]", "[2,1]"), 4, "before it starts");
    refused(&one("U8", "[2]", "[0,2]"), 1, "truncated");
    refused(&one("U8", "[2]", "[0,2]"), 3, "1 bytes after the last tensor");
    refused(&one("U8", "[2]", "[1,3]"), 3, "belong to no tensor");
    let two = |second| format!("{{{},{}}}", tensor("a", "U8", "[2]", "[0,2]"), tensor("b", "U8", "[2]", second));
    refused(&two("[1,3]"), 3, "inside the tensor before it");
    refused(&two("[0,2]"), 2, "inside the tensor before it");
    refused(&two("[3,5]"), 5, "from 2 on belong to no tensor");
    assert!(parse(&file(&two("[2,4]"), 4)).is_ok());
}

#[test]
fn empty_tensors_and_headers_alone() {
    let header = format!("{{{},{}}}   ", tensor("a", "U8", "[0]", "[0,0]"), tensor("b", "U8", "[2]", "[0,2]"));
    let bytes = file(&header, 2);
    let whole = parse(&bytes).expect("valid");
    assert_eq!(whole, Header::parse(bytes.len() as u64, &bytes[..bytes.len() - 2]).expect("the header is all there"));
    assert_eq!(parse(&file("{}", 0)).expect("valid"), Header::default());
}

proptest! {
    #[test]
    fn never_panics_on_noise(bytes in proptest::collection::vec(any::<u8>(), 0..64), len in any::<u64>()) {
        let _ = parse(&bytes);
        let _ = Header::parse(len, &bytes);
    }

    #[test]
    fn never_panics_on_mutations(changes in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..4)) {
        let metadata = BTreeMap::from([("k".to_owned(), "v".to_owned())]);
        let tensors = [
            TensorData { name: "a".to_owned(), dtype: Dtype::F32, shape: vec![1, 2], data: &[0; 8] },
            TensorData { name: "b".to_owned(), dtype: Dtype::U8, shape: vec![3], data: &[0; 3] },
        ];
        let mut bytes = write(&tensors, &metadata);
        for (at, byte) in changes {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        if let Ok(header) = parse(&bytes) {
            let held: u64 = header.tensors.values().map(|info| info.end - info.start).sum();
            prop_assert_eq!(held + Header::end(bytes.len() as u64, &bytes).expect("parsed"), bytes.len() as u64);
        }
    }
}

#[test]
fn a_header_of_very_many_entries_is_not_taken_in() {
    let many =
        |most: usize| (0..most).map(|n| format!("\"t{n}\":{{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}}"));
    let parsed = |most: usize| {
        let json = format!("{{{}}}", many(most).collect::<Vec<_>>().join(","));
        let bytes = [&(json.len() as u64).to_le_bytes()[..], json.as_bytes()].concat();
        Header::parse(bytes.len() as u64, &bytes)
    };
    assert!(parsed(MOST_ENTRIES).is_ok());
    let error = parsed(MOST_ENTRIES + 1).expect_err("too many").to_string();
    assert!(error.contains("more than 40000 entries"), "{error}");
}
