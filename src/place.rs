//! Where a scenario does something: the call of the library, and the line of the scenario that led to it.

use std::cell::Cell;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::thread::LocalKey;

/// A line of a scenario, with its file as the compiler names it.
pub(crate) type SourceLine = (&'static str, u32);

thread_local! {
    /// The line of the scenario that runs on this thread. On the thread of a task that the scenario spawned,
    /// it is set only while a line of the scenario awaits something.
    static LINE: Cell<Option<SourceLine>> = const { Cell::new(None) };
    /// The line of the scenario that this thread last reached. It keeps a line that awaits something.
    static LAST: Cell<Option<SourceLine>> = const { Cell::new(None) };
    /// The call of the library that is being polled on this thread: the innermost one outside of the library.
    static CALL: Cell<Option<&'static Location<'static>>> = const { Cell::new(None) };
}

/// Records that the function of a scenario begins on this thread, at `line` of `file`.
pub(crate) fn begin(file: &'static str, line: u32) {
    LINE.set(Some((file, line)));
    LAST.set(LINE.get());
}

/// Records that the function of the scenario has ended.
pub(crate) fn end() {
    LINE.set(None);
    CALL.set(None);
}

/// Records that the scenario is at `line` of `file`. `#[scenario]` adds this call before each statement. A
/// line of another file belongs to another scenario that this one calls as a function, so the line of that
/// call stays.
pub fn at(file: &'static str, line: u32) {
    if LINE.get().is_some_and(|(own, _)| own == file) {
        LINE.set(Some((file, line)));
        LAST.set(LINE.get());
    }
}

/// A future that a line of a scenario awaits. It is in a box, so that the future of the scenario stays small.
pub struct AtLine<F> {
    line: SourceLine,
    future: Pin<Box<F>>,
}

/// Wraps `future`, which `line` of `file` awaits. `#[scenario]` adds this call before each `.await`.
pub fn from_line<F: Future>(file: &'static str, line: u32, future: F) -> AtLine<F> {
    AtLine { line: (file, line), future: Box::pin(future) }
}

impl<F: Future> Future for AtLine<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let of_another_file = LINE.get().filter(|(file, _)| *file != self.line.0);
        let line = Some(of_another_file.unwrap_or(self.line));
        LAST.set(line);
        during(&LINE, line, || self.future.as_mut().poll(context))
    }
}

/// Returns the line of the scenario that runs on this thread.
pub(crate) fn line() -> Option<SourceLine> {
    LINE.get()
}

/// Returns the line of the scenario that this thread last reached.
pub(crate) fn last_line() -> Option<SourceLine> {
    LAST.get()
}

/// Returns the line of the scenario's file that makes a step: that of the call, or the line that led to a
/// call in another file.
pub(crate) fn line_of_a_step() -> Option<u32> {
    let (file, line) = LINE.get()?;
    let call = CALL.get().filter(|call| call.file() == file);
    Some(call.map_or(line, Location::line))
}

/// Polls something that was called at `call`.
pub(crate) fn during_call<T>(call: &'static Location<'static>, poll: impl FnOnce() -> T) -> T {
    during(&CALL, Some(call), poll)
}

/// Whether a file belongs to the people who write tests, according to its path: not to this library, the
/// standard library or a registry.
pub(crate) fn is_theirs(file: &str) -> bool {
    let ours = file!().trim_end_matches("place.rs");
    let elsewhere = ["/rustc/", "/rustlib/src/", "/registry/src/"];
    !file.starts_with(ours) && !elsewhere.iter().any(|part| file.contains(part))
}

/// Runs with another value in the cell, and restores the previous value, even after a panic.
fn during<V: Copy + 'static, T>(cell: &'static LocalKey<Cell<V>>, value: V, run: impl FnOnce() -> T) -> T {
    struct Back<V: Copy + 'static>(&'static LocalKey<Cell<V>>, V);
    impl<V: Copy + 'static> Drop for Back<V> {
        fn drop(&mut self) {
            self.0.set(self.1);
        }
    }
    let _back = Back(cell, cell.replace(value));
    run()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_holds_while_what_it_awaits_is_polled_and_not_beyond() {
        let poll = |line| {
            let mut future = from_line("a.rs", line, async move {
                assert_eq!(super::line(), Some(("a.rs", line)));
                at("a.rs", line + 1);
                assert_eq!(super::line(), Some(("a.rs", line + 1)));
            });
            let polled = Pin::new(&mut future).poll(&mut Context::from_waker(std::task::Waker::noop()));
            assert_eq!(polled, Poll::Ready(()));
        };
        // On the thread of a task.
        at("a.rs", 3);
        poll(7);
        assert_eq!(line(), None);
        // On the scenario's own thread.
        begin("a.rs", 1);
        at("a.rs", 3);
        poll(7);
        assert_eq!((line(), last_line()), (Some(("a.rs", 3)), Some(("a.rs", 8))));
        // Another scenario that is called as a function.
        let mut other = from_line("b.rs", 20, async {
            at("b.rs", 21);
            line()
        });
        let polled = Pin::new(&mut other).poll(&mut Context::from_waker(std::task::Waker::noop()));
        assert_eq!(polled, Poll::Ready(Some(("a.rs", 3))));
        assert!(std::panic::catch_unwind(|| during(&LINE, None, || panic!())).is_err());
        assert_eq!(line(), Some(("a.rs", 3)));
        end();
        at("a.rs", 4);
        assert_eq!(line(), None);
    }

    #[test]
    fn a_file_of_this_library_or_of_another_crate_is_not_theirs() {
        assert!(!is_theirs(file!()));
        assert!(!is_theirs("/rustc/4d91de4e48/library/core/src/ops/function.rs"));
        assert!(!is_theirs("/home/alice/.cargo/registry/src/index.crates.io-6f17d22b/regex-1.0/src/lib.rs"));
        assert!(is_theirs("scenarios/web.rs"));
        assert!(is_theirs("/home/alice/project/tests/suite.rs"));
    }
}
