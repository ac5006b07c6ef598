//! Which port leads to which station, learned from the sources of frames.
//!
//! A station is an address together with the tags of its frames. A guest that bridges two tagged networks shows the same
//! address at another port under each tag. A table without the tags would send frames to the wrong one of them
//! (nixpkgs#182324). An entry too many costs nothing but a flooded frame.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::Key;
use super::frame::Mac;

/// How long a station is known after its last frame, as in most switches.
const AGE: Duration = Duration::from_secs(300);

/// How many stations are known at one port. A guest that forges addresses makes the switch forget its own ones.
pub(super) const MOST: usize = 1024;

/// An address under the tags of its frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Station {
    pub(super) address: Mac,
    pub(super) tags: [u16; 2],
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    port: Key,
    at: Instant,
}

/// The stations of one VLAN.
#[derive(Debug, Default)]
pub(super) struct Stations {
    known: HashMap<Station, Seen>,
    /// How many of them are at each port.
    at_port: HashMap<Key, usize>,
}

impl Stations {
    /// Notes that `station` has sent a frame from `port`. A station that was at another port has moved.
    pub(super) fn learn(&mut self, station: Station, port: Key, now: Instant) {
        if let Some(seen) = self.known.get_mut(&station).filter(|seen| seen.port == port) {
            seen.at = now;
            return;
        }
        if self.at_port.get(&port).is_some_and(|count| *count >= MOST) {
            self.forget(port);
        }
        if let Some(before) = self.known.insert(station, Seen { port, at: now })
            && let Some(count) = self.at_port.get_mut(&before.port)
        {
            *count -= 1;
        }
        *self.at_port.entry(port).or_default() += 1;
    }

    /// Returns the port that leads to `station`, if it is known.
    pub(super) fn find(&self, station: Station, now: Instant) -> Option<Key> {
        let seen = self.known.get(&station)?;
        (now.saturating_duration_since(seen.at) <= AGE).then_some(seen.port)
    }

    /// Forgets all stations at `port`.
    pub(super) fn forget(&mut self, port: Key) {
        if self.at_port.remove(&port).is_some_and(|count| count > 0) {
            self.known.retain(|_, seen| seen.port != port);
        }
    }

    /// Forgets all stations.
    pub(super) fn clear(&mut self) {
        self.known.clear();
        self.at_port.clear();
    }

    /// How many stations are known.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }
}
