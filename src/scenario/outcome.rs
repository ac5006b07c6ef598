//! What a scenario's function may return, and what that says about the scenario.
//!
//! `Result<(), E>` is fine for any `E` that can be shown: this library's [`Error`] as it is, also in a box, any other
//! by `Display` (with what caused it), and by `Debug` where there is no `Display`. Which of the
//! two an `E` has is decided where the type is known, in the code `#[scenario]` writes, by the
//! order in which methods are looked up: `&&Returned` first, then `&Returned`, then `Returned`.

use std::any::Any;
use std::cell::Cell;
use std::error::Error as StdError;
use std::fmt::{Debug, Display};
use std::io;
use std::pin::Pin;

use crate::{Error, ErrorKind, Result, place};

/// A scenario's run: ends with what the scenario says.
///
/// It stays on the thread it was made on, so a scenario may hold what can't be sent to another.
pub type Body = Pin<Box<dyn Future<Output = Result> + 'static>>;

/// What a scenario's function may return.
#[diagnostic::on_unimplemented(
    message = "a scenario returns nothing or a `Result<(), E>`, not `{Self}`",
    label = "write `-> Result` (from `nixvm_test::prelude`) or leave it out"
)]
pub trait ReturnType {}

impl ReturnType for () {}
impl<E> ReturnType for Result<(), E> {}

/// Compiles for return types that a scenario may have.
pub const fn is_a_return_type<T: ReturnType>() {}

/// What a scenario's function returned, to be turned into its outcome once.
pub struct Returned<T>(Cell<Option<T>>);

impl<T> Returned<T> {
    /// Holds `value`.
    pub fn new(value: T) -> Self {
        Self(Cell::new(Some(value)))
    }
}

/// The outcome where the error has a `Display`.
pub trait ByDisplay {
    /// What the scenario says.
    fn outcome(self) -> Result;
}

impl<E: Display + 'static> ByDisplay for &&Returned<Result<(), E>> {
    fn outcome(self) -> Result {
        match self.0.take() {
            // `{:#}` is how the common error crates show an error with all that caused it.
            Some(Err(error)) => Err(own(error, |error| format!("{error:#}"))),
            _ => Ok(()),
        }
    }
}

/// The outcome where the error has only a `Debug`.
pub trait ByDebug {
    /// What the scenario says.
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
    /// What the scenario says.
    fn outcome(&self) -> Result;
}

impl ByNothing for Returned<()> {
    fn outcome(&self) -> Result {
        Ok(())
    }
}

/// This library's error as it is, any other as text.
fn own<E: 'static>(error: E, text: impl FnOnce(&E) -> String) -> Error {
    let mut error = Some(error);
    if let Some(own) = taken::<Error>(&mut error) {
        return own;
    }
    // It knows no place. The last line of the scenario is where it came from.
    foreign(error, text).led_from(place::last_line())
}

fn foreign<E: 'static>(mut error: Option<E>, text: impl FnOnce(&E) -> String) -> Error {
    let text = error.as_ref().map(text).unwrap_or_default();
    let summary = format!("the scenario returned an error: {text}");
    // As `?` has it where a scenario returns this library's `Result`.
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

/// The `T` of an `Option<T>`.
fn taken<T: 'static>(option: &mut dyn Any) -> Option<T> {
    option.downcast_mut::<Option<T>>()?.take()
}

#[cfg(test)]
// What `#[scenario]` writes, which can't know how many of the references are needed.
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
