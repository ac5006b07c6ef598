//! A machine's console in the terminal until the user leaves it, and then its end.

use std::process::ExitCode;

use crate::machine::{Machine, RawConsole};
use crate::scenario::Exit;
use crate::signals;
use crate::{Result, report};

use super::terminal::{Left, Terminal};

/// What becomes of a machine that the user leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Nothing of it is kept, so it ends at once.
    Stop,
    /// Its disk is kept, so it is powered off in good order.
    PowerOff,
}

/// Lines of what the machine said before that are shown again.
const REPAINTED: usize = 24;

/// Connects the terminal to a machine's console until it is left, then ends the machine. `also` is said on entry, whole
/// lines.
pub async fn connect(
    machine: &Machine,
    mut console: RawConsole,
    also: &str,
    ending: Ending,
) -> Result<ExitCode> {
    let mut terminal = Terminal::take()?;
    terminal.show(&format!("{also}on the console of {}; ctrl-] leaves it\n\n", machine.name()));
    // Neutralised: nothing that the guest said before does anything now.
    let before = machine.console().tail(REPAINTED);
    // A prompt's last character is a space, which a rendered line has not.
    terminal.show(&if before.is_empty() { before } else { before + " " });
    let left = terminal.connect(&mut console).await;
    drop((terminal, console));
    // The machine may be off because a signal ends this process, which then decides its own exit status.
    signals::hold_if_ending();
    let name = machine.name();
    match (left, ending) {
        (Left::Gone, _) => report::say(&format!("\nnixvm-test: {name} is off")),
        (Left::ByKey, Ending::Stop) => {
            report::say(&format!("\nnixvm-test: left the console; {name} is ended"));
        }
        (Left::ByKey, Ending::PowerOff) => {
            report::say(&format!("\nnixvm-test: left the console; {name} is powered off, its disk is kept"));
            // Whoever is logged in need not be allowed to do it.
            return machine.shutdown().await.map(|()| Exit::Passed.into());
        }
    }
    machine.stop().await;
    Ok(Exit::Passed.into())
}
