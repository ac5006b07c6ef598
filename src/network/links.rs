//! The links of a switch: the ways from one machine to another on a VLAN, each in one direction.
//!
//! A machine that is started again gets new ports. So a link is known by the names of its machines, which stay.

use std::collections::HashMap;
use std::sync::Arc;

use super::{LinkCounts, VlanId};

/// A name that ports have, as a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct End(u32);

/// The way of frames from one end to another on a VLAN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Link {
    pub(super) vlan: VlanId,
    pub(super) from: End,
    pub(super) to: End,
}

/// All links on which a frame was sent.
#[derive(Debug, Default)]
pub(super) struct Links {
    names: Vec<Arc<str>>,
    counts: HashMap<Link, LinkCounts>,
}

impl Links {
    /// Returns the end with this name.
    pub(super) fn end(&mut self, name: &str) -> End {
        self.known(name).unwrap_or_else(|| {
            self.names.push(name.into());
            // A name needs a port, and a port a descriptor.
            End(u32::try_from(self.names.len() - 1).unwrap_or(u32::MAX))
        })
    }

    fn known(&self, name: &str) -> Option<End> {
        let at = self.names.iter().position(|known| **known == *name)?;
        u32::try_from(at).ok().map(End)
    }

    /// What passed a link so far, to be added to.
    pub(super) fn counts_mut(&mut self, link: Link) -> &mut LinkCounts {
        self.counts.entry(link).or_default()
    }

    /// What passed a link so far.
    pub(super) fn counts(&self, vlan: VlanId, from: &str, to: &str) -> LinkCounts {
        let link = self.known(from).zip(self.known(to)).map(|(from, to)| Link { vlan, from, to });
        link.and_then(|link| self.counts.get(&link)).copied().unwrap_or_default()
    }
}
