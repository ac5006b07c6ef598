//! Threads that the host may refuse. A limit of processes becomes an error, instead of a panic or an endless
//! wait.
//!
//! tokio's own pool is not suitable. If the system has no thread left, `spawn_blocking` panics, and a runtime
//! that gets only some of its threads waits forever when it is dropped.

use std::cell::RefCell;
use std::io;
use std::path::Path;
use std::sync::{Condvar, Mutex, mpsc};
use std::thread::Builder;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::thread::{Pid, gettid};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use crate::mutex::{self, lock};
use crate::{Error, Result};

/// How long the threads of a runtime may take to start, on any host.
const STARTED: Duration = Duration::from_secs(30);

/// Checks that this process may start `count` more threads.
///
/// # Errors
/// [`crate::ErrorKind::Host`] when it may not. The error names the limit.
pub(crate) fn check_room(count: usize) -> Result {
    let (end, ended, begun) = (Mutex::new(false), Condvar::new(), Mutex::new(Vec::new()));
    let refused = std::thread::scope(|scope| {
        let wait = || {
            lock(&begun).push(gettid());
            let mut end = lock(&end);
            while !*end {
                end = mutex::wait(&ended, end, STARTED);
            }
        };
        let refused = (0..count).find_map(|_| Builder::new().spawn_scoped(scope, wait).err());
        *lock(&end) = true;
        ended.notify_all();
        refused
    });
    wait_until_gone(&lock(&begun));
    refused.map_or(Ok(()), |source| Err(refused_thread(&source)))
}

/// Waits until the kernel has removed these threads, which have ended. Until then they take room: a thread is joined
/// before the kernel has forgotten it, and on a busy host long before.
fn wait_until_gone(threads: &[Pid]) {
    let until = Instant::now() + STARTED;
    let is_there = |id: &Pid| Path::new("/proc/self/task").join(id.as_raw_pid().to_string()).exists();
    while threads.iter().any(is_there) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// What is done when this thread panics.
type OnPanic = Box<dyn FnOnce()>;

thread_local! {
    static ON_PANIC: RefCell<Option<OnPanic>> = const { RefCell::new(None) };
}

/// Returns whether the panic of this thread is one that becomes an error here. For the hook of the program, which must
/// not print it.
pub(crate) fn expects_panic() -> bool {
    let expected = ON_PANIC.try_with(|known| known.borrow_mut().take()).ok().flatten();
    expected.map(|tell| tell()).is_some()
}

/// Builds a runtime with `workers` threads from `builder`.
///
/// # Errors
/// [`crate::ErrorKind::Host`] when the host can't start the threads. The error names the limit.
pub(crate) fn runtime(mut builder: tokio::runtime::Builder, workers: usize) -> Result<Runtime> {
    // One more for the thread below.
    check_room(workers + 1)?;
    let (tell, hear) = mpsc::channel();
    // Another process may take a thread in the meantime. A runtime that lacks one is abandoned together with
    // the thread that built it.
    // It panics then, and waits forever for its other threads before the panic arrives here. Only the hook for
    // panics hears of it.
    let made = Builder::new().name("runtime".to_owned()).spawn(move || {
        let panicked = tell.clone();
        let refused = move || drop(panicked.send(Err(Errno::AGAIN.into())));
        ON_PANIC.with(|known| *known.borrow_mut() = Some(Box::new(refused)));
        tell.send(builder.build())
    });
    made.map_err(|source| refused_thread(&source))?;
    let built = hear.recv_timeout(STARTED).unwrap_or_else(|_| Err(io::ErrorKind::WouldBlock.into()));
    built.map_err(|source| refused_thread(&source))
}

/// Returns the error for a thread that could not be started.
pub(crate) fn refused_thread(source: &io::Error) -> Error {
    let error = Error::host("start a thread", source);
    match source.raw_os_error() {
        Some(_) => error,
        None => error.because_of_a_limit(&Errno::AGAIN.into()),
    }
}

/// How many pieces of work run on threads of their own.
static UNDER_WAY: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

/// Runs `work`, which may block, on a thread of its own that starts at once. Dropping the future does not end
/// the work.
pub(crate) fn aside<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> impl Future<Output = io::Result<T>> + Send + 'static {
    let (tell, hear) = oneshot::channel();
    let one = UnderWay::begin();
    let started = Builder::new().name("aside".to_owned()).spawn(move || {
        let done = work();
        drop(one);
        let _ = tell.send(done);
    });
    async move {
        started.map_err(|source| io::Error::other(refused_thread(&source)))?;
        hear.await.map_err(|_| io::Error::other("the thread that did it panicked"))
    }
}

/// Waits until all such work is done, at most `limit`. Call it before the process exits.
pub(crate) fn finish(limit: Duration) {
    let (count, ended) = &UNDER_WAY;
    let (mut count, end) = (lock(count), Instant::now() + limit);
    while *count > 0 && Instant::now() < end {
        count = mutex::wait(ended, count, end.saturating_duration_since(Instant::now()));
    }
}

/// Counts one piece of work until it is dropped.
struct UnderWay;

impl UnderWay {
    fn begin() -> Self {
        *lock(&UNDER_WAY.0) += 1;
        Self
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        *lock(&UNDER_WAY.0) -= 1;
        UNDER_WAY.1.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_aside_gives_what_it_made_and_a_panic_is_an_error() {
        assert_eq!(aside(|| 7).await.unwrap(), 7);
        let panicked: io::Result<()> = aside(|| panic!("on purpose")).await;
        assert!(panicked.unwrap_err().to_string().contains("panicked"));
        finish(crate::hang::HANG);
    }

    #[test]
    fn threads_that_were_tried_take_no_room_any_more() {
        for _ in 0..50 {
            let before = std::fs::read_dir("/proc/self/task").unwrap().count();
            check_room(8).unwrap();
            let after = std::fs::read_dir("/proc/self/task").unwrap().count();
            // Other tests of this process may start threads meanwhile, with `cargo test`.
            assert!(after <= before || !crate::environment::is_set("NEXTEST"), "{before}, then {after}");
        }
    }

    #[test]
    fn there_is_room_for_a_few_threads_and_a_runtime_has_its_own() {
        check_room(3).unwrap();
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(2);
        assert_eq!(runtime(builder, 2).unwrap().block_on(async { 7 }), 7);
    }
}
