//! Shows a machine's console in the terminal until the user leaves it, and then ends the machine.

use std::process::ExitCode;

use crate::machine::{Machine, RawConsole};
use crate::scenario::Exit;
use crate::signals;
use crate::{Result, report};

use super::terminal::{Left, Terminal};

/// What happens to a machine that the user leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Nothing of it is kept, so it is stopped at once.
    Stop,
    /// Its disk is kept, so it is powered off properly.
    PowerOff,
}

/// Number of earlier lines of the machine that are shown again.
const REPAINTED: usize = 24;

/// Connects the terminal to a machine's console until the user leaves it, then ends the machine. Prints `also`, whole
/// lines, on entry.
pub async fn connect(
    machine: &Machine,
    mut console: RawConsole,
    also: &str,
    ending: Ending,
) -> Result<ExitCode> {
    let mut terminal = Terminal::take()?;
    terminal.show(&format!("{also}on the console of {}; ctrl-] leaves it\n\n", machine.name()));
    // Neutralised, so that earlier output of the guest has no effect on the terminal now.
    let before = machine.console().tail(REPAINTED);
    // A prompt ends with a space, which a rendered line lacks.
    terminal.show(&if before.is_empty() { before } else { before + " " });
    let left = terminal.connect(&mut console).await;
    drop((terminal, console));
    // The machine may be off because a signal ends this process. That signal then determines the exit status.
    signals::hold_if_ending();
    let name = machine.name();
    match (left, ending) {
        (Left::Gone, _) => report::say(&format!("\nnixvm-test: {name} is off")),
        (Left::ByKey, Ending::Stop) => {
            report::say(&format!("\nnixvm-test: left the console; {name} was ended"));
        }
        (Left::ByKey, Ending::PowerOff) => {
            report::say(&format!("\nnixvm-test: left the console; {name} is powered off, its disk is kept"));
            // The logged-in user may not be allowed to power off.
            return machine.shutdown().await.map(|()| Exit::Passed.into());
        }
    }
    machine.stop().await;
    Ok(Exit::Passed.into())
}
