//! A call of a method, with the place where it was made. `#[tracked]` makes it from an `async fn`.

use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::{Result, place};

/// The return value of such a method. Its future is in a box, so that the futures of its callers stay small.
pub(crate) struct Call<F> {
    /// Where it was made; `None` within the library itself, which calls its own methods on behalf of another
    /// call.
    place: Option<&'static Location<'static>>,
    future: Pin<Box<F>>,
}

impl<F> Call<F> {
    pub(crate) fn new(place: &'static Location<'static>, future: F) -> Self {
        let place = Some(place).filter(|place| place::is_theirs(place.file()));
        Self { place, future: Box::pin(future) }
    }
}

impl<T, F: Future<Output = Result<T>>> Future for Call<F> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        let Some(call) = self.place else { return self.future.as_mut().poll(context) };
        let poll = place::during_call(call, || self.future.as_mut().poll(context));
        poll.map_err(|error| error.called_from(call))
    }
}

/// Adds the place of the call to the error of a method that is not asynchronous, if the method has
/// `#[track_caller]`.
#[track_caller]
pub(crate) fn called<T>(result: Result<T>) -> Result<T> {
    let call = Location::caller();
    result.map_err(|error| error.called_from(call))
}
