//! One machine or several, as an argument of the methods of a network.

use crate::machine::Machine;

/// One machine or several: `&one`, or `&[&one, &two]`. A struct of yours that holds machines can be one, too.
///
/// ```no_run
/// use nixvm_test::machine::{Group, Machine};
///
/// struct Cluster {
///     nodes: Vec<Machine>,
/// }
///
/// impl Group for Cluster {
///     fn machines(&self) -> Vec<&Machine> {
///         self.nodes.iter().collect()
///     }
/// }
/// ```
pub trait Group {
    /// Returns the machines.
    fn machines(&self) -> Vec<&Machine>;
}

impl Group for Machine {
    fn machines(&self) -> Vec<&Machine> {
        vec![self]
    }
}

impl Group for [&Machine] {
    fn machines(&self) -> Vec<&Machine> {
        self.to_vec()
    }
}

impl<const N: usize> Group for [&Machine; N] {
    fn machines(&self) -> Vec<&Machine> {
        self.to_vec()
    }
}

impl Group for Vec<&Machine> {
    fn machines(&self) -> Vec<&Machine> {
        self.clone()
    }
}
