use super::super::samples::patch;
use super::*;
use proptest::prelude::*;

/// Returns the bytes of the sample patch after `change` has changed its metadata and tensors.
fn rewritten(change: impl FnOnce(&mut String, &mut Vec<TensorData<'_>>)) -> Vec<u8> {
    let bytes = patch().to_bytes();
    let header = Header::parse(bytes.len() as u64, &bytes).expect("a valid sample");
    let mut tensors: Vec<_> = header
        .tensors
        .iter()
        .map(|(name, info)| TensorData {
            name: name.clone(),
            dtype: info.dtype,
            shape: info.shape.clone(),
            data: &bytes[info.start as usize..info.end as usize],
        })
        .collect();
    let mut json = header.metadata[KEY].clone();
    change(&mut json, &mut tensors);
    write(&tensors, &BTreeMap::from([(KEY.to_owned(), json)]))
}

fn refused(change: impl FnOnce(&mut String, &mut Vec<TensorData<'_>>), part: &str) {
    let error = Patch::from_bytes(&rewritten(change)).expect_err(part).to_string();
    assert!(error.contains(part), "{error:?} does not contain {part:?}");
}

#[test]
fn golden() {
    assert_eq!(patch().id().to_string(), "sha256:818b51ddeb62d4f395279502211e67006bc30134705dbfcf984024dc93e4d0cf");
}

#[test]
fn the_metadata_is_canonical_json() {
    let bytes = patch().to_bytes();
    let header = Header::parse(bytes.len() as u64, &bytes).expect("valid");
    let json = &header.metadata[KEY];
    assert!(json.starts_with(r#"{"format":1,"targets":{"h.0.w":{"base":"sha256:"#), "{json}");
    assert!(json.ends_with(r#"],"layout":"conv1d","shape":[2,3]}}}"#), "{json}");
    let theirs = ::safetensors::SafeTensors::deserialize(&bytes).expect("the reference crate reads it");
    assert_eq!(theirs.tensor("h.1.w.u").expect("there").shape(), [3, 2]);
    assert_eq!(theirs.tensor("h.1.w.v").expect("there").shape(), [2, 2]);
}

#[test]
fn comes_back() {
    assert_eq!(Patch::from_bytes(&patch().to_bytes()).expect("our own"), patch());
    let empty = Patch::default();
    assert_eq!(Patch::from_bytes(&empty.to_bytes()).expect("our own"), empty);
}

#[test]
fn wrong_metadata() {
    refused(|json, _| *json = json.replace("\"format\":1", "\"format\":2,\"new\":0"), "newer corrigenda");
    refused(|json, _| *json = json.replace("\"format\":1", "\"format\":0"), "format 0 does not exist");
    refused(|json, _| *json = json.replace("\"format\":1", "\"format\":1,\"id\":0"), "unknown field `id`");
    refused(|json, _| *json = json.replacen("\"base\"", "\"x\":0,\"base\"", 1), "unknown field `x`");
    refused(|json, _| *json = json.replace("F32", "F99"), "unknown dtype `F99`");
    refused(|json, _| *json = json.replace("F32", "F64"), "F64 cannot be patched");
    refused(|json, _| *json = json.replace("[3,2]", "[4,2]"), "expected F32 of shape [4, 2]");
    refused(|json, _| *json = json.replace("h.0.w", "h.2.w"), "lacks the tensor `h.2.w.u`");
    refused(|json, _| json.push(' '), "not in canonical form");
    let bytes = write(&[], &BTreeMap::from([("format".to_owned(), "pt".to_owned())]));
    assert!(matches!(Patch::from_bytes(&bytes), Err(PatchError::NotAPatch { found }) if found == ["format"]));
}

#[test]
fn wrong_tensors() {
    refused(|_, tensors| drop(tensors.pop()), "lacks the tensor `h.1.w.v`");
    refused(|_, tensors| tensors[0].name = "x".to_owned(), "lacks the tensor `h.0.w.u`");
    let extra = TensorData { name: "x.u".to_owned(), dtype: Dtype::U8, shape: vec![0], data: &[] };
    refused(move |_, tensors| tensors.push(extra), "tensor `x.u`, which does not belong to any");
    refused(|_, tensors| tensors[0].shape = vec![2, 3], "found F32 of shape [2, 3]");
    refused(|_, tensors| tensors[0].dtype = Dtype::I32, "found I32");
    refused(|_, tensors| tensors[1].data = &[0; 16], "changes nothing");
    refused(|_, tensors| tensors[1].data = &[0xff; 16], "NaN");
    let swap = |_: &mut String, tensors: &mut Vec<TensorData<'_>>| {
        tensors[0].name = "h.0.w.v".to_owned();
        tensors[1].name = "h.0.w.u".to_owned();
    };
    refused(swap, "expected F32 of shape");
}

#[test]
fn every_flipped_bit_is_another_patch_or_none() {
    let bytes = patch().to_bytes();
    let id = patch().id();
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        if let Ok(other) = Patch::from_bytes(&flipped) {
            assert_ne!(other.id(), id, "bit {bit}");
        }
    }
}

fn targets() -> impl Strategy<Value = Patch> {
    let target = (1_usize..5, 1_usize..5, 1_usize..4, any::<bool>()).prop_flat_map(|(out, inner, edits, conv)| {
        let finite = |count| proptest::collection::vec(prop_oneof![-1e3_f32..-1e-30, 1e-30_f32..1e3], count);
        (finite(out * edits), finite(edits * inner)).prop_map(move |(u, v)| {
            let mut ids: Vec<_> = (0..edits).map(|edit| Digest::of(&[edit as u8])).collect();
            ids.sort_unstable();
            let layout = if conv { Layout::Conv1d } else { Layout::Linear };
            Target { base: Digest::of(b""), dtype: Dtype::BF16, layout, out, inner, edits: ids, u, v }
        })
    });
    proptest::collection::btree_map(".{1,5}", target, 0..3).prop_map(|map| Patch::new(map).expect("valid"))
}

proptest! {
    #[test]
    fn any_patch_comes_back(patch in targets()) {
        let bytes = patch.to_bytes();
        prop_assert_eq!(Patch::from_bytes(&bytes).expect("our own"), patch);
    }
}
