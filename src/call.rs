//! A call of a method that knows where it was made: what `#[tracked]` makes of an `async fn`.

use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::{Result, place};

/// What such a method returns. Its future is in a box, so that the futures of its callers stay small.
pub(crate) struct Call<F> {
    /// Where it was made; `None` in the library itself, which calls its own methods on behalf of another call.
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

/// What a method returns that waits for nothing: its error has the place of the call, if the method has `#[track_caller]`.
#[track_caller]
pub(crate) fn called<T>(result: Result<T>) -> Result<T> {
    let call = Location::caller();
    result.map_err(|error| error.called_from(call))
}
