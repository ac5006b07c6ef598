//! `nixvm-test shell [CONFIG]`: opens an interactive session on the user's terminal.

use std::process::ExitCode;

use crate::Result;
use clap::Args;

use super::console::{self, Ending};
use super::interactive::Interactive;
use super::options::Options;
use super::startup_reporter::StartupReporter;

const EXAMPLES: &str = "\
Examples:
  nixvm-test shell                               ./configuration.nix, its first user logged in
  nixvm-test shell web.nix --user root --password test
  nixvm-test shell --forward 8080:80 --ssh-port 2222
  nixvm-test shell --keep-state                  on the disk NAME.qcow2, which is kept, as in the tutorial

Every key except ctrl-] goes to the machine; ctrl-] ends it. The machine's output reaches the terminal unchanged, as with
./result/bin/run-NAME-vm.";

/// A session by hand.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Shell {
    #[command(flatten)]
    interactive: Interactive,
    /// Make the machine's SSH server reachable at this port of 127.0.0.1; 0 chooses a free one
    #[arg(long, value_name = "PORT")]
    ssh_port: Option<u16>,
    /// Make a port of the machine reachable on 127.0.0.1, HOST:GUEST; may be given several times
    #[arg(long, value_name = "8080:80", value_parser = ports)]
    forward: Vec<(u16, u16)>,
}

impl Shell {
    /// Boots the machine and connects the terminal to it.
    pub async fn run(self, options: &Options) -> Result<ExitCode> {
        let reporter = StartupReporter::before_a_console(&options.settings()?)?;
        let up = self.interactive.up(options, &reporter.events()).await?;
        let mut forwarded = String::new();
        for (host, guest) in
            self.ssh_port.map(|port| (port, 22)).into_iter().chain(self.forward.iter().copied())
        {
            let address = up.machine.forward_port(host, guest).await?;
            forwarded += &format!("{address} is port {guest} of {}\n", up.machine.name());
        }
        reporter.end();
        let console = up.machine.raw_console().await;
        let ending = if up.is_kept { Ending::PowerOff } else { Ending::Stop };
        console::connect(&up.machine, console, &forwarded, ending).await
    }
}

/// Parses `8080:80`.
fn ports(text: &str) -> Result<(u16, u16), &'static str> {
    let pair = text.split_once(':').and_then(|(host, guest)| Some((host.parse().ok()?, guest.parse().ok()?)));
    pair.ok_or("two ports, HOST:GUEST, such as 8080:80")
}

#[cfg(test)]
mod tests {
    use super::ports;

    #[test]
    fn ports_are_two_numbers() {
        assert_eq!(ports("8080:80"), Ok((8080, 80)));
        for wrong in ["80", "8080:http", "8080:80:90", "70000:80"] {
            assert!(ports(wrong).is_err(), "{wrong}");
        }
    }
}
