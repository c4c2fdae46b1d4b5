//! Defines the output of `--version`: the facts about a build and its machine that a bug report needs.

use std::sync::LazyLock;

use crate::numeric::{Isa, NUMERICS};

/// Returns the text after the program's name: the version, then one line each for the numerics, the instruction set
/// that is detected on this machine, the features and the target triple of the build.
pub(super) fn long() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| {
        let features = match env!("CORRIGENDA_FEATURES") {
            "" => "none",
            names => names,
        };
        format!(
            "{}\nnumerics: {NUMERICS}\ninstruction set: {}\nfeatures: {features}\ntarget: {}",
            env!("CARGO_PKG_VERSION"),
            Isa::detect().name(),
            env!("CORRIGENDA_TARGET"),
        )
    });
    &TEXT
}
