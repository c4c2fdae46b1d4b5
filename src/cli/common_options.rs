//! Defines the command-line options that all commands accept, such as `--format`.

use std::path::PathBuf;

use crate::cli::format::Format;
use crate::numeric::Isa;
use crate::ui::Color;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Common options")]
pub(super) struct CommonOptions {
    /// Folder of the project [default: the nearest folder with a corrigenda.toml, from the current one upward]
    #[arg(short = 'C', value_name = "DIR", global = true)]
    pub project: Option<PathBuf>,
    /// Use this model, if the project has several; by default, plan, build and test run for every model
    // The type is a path only because `init --model DIR` takes a path, and clap treats both options as one.
    #[arg(long, value_name = "NAME", global = true)]
    pub model: Option<PathBuf>,
    /// Format of the output on stdout
    ///
    /// All commands support human and json. check and test also support markdown, html, sarif, junit and github
    /// (workflow annotations); diff supports markdown and html; log supports csv
    #[arg(long, value_enum, default_value_t, global = true, hide_possible_values = true, value_name = "FORMAT")]
    pub format: Format,
    /// When to use colours
    #[arg(long, value_enum, default_value_t, global = true, hide_possible_values = true, value_name = "WHEN")]
    pub color: Color,
    /// Print plain lines instead of a progress bar
    #[arg(long, global = true, env = "CORRIGENDA_NO_PROGRESS", hide_env = true)]
    pub no_progress: bool,
    /// Print only the result and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Print one line per edit and per expectation
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// Number of threads; by default, one per logical CPU (no result depends on it)
    #[arg(long, value_name = "N", global = true, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// Folder of the cache of compiled edits, patches and statistics; by default, in the user's cache folder
    #[arg(long, value_name = "DIR", global = true)]
    pub cache_dir: Option<PathBuf>,
    /// Instruction set to compute with: auto, plain, avx2 or avx512 (no result depends on it)
    #[arg(long, global = true, hide = true, default_value = "auto")]
    pub isa: Isa,
}
