//! Everything a scenario needs: `use nixvm_test::prelude::*;`.

pub use std::time::Duration;

pub use crate::machine::{Machine, Output, Session};
pub use crate::scenario;
pub use crate::{Error, ErrorKind, Result};
