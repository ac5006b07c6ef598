//! Panics of scenarios. They are collected with message and place instead of printed, because the scenario's
//! report shows them. Panics of any other thread are printed, with passwords masked, and without control
//! characters for terminals or commands for CI systems.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::RefCell;
use std::panic::PanicHookInfo;
use std::sync::{Arc, Mutex, Once};
use std::thread::ThreadId;

use crate::mutex::lock;
use crate::place::{self, SourceLine};
use crate::{secrets, signals, threads};

/// A panic that happened.
#[derive(Debug, Clone)]
pub(super) struct Panic {
    /// Its message.
    pub message: String,
    /// Its place, as FILE:LINE:COLUMN.
    pub place: String,
    /// The line of the scenario that led there.
    pub line: Option<SourceLine>,
    thread: ThreadId,
}

/// Collects the panics of the threads of one scenario.
#[derive(Debug, Clone, Default)]
pub(super) struct Panics(Arc<Mutex<Vec<Panic>>>);

thread_local! {
    static COLLECTOR: RefCell<Option<Panics>> = const { RefCell::new(None) };
}

impl Panics {
    /// From here on collects the panics of the current thread instead of printing them.
    pub fn collect_here(&self) {
        watch();
        COLLECTOR.with(|collector| *collector.borrow_mut() = Some(self.clone()));
    }

    /// From here on prints the panics of the current thread again.
    pub fn print_here() {
        COLLECTOR.with(|collector| *collector.borrow_mut() = None);
    }

    /// Returns the last panic of the current thread.
    pub fn last_here(&self) -> Option<Panic> {
        let current = std::thread::current().id();
        self.lock().iter().rev().find(|panic| panic.thread == current).cloned()
    }

    /// Returns the panics of the other threads, which run tasks that the scenario spawned.
    pub fn elsewhere(&self) -> Vec<Panic> {
        let current = std::thread::current().id();
        self.lock().iter().filter(|panic| panic.thread != current).cloned().collect()
    }

    fn add(&self, info: &PanicHookInfo) {
        let message = message(info).to_owned();
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let (line, thread) = (place::line(), std::thread::current().id());
        self.lock().push(Panic { message, place, line, thread });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Panic>> {
        lock(&self.0)
    }
}

/// From here on, collects or prints panics, or ends the run if its output has no reader any more.
pub(super) fn watch() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        std::panic::set_hook(Box::new(move |info| {
            if has_no_reader(info) {
                signals::end_without_a_reader();
            }
            if threads::expects_panic() {
                return;
            }
            // A thread that is ending no longer has a collector.
            let collector = COLLECTOR.try_with(|collector| collector.borrow().clone()).ok().flatten();
            match collector {
                Some(panics) => panics.add(info),
                None => crate::report::say(&told(info)),
            }
        }));
    });
}

/// Whether a panic comes from libtest-mimic or `println!` writing to a pipe without a reader.
fn has_no_reader(info: &PanicHookInfo) -> bool {
    let message = message(info);
    let of_the_harness = info.location().is_some_and(|place| place.file().contains("libtest-mimic"));
    let of_println = message.starts_with("failed printing to stdout");
    (of_the_harness || of_println) && message.contains("Broken pipe")
}

/// Returns the message of a panic.
fn message<'a>(info: &'a PanicHookInfo) -> &'a str {
    let payload = info.payload();
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("(a value that is not text)")
}

/// Formats a panic of a thread that does not belong to a scenario, like the standard library. The message may
/// contain guest output.
fn told(info: &PanicHookInfo) -> String {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("<unnamed>");
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let mut told = format!("\nthread '{name}' panicked at {place}:\n{}", secrets::lines(message(info)));
    // It is captured only if RUST_BACKTRACE demands it.
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        told.push_str(&format!("\nstack backtrace:\n{backtrace}"));
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_collected_with_its_message_and_place() {
        let panics = Panics::default();
        let theirs = panics.clone();
        let thread = std::thread::spawn(move || {
            theirs.collect_here();
            let caught = std::panic::catch_unwind(|| panic!("the page is {}", "empty"));
            assert!(caught.is_err());
            theirs.last_here()
        });
        let panic = thread.join().unwrap().unwrap();
        assert_eq!(panic.message, "the page is empty");
        assert!(panic.place.contains("src/scenario/panics.rs:"), "{}", panic.place);
        assert_eq!(panics.elsewhere().len(), 1);
        assert!(panics.last_here().is_none());
    }
}
