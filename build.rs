//! Records how the program is built, for `corrigenda --version`: the target triple and the enabled features.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let target = std::env::var("TARGET").expect("Cargo sets TARGET for build scripts");
    println!("cargo::rustc-env=CORRIGENDA_TARGET={target}");
    // Unset if no feature is enabled. Cargo runs this script again when the set of features changes.
    let features = std::env::var("CARGO_CFG_FEATURE").unwrap_or_default();
    let mut features: Vec<&str> = features.split(',').filter(|name| !matches!(*name, "" | "default")).collect();
    features.sort_unstable();
    println!("cargo::rustc-env=CORRIGENDA_FEATURES={}", features.join(", "));
}
