//! How far a scenario's thread has come, and how long the one that started it waits for the next word.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use super::body::{blocked, unfinished};
use super::failure::Failure;
use crate::Error;
use crate::pause::{Deadline, LOOK};

/// What a scenario's thread tells.
pub(super) enum Progress {
    /// The machines are up; the function may take so long.
    Body { limit: Duration },
    /// The function has ended, or was given up; what follows may take so long.
    BodyEnded { afterwards: Duration },
    /// All is over.
    Ended(Result<(), Failure>),
}

/// How the waiting for a scenario ended.
pub(super) enum Waited {
    /// With its end.
    Ended(Result<(), Failure>),
    /// A part of it did not end in time: which one.
    Stuck(Error),
    /// With the time of the whole run.
    RunOver,
    /// Its thread ended without a word.
    Gone,
}

/// Waits until a scenario has ended, until a part of it is `grace` late, or until `end_of_run`. Building and booting
/// have limits of their own.
pub(super) fn until_ended(
    hear: &Receiver<Progress>,
    end_of_run: Option<Deadline>,
    grace: Duration,
) -> Waited {
    // When the part under way is given up, and what is said then.
    let mut part: Option<(Deadline, Error)> = None;
    loop {
        let its_end = part.as_ref().map(|(end, _)| *end);
        let left = its_end.into_iter().chain(end_of_run).map(Deadline::left).min();
        let told = match left {
            None => hear.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(left) => hear.recv_timeout(left.max(LOOK)),
        };
        match told {
            Ok(Progress::Body { limit }) => part = Some((Deadline::after(limit + grace), blocked(limit))),
            Ok(Progress::BodyEnded { afterwards }) => {
                part = Some((Deadline::after(afterwards + grace), unfinished(afterwards)));
            }
            Ok(Progress::Ended(outcome)) => return Waited::Ended(outcome),
            Err(RecvTimeoutError::Disconnected) => return Waited::Gone,
            Err(RecvTimeoutError::Timeout) => match part {
                Some((end, error)) if end.left().is_zero() => return Waited::Stuck(error),
                _ if end_of_run.is_some_and(|end| end.left().is_zero()) => return Waited::RunOver,
                // A pause has put it off meanwhile.
                its => part = its,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    const SHORT: Duration = Duration::from_millis(1);
    const LONG: Duration = Duration::from_secs(600);

    /// How the waiting ends where the thread says this, and nothing more until the test is over.
    fn waited(say: impl FnOnce(&Sender<Progress>), end_of_run: Option<Duration>) -> String {
        let (tell, hear) = channel();
        say(&tell);
        match until_ended(&hear, end_of_run.map(Deadline::after), SHORT) {
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
                tell.send(Progress::BodyEnded { afterwards }).unwrap();
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
            tell.send(Progress::BodyEnded { afterwards: LONG }).unwrap();
            // As a journal that takes long; several looks at the time pass meanwhile.
            std::thread::sleep(3 * LOOK);
            tell.send(Progress::Ended(Ok(()))).unwrap();
        });
        assert!(matches!(until_ended(&hear, None, SHORT), Waited::Ended(Ok(()))));
        thread.join().unwrap();
    }

    #[test]
    fn a_thread_that_ends_without_a_word_is_not_waited_for() {
        let (tell, hear) = channel();
        drop(tell);
        assert!(matches!(until_ended(&hear, None, SHORT), Waited::Gone));
    }
}
