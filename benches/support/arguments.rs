//! Reads the options of a benchmark from the command line.

type Failure = Box<dyn std::error::Error>;

/// Returns the command-line argument after the option `name`; `None` if the option is absent.
pub fn argument(name: &str) -> Option<String> {
    std::env::args().skip_while(|argument| argument != name).nth(1)
}

/// Returns the number after the option `name`, or `default` if the option is absent.
pub fn option(name: &str, default: usize) -> Result<usize, Failure> {
    match argument(name) {
        Some(text) => text.parse().map_err(|_| format!("{name} wants a number, not {text:?}").into()),
        None => Ok(default),
    }
}
