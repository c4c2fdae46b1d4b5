//! Writes safetensors files in a canonical form: the same tensors and metadata always give the same bytes.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::Dtype;

/// A tensor to write, with its data.
#[derive(Clone, Debug)]
pub struct TensorData<'a> {
    /// Name of the tensor; it must be unique in the file.
    pub name: String,
    pub dtype: Dtype,
    /// Dimensions, outermost first.
    pub shape: Vec<u64>,
    /// The elements as little-endian bytes. The length must match type and shape.
    pub data: &'a [u8],
}

/// Returns the bytes of a whole file, which do not depend on the order of `tensors`.
///
/// The header contains `__metadata__` first, if it is not empty, and then the tensors, sorted by the bytes of their
/// names. The data is in the same order as the tensors. Spaces pad the header to a multiple of 8 bytes.
///
/// # Panics
/// If a name is used twice or is `__metadata__`, or if the data of a tensor does not match its type and shape. These
/// are errors of the calling code.
pub fn write(tensors: &[TensorData<'_>], metadata: &BTreeMap<String, String>) -> Vec<u8> {
    let mut sorted: Vec<&TensorData<'_>> = tensors.iter().collect();
    sorted.sort_by(|a, b| a.name.cmp(&b.name));
    let specs: Vec<_> = sorted.iter().map(|tensor| (&*tensor.name, tensor.dtype, &*tensor.shape)).collect();
    let mut bytes = header_bytes(&specs, metadata);
    for tensor in sorted {
        let expected = tensor.dtype.byte_len(&tensor.shape);
        assert_eq!(expected, Some(tensor.data.len() as u64), "the data of `{}` does not fit its shape", tensor.name);
        bytes.extend_from_slice(tensor.data);
    }
    bytes
}

/// Returns the start of a safetensors file: the header length and the header, as [`write`] writes them. Use this
/// function to write a file that is too large for memory. `tensors` (name, type, shape) must be sorted by name, and the
/// caller must write the data in the same order.
///
/// # Panics
/// If the names are not strictly ascending, if a name is `__metadata__`, or if the size of the data is not a whole
/// number of bytes below 2⁶⁴.
pub fn header_bytes(tensors: &[(&str, Dtype, &[u64])], metadata: &BTreeMap<String, String>) -> Vec<u8> {
    assert!(tensors.is_sorted_by(|a, b| a.0 < b.0), "tensor names must be strictly ascending");
    let mut entries = Vec::with_capacity(tensors.len() + 1);
    if !metadata.is_empty() {
        entries.push(format!("\"__metadata__\":{}", json(metadata)));
    }
    let mut offset = 0_u64;
    for (name, dtype, shape) in tensors {
        assert_ne!(*name, "__metadata__", "a tensor cannot be called `__metadata__`");
        let end = dtype.byte_len(shape).and_then(|length| offset.checked_add(length));
        let end = end.expect("the shape of a tensor in memory fits 64 bits");
        let (name, shape) = (json(name), json(shape));
        entries.push(format!(r#"{name}:{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{offset},{end}]}}"#));
        offset = end;
    }
    let mut text = format!("{{{}}}", entries.join(","));
    let padding = text.len().next_multiple_of(8) - text.len();
    let _ = write!(text, "{:padding$}", ""); // Writing to a `String` cannot fail.
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

fn json(value: &(impl serde::Serialize + ?Sized)) -> String {
    serde_json::to_string(value).expect("texts, numbers and maps of texts always serialise")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::safetensors::Header;
    use proptest::prelude::*;

    #[test]
    fn the_exact_bytes() {
        let b = TensorData { name: "b".to_owned(), dtype: Dtype::U8, shape: vec![], data: &[7] };
        let a = TensorData { name: "a\"".to_owned(), dtype: Dtype::U8, shape: vec![2, 1], data: &[1, 2] };
        let metadata = BTreeMap::from([("y".to_owned(), "2".to_owned()), ("x".to_owned(), "1".to_owned())]);
        let bytes = write(&[b.clone(), a.clone()], &metadata);
        assert_eq!(bytes, write(&[a, b], &metadata));
        let text = concat!(
            r#"{"__metadata__":{"x":"1","y":"2"},"a\"":{"dtype":"U8","shape":[2,1],"data_offsets":[0,2]},"#,
            r#""b":{"dtype":"U8","shape":[],"data_offsets":[2,3]}}"#
        );
        let padded = text.len().next_multiple_of(8);
        assert_eq!(bytes[..8], (padded as u64).to_le_bytes());
        assert_eq!(std::str::from_utf8(&bytes[8..8 + padded]).expect("text").trim_end_matches(' '), text);
        assert_eq!(bytes[8 + padded..], [1, 2, 7]);
    }

    type Tensors = BTreeMap<String, (Vec<u64>, Vec<f32>)>;

    fn tensors() -> impl Strategy<Value = Tensors> {
        let tensor = (0_u64..4, 0_u64..4).prop_flat_map(|(rows, columns)| {
            let data = proptest::collection::vec(any::<f32>(), (rows * columns) as usize);
            (Just(vec![rows, columns]), data)
        });
        proptest::collection::btree_map("[^_]{0,6}", tensor, 0..5)
    }

    proptest! {
        #[test]
        fn the_reference_crate_reads_it(tensors in tensors(), metadata in proptest::collection::btree_map(".{0,4}", ".{0,4}", 0..3)) {
            let data: Vec<Vec<u8>> =
                tensors.values().map(|(_, data)| data.iter().flat_map(|x| x.to_le_bytes()).collect()).collect();
            let list: Vec<_> = tensors
                .iter()
                .zip(&data)
                .map(|((name, (shape, _)), data)| TensorData { name: name.clone(), dtype: Dtype::F32, shape: shape.clone(), data })
                .collect();
            let bytes = write(&list, &metadata);
            let ours = Header::parse(bytes.len() as u64, &bytes).expect("our own file");
            let theirs = ::safetensors::SafeTensors::deserialize(&bytes).expect("our own file");
            prop_assert_eq!(&ours.metadata, &metadata);
            prop_assert_eq!(ours.tensors.len(), list.len());
            prop_assert_eq!(theirs.len(), list.len());
            for tensor in &list {
                let view = theirs.tensor(&tensor.name).expect("written");
                prop_assert_eq!(view.data(), tensor.data);
                let info = &ours.tensors[&tensor.name];
                prop_assert_eq!(&bytes[info.start as usize..info.end as usize], tensor.data);
                prop_assert_eq!(&info.shape, &tensor.shape);
            }
        }
    }
}
