//! One machine or several, as an argument of the methods of a network.

use crate::machine::Machine;

/// One machine or several: `&one`, or `&[&one, &two]`.
pub trait Group: sealed::Sealed {
    /// Returns the machines.
    #[doc(hidden)]
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

mod sealed {
    use crate::machine::Machine;

    pub trait Sealed {}
    impl Sealed for Machine {}
    impl Sealed for [&Machine] {}
    impl<const N: usize> Sealed for [&Machine; N] {}
    impl Sealed for Vec<&Machine> {}
}
