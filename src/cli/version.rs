//! Defines the output of `--version`: the details of the program and the machine that a bug report needs.

use std::sync::LazyLock;

use crate::numeric::{Isa, NUMERICS};

/// Returns the text that follows the program's name: the version, the arithmetic, the instruction set of this machine,
/// and the features and the target triple of the build, one per line.
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
