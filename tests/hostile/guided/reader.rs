//! libFuzzer in front of one reader: that of the target named by `CORRIGENDA_FUZZ_TARGET`, whose other files, where it
//! has some, are in `CORRIGENDA_FUZZ_BESIDE`. `run` beside this file names both.

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
