//! Turns a panic of a library into an error, and does not print the panic message.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    /// Whether [`catch_panic`] is running on this thread. If so, the panic hook prints nothing.
    static CAUGHT: Cell<bool> = const { Cell::new(false) };
}

/// Runs `f`. If `f` panics, returns the panic message as the error and does not print it.
///
/// # Errors
/// If `f` panics.
pub(crate) fn catch_panic<T>(f: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |info| {
            if !CAUGHT.get() {
                before(info);
            }
        }));
    });
    let outer = CAUGHT.replace(true);
    let done = catch_unwind(AssertUnwindSafe(f));
    CAUGHT.set(outer);
    done.map_err(|payload| format!("the library panicked: {}", message(&*payload)))
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str).or(payload.downcast_ref::<&str>().copied());
    text.unwrap_or("no reason was reported").escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_message() {
        assert_eq!(catch_panic(|| 7), Ok(7));
        let number = 7;
        let error = catch_panic(|| panic!("no {number}\u{1b}")).expect_err("it panics");
        assert_eq!(error, "the library panicked: no 7\\u{1b}");
        assert!(!CAUGHT.get());
    }
}
