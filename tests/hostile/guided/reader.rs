//! Fuzzes one reader with libFuzzer. `CORRIGENDA_FUZZ_TARGET` names the target, and `CORRIGENDA_FUZZ_BESIDE` the folder
//! with its other files, if it has any. The script `run` in this folder sets both.

#![no_main]

use std::cell::RefCell;
use std::path::Path;

use libfuzzer_sys::fuzz_target;

#[path = "../readers.rs"]
mod readers;

thread_local! {
    static READER: RefCell<readers::Reader> = RefCell::new(asked());
}

fn asked() -> readers::Reader {
    let target = std::env::var("CORRIGENDA_FUZZ_TARGET").expect("CORRIGENDA_FUZZ_TARGET names a target");
    let beside = std::env::var_os("CORRIGENDA_FUZZ_BESIDE").unwrap_or_default();
    readers::reader(&target, Path::new(&beside))
}

fuzz_target!(|bytes: &[u8]| READER.with_borrow_mut(|read| read(bytes)));
