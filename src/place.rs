//! Which line of its scenario a thread is at.

use std::cell::Cell;

thread_local! {
    static LINE: Cell<u32> = const { Cell::new(0) };
}

/// The scenario on this thread is at `line` of its file. `#[scenario]` has it said at every `.await`.
pub fn at(line: u32) {
    // A thread that is ending has none.
    let _ = LINE.try_with(|here| here.set(line));
}

/// The line that was said last on this thread.
pub(crate) fn line() -> Option<u32> {
    LINE.try_with(Cell::get).ok().filter(|line| *line > 0)
}
