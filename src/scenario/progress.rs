//! The progress of a scenario's thread, and how long the thread that started it waits for the next message.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use super::body::{blocked, silent, unfinished};
use super::failure::Failure;
use crate::Error;
use crate::pause::{self, Deadline, LOOK};

/// The interval between two signs of life.
const BEAT: Duration = Duration::from_secs(1);

/// A message of a scenario's thread.
pub(super) enum Progress {
    /// The machines are up, and the function may take this long.
    Body { limit: Duration },
    /// The function has ended, or was given up. The cleanup may take `afterwards`, and its runtime may be
    /// silent for `silence`.
    BodyEnded { afterwards: Duration, silence: Duration },
    /// Its runtime runs tasks.
    Alive,
    /// It has failed, and the cleanup can't change that.
    Failed(Failure),
    /// Everything has ended.
    Ended(Result<(), Failure>),
}

/// How the wait for a scenario ended.
pub(super) enum Waited {
    /// The scenario ended.
    Ended(Result<(), Failure>),
    /// A part of it did not end in time.
    Stuck(Error),
    /// The time limit of the whole run has passed.
    RunOver,
    /// Its thread ended without a message.
    Gone,
}

/// Sends signs of life of the runtime until the receiver is gone.
pub(super) async fn beat(tell: Sender<Progress>) {
    while tell.send(Progress::Alive).is_ok() {
        tokio::time::sleep(BEAT).await;
    }
}

/// The part under way.
struct Part {
    /// Its deadline, and the error if it passes.
    end: (Deadline, Error),
    /// The longest silence, and the error if it is exceeded.
    silence: Option<(Duration, Error)>,
}

/// Waits until a scenario has ended, until a part of it is late or silent by more than `grace`, or until
/// `end_of_run`. Building and booting have their own limits. `failed` is set to the failure that the scenario
/// reported before its end.
pub(super) fn until_ended(
    hear: &Receiver<Progress>,
    end_of_run: Option<Deadline>,
    grace: Duration,
    failed: &mut Option<Failure>,
) -> Waited {
    let mut part: Option<Part> = None;
    let mut quiet = Duration::ZERO;
    loop {
        let its_end = part.as_ref().map(|part| part.end.0);
        let left = its_end.into_iter().chain(end_of_run).map(Deadline::left).min();
        // The wait is the sum of short waits. If this whole process was stopped, the runtime was not silent.
        let wait = left.map(|left| left.min(BEAT).max(LOOK));
        let paused = pause::so_far();
        let told = match wait {
            None => hear.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(wait) => hear.recv_timeout(wait),
        };
        match told {
            Ok(Progress::Body { limit }) => {
                part = Some(Part { end: (Deadline::after(limit + grace), blocked(limit)), silence: None });
            }
            Ok(Progress::BodyEnded { afterwards, silence }) => {
                quiet = Duration::ZERO;
                part = Some(Part {
                    end: (Deadline::after(afterwards + grace), unfinished(afterwards)),
                    silence: Some((silence, silent(silence))),
                });
            }
            Ok(Progress::Alive) => quiet = Duration::ZERO,
            Ok(Progress::Failed(failure)) => *failed = Some(failure),
            Ok(Progress::Ended(outcome)) => return Waited::Ended(outcome),
            Err(RecvTimeoutError::Disconnected) => return Waited::Gone,
            Err(RecvTimeoutError::Timeout) => {
                if pause::so_far() == paused {
                    quiet += wait.unwrap_or_default();
                }
                match part {
                    Some(Part { end: (end, error), .. }) if end.left().is_zero() => {
                        return Waited::Stuck(error);
                    }
                    Some(Part { silence: Some((most, error)), .. }) if quiet >= most => {
                        return Waited::Stuck(error);
                    }
                    _ if end_of_run.is_some_and(|end| end.left().is_zero()) => return Waited::RunOver,
                    // A pause has moved the deadline.
                    its => part = its,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::super::exit::Exit;
    use super::*;
    use crate::{ErrorKind, hang::HANG};

    const SHORT: Duration = Duration::from_millis(1);
    const LONG: Duration = Duration::from_secs(600);

    /// Returns how the wait ends if the thread sends these messages, and nothing more until the test is over.
    fn waited(say: impl FnOnce(&Sender<Progress>), end_of_run: Option<Duration>) -> String {
        let (tell, hear) = channel();
        say(&tell);
        match until_ended(&hear, end_of_run.map(Deadline::after), SHORT, &mut None) {
            Waited::Ended(outcome) => format!("ended {}", outcome.is_ok()),
            Waited::Stuck(error) => error.summary().to_owned(),
            Waited::RunOver => "the run is over".to_owned(),
            Waited::Gone => "gone".to_owned(),
        }
    }

    #[test]
    fn each_part_has_its_limit_and_its_own_words() {
        let body = |limit| move |tell: &Sender<Progress>| tell.send(Progress::Body { limit }).unwrap();
        let ended = |afterwards| {
            move |tell: &Sender<Progress>| {
                tell.send(Progress::Body { limit: SHORT }).unwrap();
                tell.send(Progress::BodyEnded { afterwards, silence: LONG }).unwrap();
            }
        };
        let (blocked, unfinished) =
            (blocked(SHORT).summary().to_owned(), unfinished(SHORT).summary().to_owned());
        assert!(blocked.contains("holds its thread") && !unfinished.contains("holds its thread"));
        assert_eq!(waited(body(SHORT), None), blocked);
        assert_eq!(waited(body(SHORT), Some(LONG)), blocked);
        assert_eq!(waited(body(LONG), Some(SHORT)), "the run is over");
        assert_eq!(waited(|_| (), Some(SHORT)), "the run is over");
        assert_eq!(waited(ended(SHORT), None), unfinished);
        assert_eq!(waited(ended(LONG), Some(SHORT)), "the run is over", "the limit of its function is past");
    }

    #[test]
    fn what_follows_the_function_may_take_longer_than_the_function() {
        let (tell, hear) = channel();
        let thread = std::thread::spawn(move || {
            tell.send(Progress::Body { limit: SHORT }).unwrap();
            tell.send(Progress::BodyEnded { afterwards: LONG, silence: LONG }).unwrap();
            // Like a slow journal: several checks of the time happen in the meantime.
            std::thread::sleep(3 * LOOK);
            tell.send(Progress::Ended(Ok(()))).unwrap();
        });
        assert!(matches!(until_ended(&hear, None, SHORT, &mut None), Waited::Ended(Ok(()))));
        thread.join().unwrap();
    }

    #[test]
    fn a_thread_that_ends_without_a_word_is_not_waited_for() {
        let (tell, hear) = channel();
        drop(tell);
        assert!(matches!(until_ended(&hear, None, SHORT, &mut None), Waited::Gone));
    }

    #[test]
    fn a_runtime_whose_threads_are_held_is_noticed_and_one_that_works_is_not() {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (tell, hear) = channel();
        runtime.spawn(beat(tell.clone()));
        let waited = |silence, most| {
            tell.send(Progress::BodyEnded { afterwards: HANG, silence }).unwrap();
            until_ended(&hear, Some(Deadline::after(most)), SHORT, &mut None)
        };
        // On a busy host the runtime may seem silent for a while.
        let lives = |beats| matches!(waited(beats * BEAT, beats * BEAT * 3 / 2), Waited::RunOver);
        assert!([2, 8, 32].into_iter().any(lives));
        let (let_go, held) = channel::<()>();
        let held = std::sync::Arc::new(std::sync::Mutex::new(held));
        for _ in 0..2 {
            let held = held.clone();
            runtime.spawn(async move { crate::mutex::lock(&held).recv().is_ok() });
        }
        let Waited::Stuck(error) = waited(2 * BEAT, HANG) else { panic!("it does not seem silent") };
        assert_eq!(error.summary(), silent(SHORT).summary());
        drop(let_go);
    }

    #[test]
    fn a_failure_is_known_whatever_becomes_of_what_follows() {
        let (tell, hear) = channel();
        let error = Error::new(ErrorKind::Other, "the page is empty");
        tell.send(Progress::BodyEnded { afterwards: LONG, silence: SHORT }).unwrap();
        tell.send(Progress::Failed(Failure::new(Exit::Failed, error))).unwrap();
        let mut failed = None;
        let Waited::Stuck(hang) = until_ended(&hear, None, SHORT, &mut failed) else { panic!("not stuck") };
        let failure = failed.unwrap().and_then(&hang);
        assert_eq!(failure.summary(), "the page is empty");
        let (title, told) = failure.error.sections().last().unwrap();
        assert_eq!(title, "the cleanup did not end");
        assert!(told.starts_with(hang.summary()) && told.contains("likely cause: "), "{told}");
    }
}
