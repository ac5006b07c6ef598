//! What a scenario's function may return, and the outcome that follows.
//!
//! The function may return `Result<(), E>` for any `E` that can be shown. This library's [`Error`] stays as
//! it is, also in a box. Any other error is shown by `Display` (with its causes), or by `Debug` if it has no
//! `Display`. Which of the two an `E` has is decided where the type is known: in the code that `#[scenario]`
//! generates, by the order of method lookup. `&&Returned` comes first, then `&Returned`, then `Returned`.

use std::any::Any;
use std::cell::Cell;
use std::error::Error as StdError;
use std::fmt::{Debug, Display};
use std::io;
use std::pin::Pin;

use crate::{Error, ErrorKind, Result, place};

/// The future of a scenario's run, which ends with the scenario's outcome.
///
/// It stays on the thread that made it, so a scenario may hold values that are not `Send`.
pub type Body = Pin<Box<dyn Future<Output = Result> + 'static>>;

/// A type that a scenario's function may return.
#[diagnostic::on_unimplemented(
    message = "a scenario returns nothing or a `Result<(), E>`, not `{Self}`",
    label = "write `-> Result` (from `nixvm_test::prelude`) or omit it"
)]
pub trait ReturnType {}

impl ReturnType for () {}
impl<E> ReturnType for Result<(), E> {}

/// Compiles only for types that a scenario may return.
pub const fn is_a_return_type<T: ReturnType>() {}

/// The value that a scenario's function returned. It is turned into an outcome once.
pub struct Returned<T>(Cell<Option<T>>);

impl<T> Returned<T> {
    /// Holds `value`.
    pub fn new(value: T) -> Self {
        Self(Cell::new(Some(value)))
    }
}

/// The outcome if the error has a `Display`.
pub trait ByDisplay {
    /// Returns the outcome of the scenario.
    fn outcome(self) -> Result;
}

impl<E: Display + 'static> ByDisplay for &&Returned<Result<(), E>> {
    fn outcome(self) -> Result {
        match self.0.take() {
            // With `{:#}` the common error crates show an error with its causes.
            Some(Err(error)) => Err(own(error, |error| format!("{error:#}"))),
            _ => Ok(()),
        }
    }
}

/// The outcome if the error has only a `Debug`.
pub trait ByDebug {
    /// Returns the outcome of the scenario.
    fn outcome(self) -> Result;
}

impl<E: Debug + 'static> ByDebug for &Returned<Result<(), E>> {
    fn outcome(self) -> Result {
        match self.0.take() {
            Some(Err(error)) => Err(own(error, |error| format!("{error:?}"))),
            _ => Ok(()),
        }
    }
}

/// The outcome of a function that returns nothing.
pub trait ByNothing {
    /// Returns the outcome of the scenario.
    fn outcome(&self) -> Result;
}

impl ByNothing for Returned<()> {
    fn outcome(&self) -> Result {
        Ok(())
    }
}

/// Returns this library's error as it is, and any other as text.
fn own<E: 'static>(error: E, text: impl FnOnce(&E) -> String) -> Error {
    let mut error = Some(error);
    if let Some(own) = taken::<Error>(&mut error) {
        return own;
    }
    // The error has no place, so the last line of the scenario counts as its origin.
    foreign(error, text).led_from(place::last_line())
}

fn foreign<E: 'static>(mut error: Option<E>, text: impl FnOnce(&E) -> String) -> Error {
    let text = error.as_ref().map(text).unwrap_or_default();
    let summary = format!("the scenario returned an error: {text}");
    // Does the same as `?` in a scenario that returns this library's `Result`.
    let error: &mut dyn Any = &mut error;
    if let Some(error) = taken::<io::Error>(error) {
        return Error::from(error).with_summary(summary);
    }
    if let Some(boxed) = taken::<Box<dyn StdError>>(error) {
        return if boxed.is::<Error>() { boxed.into() } else { Error::from(boxed).with_summary(summary) };
    }
    if let Some(boxed) = taken::<Box<dyn StdError + Send + Sync>>(error) {
        return if boxed.is::<Error>() { boxed.into() } else { Error::from(boxed).with_summary(summary) };
    }
    Error::new(ErrorKind::Other, summary)
}

/// Returns the `T` of an `Option<T>`.
fn taken<T: 'static>(option: &mut dyn Any) -> Option<T> {
    option.downcast_mut::<Option<T>>()?.take()
}

#[cfg(test)]
// Written like the code of `#[scenario]`, which can't know how many of the references are needed.
#[allow(clippy::needless_borrow)]
mod tests {
    use super::{ByDebug as _, ByDisplay as _, ByNothing as _, *};

    #[test]
    fn an_error_of_this_library_stays_as_it_is() {
        let returned: Result = Err(Error::new(ErrorKind::LoginRefused, "alice was refused"));
        let error = (&&Returned::new(returned)).outcome().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LoginRefused);
        assert_eq!(error.summary(), "alice was refused");
    }

    #[test]
    fn an_error_in_a_box_is_what_the_box_holds() {
        let refused = || Error::new(ErrorKind::LoginRefused, "alice was refused");
        let boxed: Result<(), Box<dyn StdError>> = Err(refused().into());
        let sent: Result<(), Box<dyn StdError + Send + Sync>> = Err(refused().into());
        let errors = [(&&Returned::new(boxed)).outcome(), (&&Returned::new(sent)).outcome()];
        for error in errors.map(Result::unwrap_err) {
            assert_eq!((error.kind(), error.summary()), (ErrorKind::LoginRefused, "alice was refused"));
        }
        let missing = || io::Error::from_raw_os_error(2);
        let plain: Result<(), io::Error> = Err(missing());
        let boxed: Result<(), Box<dyn StdError>> = Err(missing().into());
        for error in [(&&Returned::new(plain)).outcome(), (&&Returned::new(boxed)).outcome()] {
            let error = error.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Io);
            assert_eq!(error.summary(), format!("the scenario returned an error: {}", missing()));
            assert!(error.source().is_some());
        }
    }

    #[test]
    fn any_other_error_is_shown_by_display() {
        let returned: Result<(), std::num::ParseIntError> = "x".parse::<i32>().map(|_| ());
        let error = (&&Returned::new(returned)).outcome().unwrap_err();
        assert_eq!(error.summary(), "the scenario returned an error: invalid digit found in string");
    }

    #[test]
    fn an_error_without_display_is_shown_by_debug() {
        #[derive(Debug)]
        #[allow(dead_code)]
        struct Odd(i32);
        let error = (&&Returned::new(Err::<(), _>(Odd(7)))).outcome().unwrap_err();
        assert_eq!(error.summary(), "the scenario returned an error: Odd(7)");
    }

    #[test]
    fn nothing_returned_is_a_pass() {
        assert!((&&Returned::new(())).outcome().is_ok());
        assert!((&&Returned::new(Ok::<(), String>(()))).outcome().is_ok());
    }
}
