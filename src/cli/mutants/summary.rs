//! What is printed of mutants.

use crate::mutants::{Mutant, Outcome, Output, OwnFiles, Tally, Tried, place};

/// Returns one line for each mutant.
pub(super) fn list(own: &OwnFiles) -> String {
    own.mutants.iter().map(|mutant| format!("{}\n", super::named(mutant, own))).collect()
}

/// Whether a mutant was missed.
pub(super) fn some_missed(output: &Output) -> bool {
    Tally::of(output.tried()).count(Outcome::Missed) > 0
}

/// Returns a table of the mutants that a person has to look at, and the number of each outcome.
pub(super) fn table(own: &OwnFiles, output: &Output) -> String {
    let mut text = String::new();
    for outcome in [Outcome::Missed, Outcome::Timeout, Outcome::WithoutEffect] {
        let of_it: Vec<&Tried> = output.tried().iter().filter(|tried| tried.outcome == outcome).collect();
        if of_it.is_empty() {
            continue;
        }
        text.push_str(title(outcome));
        text.push('\n');
        let shown = |mutant: &Mutant| place(mutant, &own.folder);
        let width = of_it.iter().map(|tried| shown(&tried.mutant).chars().count()).max().unwrap_or(0);
        for tried in of_it {
            text.push_str(&format!("  {:width$}  {}\n", shown(&tried.mutant), tried.mutant.change));
        }
        text.push('\n');
    }
    let tally = Tally::of(output.tried());
    let mutants = if tally.total() == 1 { "mutant" } else { "mutants" };
    text.push_str(&format!("{} {mutants} tried: {tally}\n", tally.total()));
    let before = own.mutants.iter().filter(|mutant| output.was_caught(mutant)).count();
    let rest = own.mutants.len().saturating_sub(before + tally.total());
    if before > 0 {
        text.push_str(&format!("{before} left out: caught before\n"));
    }
    if rest > 0 {
        text.push_str(&format!("{rest} not tried\n"));
    }
    text
}

fn title(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Missed => "missed: all scenarios pass",
        Outcome::Timeout => "timeout: no end within the limit",
        Outcome::WithoutEffect => "without effect: the system is the same",
        Outcome::Caught => "caught",
        Outcome::Unviable => "unviable",
    }
}
