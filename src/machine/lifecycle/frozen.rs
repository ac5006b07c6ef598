//! The switch of machines that are stopped, saved or started at one moment.

use std::sync::Arc;
use std::time::Duration;

use crate::network::{InFlight, Switch};
use crate::stopped::Instant;
use crate::{Events, Speed};

/// How long machines have to read what was sent to them, on a fast host. One whose card is not up never does.
const DRAINED: Duration = Duration::from_millis(500);
const LOOK: Duration = Duration::from_millis(1);

/// A frozen switch, which thaws when this is dropped. In a replay there is none.
#[derive(Debug)]
pub(crate) struct Frozen(Option<Arc<Switch>>);

impl Frozen {
    /// Freezes a switch.
    pub(crate) fn of(switch: Option<&Arc<Switch>>) -> Self {
        if let Some(switch) = switch {
            switch.freeze();
        }
        Self(switch.cloned())
    }

    /// Waits until machines have read what was sent to them, or until a short limit. `slowest` is the speed of the
    /// slowest machine.
    pub(crate) async fn drained(&self, slowest: Speed) {
        let Some(switch) = &self.0 else { return };
        let limit = Instant::now() + slowest.scale(DRAINED);
        while !switch.is_drained() {
            if Instant::now() > limit {
                tracing::debug!("a machine does not read the frames that it was sent");
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Returns the frames in flight, once all machines are stopped. A note says if there was no room for some.
    pub(crate) fn in_flight(&self, events: &Events) -> InFlight {
        let frames = self.0.as_ref().map(|switch| switch.in_flight()).unwrap_or_default();
        let lost = frames.lost();
        if lost > 0 {
            events.note(format!(
                "{lost} frames between machines that were saved at one moment are lost: there was no room for them"
            ));
        }
        frames
    }

    /// Makes these the frames in flight, in place of those of before.
    pub(crate) fn park(&self, frames: InFlight) {
        if let Some(switch) = &self.0 {
            switch.park(frames);
        }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        if let Some(switch) = &self.0 {
            switch.thaw();
        }
    }
}
