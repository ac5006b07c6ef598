//! Handles ctrl-C, SIGTERM and SIGHUP in the runner: all machines and builds end, then the runner does.
//!
//! Without this the default action would end the runner at once, and the parent-death signal and the watchdog would
//! clean up, so nothing would stay either. This module ensures that everything is gone when the runner exits, and that
//! the terminal can be restored before.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::mutex::lock;
use crate::{Error, Result, nix, qemu};

/// Time limit for ending the machines; SIGKILL takes milliseconds.
const CLEANING_LIMIT: Duration = Duration::from_secs(5);

type Hook = Box<dyn Fn(&'static str) + Send>;

static HOOK: Mutex<Option<Hook>> = Mutex::new(None);

/// Makes SIGINT, SIGTERM and SIGHUP end all machines and builds of this process, then the process with status 130, 143
/// or 129. A second one ends it at once (its watchdog then cleans up). Signals that were ignored when the process
/// started, as under `nohup`, stay ignored.
///
/// Calls `hook` first, with the signal's name, on a separate thread: to restore the terminal and report the signal. It
/// must not block. A later call replaces the hook.
///
/// # Errors
/// [`crate::ErrorKind::Host`] when the handlers can't be installed or their thread can't start.
pub fn install(hook: impl Fn(&'static str) + Send + 'static) -> Result {
    static INSTALLED: Mutex<bool> = Mutex::new(false);
    *lock(&HOOK) = Some(Box::new(hook));
    let mut installed = lock(&INSTALLED);
    if !*installed {
        start().map_err(|error| not_watched(&error))?;
        *installed = true;
    }
    Ok(())
}

/// Creates the error for signal handlers that could not be installed.
pub(crate) fn not_watched(source: &std::io::Error) -> Error {
    Error::host("watch for signals", source)
}

/// Whether a signal has arrived and the process is about to end.
static ENDING: AtomicBool = AtomicBool::new(false);

/// Blocks this thread for ever when a signal is ending the process, which takes a moment (15 s at most); otherwise
/// returns at once. Call it before a failure is reported and before the process exits: a scenario whose machine ctrl-C
/// has just killed fails as expected, and must not determine the exit status.
pub fn hold_if_ending() {
    while is_ending() {
        std::thread::park();
    }
}

/// Returns whether a signal is ending the process, which then is the cause of later failures.
pub(crate) fn is_ending() -> bool {
    ENDING.load(Ordering::SeqCst)
}

/// Records that the process is about to end. Returns whether this is the first call.
fn begin_to_end() -> bool {
    qemu::keep_no_run_directories();
    crate::record::fall_silent();
    !ENDING.swap(true, Ordering::SeqCst)
}

/// Ends everything, then the process with this status.
fn end(name: &'static str, status: i32) -> ! {
    if let Some(hook) = &*lock(&HOOK) {
        hook(name);
    }
    qemu::kill_all(CLEANING_LIMIT);
    nix::end_all();
    qemu::remove_run_directories();
    std::process::exit(status)
}

/// Ends everything with the status of SIGPIPE, which this process ignores: the reader of its output is gone.
pub(crate) fn end_without_a_reader() -> ! {
    if begin_to_end() {
        end("SIGPIPE", crate::report::NO_READER.into());
    }
    loop {
        std::thread::park();
    }
}

/// Starts a thread with its own runtime, since tests run on plain threads, and a scenario's runtime may be busy.
fn start() -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let ignored = ignored();
    let mut watched = {
        let _inside = runtime.enter();
        let watch = |number: i32, kind| match ignored & (1 << (number - 1)) {
            0 => signal(kind).map(Some),
            _ => Ok(None),
        };
        [
            watch(2, SignalKind::interrupt())?,
            watch(15, SignalKind::terminate())?,
            watch(1, SignalKind::hangup())?,
        ]
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        runtime.block_on(async {
            let (name, status) = next(&mut watched).await;
            begin_to_end();
            // Cleans up on another thread, so that this one can receive a second signal.
            let cleaner = std::thread::Builder::new()
                .name("signal cleaner".to_owned())
                .spawn(move || end(name, status));
            if cleaner.is_ok() {
                next(&mut watched).await;
            }
            std::process::exit(status)
        });
    })?;
    Ok(())
}

async fn next([interrupt, terminate, hangup]: &mut [Option<Signal>; 3]) -> (&'static str, i32) {
    tokio::select! {
        () = received(interrupt) => ("SIGINT", 130),
        () = received(terminate) => ("SIGTERM", 143),
        () = received(hangup) => ("SIGHUP", 129),
    }
}

async fn received(signal: &mut Option<Signal>) {
    if let Some(signal) = signal
        && signal.recv().await.is_some()
    {
        return;
    }
    std::future::pending().await
}

/// Returns whether this process ignores the signal of this number, as under `nohup`.
pub fn is_ignored(number: i32) -> bool {
    (1..=64).contains(&number) && ignored() & (1 << (number - 1)) != 0
}

/// Returns the mask of signals that this process ignores; bit 0 is signal 1.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}
