//! The only door to the terminal: answers go to stdout, everything else to stderr.
#![expect(clippy::print_stderr, reason = "this is the door")]

use std::io::{IsTerminal, Write};

use crate::project::{Diagnostic, RenderStyle, Sources, render};

/// When to write colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// How to speak to the person at this terminal.
#[derive(Clone, Copy, Debug)]
pub struct Ui {
    style: RenderStyle,
}

impl Ui {
    /// Looks at the terminal and the environment once.
    pub fn new(color: Color) -> Self {
        let wanted = match color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => {
                std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty()) && std::io::stderr().is_terminal()
            }
        };
        let columns = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
        Self { style: RenderStyle { color: wanted, width: columns.unwrap_or(100) } }
    }

    /// Writes the answer. A reader that has gone away is no error.
    pub fn answer(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "{text}").and_then(|()| out.flush());
    }

    /// Draws findings.
    pub fn findings(&self, findings: &[Diagnostic], sources: &Sources) {
        for finding in findings {
            eprintln!("{}\n", render(finding, sources, self.style).trim_end());
        }
    }
}
