//! What passed the network of a scenario, for its record.

use std::sync::{Arc, Mutex};

use crate::mutex::lock;
use crate::network::Switch;
use crate::record::Keeper;

/// The switch of a scenario, if it captures what passes. Whichever thread ends the scenario writes that to the record.
#[derive(Debug, Clone, Default)]
pub(super) struct Captures(Arc<Mutex<Option<Arc<Switch>>>>);

impl Captures {
    /// Has `switch` keep what passes: of each VLAN the first and the last `size` bytes. If machines are discarded, and
    /// others are started, the network of the others counts.
    pub(super) fn begin(&self, switch: &Arc<Switch>, size: usize) {
        switch.capture(size);
        *lock(&self.0) = Some(Arc::clone(switch));
    }

    /// Writes what passed each VLAN to the record, once. A note says so if that fails.
    pub(super) fn keep(&self, keeper: Option<&Keeper>) {
        let Some(switch) = lock(&self.0).take() else { return };
        let Some(keeper) = keeper else { return };
        for vlan in switch.captured_vlans() {
            keeper.capture(vlan.get(), |out| switch.write_capture(vlan, out));
        }
    }
}
