//! Shows the consoles of machines in the terminal until the user leaves them, and then ends the machines.

use std::process::ExitCode;

use crate::machine::{Machine, RawConsole};
use crate::scenario::Exit;
use crate::signals;
use crate::{Result, report};

use super::terminal::{Left, Terminal};

/// What happens to machines that the user leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Nothing of them is kept, so they are stopped at once.
    Stop,
    /// Their disks are kept, so they are powered off properly.
    PowerOff,
}

/// Number of earlier lines of the machine that are shown again.
const REPAINTED: usize = 24;

/// The keys that name the machines, in their order.
const KEYS: &str = "123456789abcdefghijklmnopqrstuvwxyz";

/// A machine with a console for the user.
struct Shown {
    machine: Machine,
    console: RawConsole,
    is_off: bool,
    was_shown: bool,
}

/// Connects the terminal to the console of the first of these machines, and to another one as the user chooses, until
/// the user leaves them or all are off. Then ends the machines. Prints `also`, whole lines, on entry.
pub async fn connect(machines: Vec<(Machine, RawConsole)>, also: &str, ending: Ending) -> Result<ExitCode> {
    let mut terminal = Terminal::take()?;
    terminal.show(also);
    let shown = |(machine, console)| Shown { machine, console, is_off: false, was_shown: false };
    let mut all: Vec<Shown> = machines.into_iter().map(shown).collect();
    let mut at = 0;
    while let Some(its) = all.get_mut(at) {
        its.enter(&terminal);
        let left = terminal.connect(&mut its.console).await;
        its.is_off = left == Left::Gone;
        terminal.undo_modes();
        let Some(next) = next(&mut terminal, &all, at, left).await else { break };
        at = next;
    }
    drop(terminal);
    // The machines may be off because a signal ends this process. That signal then determines the exit status.
    signals::hold_if_ending();
    end(all, ending).await
}

impl Shown {
    fn enter(&mut self, terminal: &Terminal) {
        terminal.show(&format!("on the console of {}; ctrl-] leaves it\n\n", self.machine.name()));
        if std::mem::replace(&mut self.was_shown, true) {
            // What it printed since comes by itself.
            return;
        }
        // Neutralised, so that earlier output of the guest has no effect on the terminal now.
        let before = self.machine.console().tail(REPAINTED);
        // A prompt ends with a space, which a rendered line lacks.
        terminal.show(&if before.is_empty() { before } else { before + " " });
    }
}

/// Returns the place of the machine whose console is shown next; `None` to end.
async fn next(terminal: &mut Terminal, all: &[Shown], at: usize, left: Left) -> Option<usize> {
    let running: Vec<usize> = (0..all.len()).filter(|place| !all[*place].is_off).collect();
    let name = all[at].machine.name();
    match (left, running.as_slice()) {
        (_, []) => None,
        (Left::Gone, [first, ..]) => {
            terminal.show(&format!("\nnixvm-test: {name} is off\n"));
            Some(*first)
        }
        (Left::ByKey, _) if all.len() == 1 => None,
        (Left::ByKey, _) => {
            terminal
                .show(&format!("\nnixvm-test: {}; ctrl-] again ends all, Enter goes back\n", list(all, at)));
            let key = terminal.key().await?;
            let chosen = KEYS.bytes().position(|its| its == key);
            Some(chosen.filter(|place| running.contains(place)).unwrap_or(at))
        }
    }
}

/// Returns the machines with their keys.
fn list(all: &[Shown], at: usize) -> String {
    let names = KEYS.chars().zip(all).enumerate().map(|(place, (key, its))| {
        let state = match its.is_off {
            true => " (off)",
            false if place == at => " (shown)",
            false => "",
        };
        format!("{key} {}{state}", its.machine.name())
    });
    names.collect::<Vec<_>>().join(", ")
}

async fn end(all: Vec<Shown>, ending: Ending) -> Result<ExitCode> {
    let (mut running, mut off) = (Vec::new(), Vec::new());
    for its in all {
        drop(its.console);
        if its.is_off { off.push(its.machine) } else { running.push(its.machine) }
    }
    let names = |machines: &[Machine]| machines.iter().map(Machine::name).collect::<Vec<_>>().join(", ");
    let verb = |machines: &[Machine], one: &'static str, several: &'static str| {
        if machines.len() == 1 { one } else { several }
    };
    if running.is_empty() {
        report::say(&format!("\nnixvm-test: {} {} off", names(&off), verb(&off, "is", "are")));
    } else if ending == Ending::Stop {
        let was = verb(&running, "was", "were");
        report::say(&format!("\nnixvm-test: left the console; {} {was} ended", names(&running)));
    } else {
        let is = verb(&running, "is powered off, its disk is", "are powered off, their disks are");
        report::say(&format!("\nnixvm-test: left the console; {} {is} kept", names(&running)));
        // The logged-in user may not be allowed to power off.
        for machine in &running {
            machine.shutdown().await?;
        }
        running.clear();
    }
    for machine in running.into_iter().chain(off) {
        machine.stop().await;
    }
    Ok(Exit::Passed.into())
}
