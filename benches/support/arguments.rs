//! What stands behind a name on the command line.

type Failure = Box<dyn std::error::Error>;

/// What follows `name` on the command line.
pub fn argument(name: &str) -> Option<String> {
    std::env::args().skip_while(|argument| argument != name).nth(1)
}

/// The number that follows `name`, or the default where `name` is not given.
pub fn option(name: &str, default: usize) -> Result<usize, Failure> {
    match argument(name) {
        Some(text) => text.parse().map_err(|_| format!("{name} wants a number, not {text:?}").into()),
        None => Ok(default),
    }
}
