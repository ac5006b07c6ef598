//! Everything a scenario needs: `use nixvm_test::prelude::*;`.

pub use std::time::Duration;

pub use crate::console::Pattern;
pub use crate::machine::{
    Machine, Network, Output, Packet, Protocol, Session, Stream, System, User, start_all,
};
pub use crate::{Error, ErrorKind, Result};
pub use crate::{checkpoint, scenario};
