//! A machine's hardware and how to control it: disks, network cards, keyboard, clock, QEMU's monitor.

pub(crate) mod clock;
pub(crate) mod devices;
pub(crate) mod group;
pub(crate) mod keyboard;
pub(crate) mod link_counts;
pub(crate) mod link_faults;
pub(crate) mod members;
pub(crate) mod monitor;
pub(crate) mod network;
pub(crate) mod packet;
mod packets;
pub(crate) mod scenario_network;
