//! Searches that run beside the wait. They do not affect it, and it does not affect them.

use super::found::Match;
use super::pattern::Pattern;
use super::ring::Ring;
use super::search::{Searches, View};

/// All observers.
#[derive(Default)]
pub(super) struct Observers {
    all: Vec<Observer>,
    next: u64,
}

struct Observer {
    id: u64,
    searches: Searches,
    found: Option<Match>,
}

impl Observers {
    /// Begins to search for a pattern in the text since `from`. Returns the observer's number.
    pub(super) fn begin(&mut self, from: u64, pattern: &Pattern) -> u64 {
        let id = self.next;
        self.next += 1;
        let searches = Searches::new(std::slice::from_ref(pattern), from);
        self.all.push(Observer { id, searches, found: None });
        id
    }

    /// Searches the new text.
    pub(super) fn scan(&mut self, text: &Ring, window: u64) {
        for observer in self.all.iter_mut().filter(|observer| observer.found.is_none()) {
            let from = observer.searches.from();
            let view = View { text, from, end: text.end(), window };
            if let Some((index, hit)) = observer.searches.scan(view) {
                let pattern = observer.searches.patterns().nth(index);
                observer.found = pattern.and_then(|pattern| Match::of(pattern, hit, view, from));
            }
        }
    }

    /// Takes the result of an observer.
    pub(super) fn take(&mut self, id: u64) -> Option<Match> {
        self.all.iter_mut().find(|observer| observer.id == id)?.found.take()
    }

    /// Ends an observer.
    pub(super) fn end(&mut self, id: u64) {
        self.all.retain(|observer| observer.id != id);
    }

    /// Whether there are no observers.
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}
