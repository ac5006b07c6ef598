//! Runs scenarios one after another, in their order, on the threads of libtest-mimic.

use std::sync::{Condvar, Mutex, PoisonError};

use super::registry::Scenario;
use crate::mutex::lock;

/// Whose turn it is. libtest-mimic hands out scenarios in their order, but which of its threads locks a mutex
/// first is random. The order matters to a person who wants to repeat a run.
#[derive(Debug)]
pub(super) struct Turns {
    /// All scenarios that libtest-mimic is going to run, in that order.
    order: Vec<&'static Scenario>,
    /// How many of them are over.
    over: Mutex<usize>,
    changed: Condvar,
}

/// A scenario's turn, which ends on drop.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    place: usize,
}

impl Turns {
    /// Makes turns for these scenarios, in this order.
    pub fn of(order: Vec<&'static Scenario>) -> Self {
        Self { order, over: Mutex::new(0), changed: Condvar::new() }
    }

    /// Waits until the scenarios before `scenario` are over. Returns `None` for one that is not in the order.
    pub fn wait_for(&self, scenario: &'static Scenario) -> Option<Turn<'_>> {
        let place = self.order.iter().position(|other| std::ptr::eq(*other, scenario))?;
        let over = lock(&self.over);
        drop(self.changed.wait_while(over, |over| *over < place).unwrap_or_else(PoisonError::into_inner));
        Some(Turn { turns: self, place })
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut over = lock(&self.turns.over);
        *over = (*over).max(self.place + 1);
        self.turns.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_comes_first_the_order_is_kept() {
        let scenarios: Vec<&'static Scenario> =
            (0..50).map(|line| &*Box::leak(Box::new(Scenario { line, ..Scenario::sample() }))).collect();
        let (turns, seen) = (Turns::of(scenarios.clone()), Mutex::new(Vec::new()));
        std::thread::scope(|scope| {
            for scenario in scenarios.iter().rev() {
                let (turns, seen) = (&turns, &seen);
                scope.spawn(move || {
                    let _turn = turns.wait_for(scenario);
                    lock(seen).push(scenario.line);
                });
            }
        });
        assert_eq!(lock(&seen).clone(), (0..50).collect::<Vec<_>>());
        let other = Box::leak(Box::new(Scenario::sample()));
        assert!(turns.wait_for(other).is_none());
    }
}
