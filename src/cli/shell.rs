//! `nixvm-test shell [CONFIG]`: opens an interactive session on the user's terminal.

use std::process::ExitCode;
use std::str::FromStr;

use crate::Result;
use clap::Args;

use super::console::{self, Ending};
use super::interactive::{Interactive, is_name, machine_of};
use super::options::Options;
use super::startup_reporter::StartupReporter;

const EXAMPLES: &str = "\
Examples:
  nixvm-test shell                               ./configuration.nix, its first user logged in
  nixvm-test shell web.nix --user root --password test
  nixvm-test shell --forward 8080:80 --ssh-port 2222
  nixvm-test shell --keep-state                  on the disk NAME.qcow2, which is kept, as in the tutorial
  nixvm-test shell server=server.nix client=client.nix --forward server=8080:80

Every key except ctrl-] goes to the machine; ctrl-] ends it. With several machines ctrl-] and a number goes to the
console of another one. The machine's output reaches the terminal unchanged, as with ./result/bin/run-NAME-vm.";

/// A session by hand.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Shell {
    #[command(flatten)]
    interactive: Interactive,
    /// Make the machine's SSH server reachable at this port of 127.0.0.1; 0 chooses a free one
    ///
    /// With several machines: NAME=2222.
    #[arg(long, value_name = "PORT", value_parser = of_machine::<SshPort>)]
    ssh_port: Vec<(Option<String>, SshPort)>,
    /// Make a port of the machine reachable on 127.0.0.1, HOST:GUEST; may be given several times
    ///
    /// With several machines: NAME=8080:80.
    #[arg(long, value_name = "8080:80", value_parser = of_machine::<Ports>)]
    forward: Vec<(Option<String>, Ports)>,
}

/// A port of this host for the machine's SSH server.
#[derive(Debug, Clone, PartialEq, Eq)]
struct SshPort(u16);

/// A port of this host, and one of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Ports(u16, u16);

impl Shell {
    /// Boots the machines and connects the terminal to the first one.
    pub async fn run(self, options: &Options) -> Result<ExitCode> {
        let reporter = StartupReporter::before_a_console(&options.settings()?)?;
        let all = self.interactive.up(options, &reporter.events()).await?;
        let mut forwarded = String::new();
        let ssh = self.ssh_port.iter().map(|(name, SshPort(port))| (name, *port, 22));
        let others = self.forward.iter().map(|(name, Ports(host, guest))| (name, *host, *guest));
        for (name, host, guest) in ssh.chain(others) {
            let (_, up) = machine_of(&all, name.as_deref(), "--forward NAME=8080:80")?;
            let address = up.machine.forward_port(host, guest).await?;
            forwarded += &format!("{address} is port {guest} of {}\n", up.machine.name());
        }
        reporter.end();
        let mut consoles = Vec::new();
        for up in &all {
            consoles.push((up.machine.clone(), up.machine.raw_console().await));
        }
        let is_kept = all.iter().any(|up| up.is_kept);
        let ending = if is_kept { Ending::PowerOff } else { Ending::Stop };
        console::connect(consoles, &forwarded, ending).await
    }
}

impl FromStr for SshPort {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self).map_err(|_| "a port, a number up to 65535")
    }
}

impl FromStr for Ports {
    type Err = &'static str;

    /// Parses `8080:80`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let pair = text
            .split_once(':')
            .and_then(|(host, guest)| Some(Self(host.parse().ok()?, guest.parse().ok()?)));
        pair.ok_or("two ports, HOST:GUEST, such as 8080:80")
    }
}

/// Parses a value with or without the name of a machine: `NAME=VALUE`.
fn of_machine<T: FromStr>(text: &str) -> Result<(Option<String>, T), T::Err> {
    match text.split_once('=') {
        Some((name, value)) if is_name(name) => Ok((Some(name.to_owned()), value.parse()?)),
        _ => Ok((None, text.parse()?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_two_numbers_and_may_be_those_of_a_machine() {
        assert_eq!(of_machine("8080:80"), Ok((None, Ports(8080, 80))));
        assert_eq!(of_machine("web=8080:80"), Ok((Some("web".to_owned()), Ports(8080, 80))));
        assert_eq!(of_machine("web=2222"), Ok((Some("web".to_owned()), SshPort(2222))));
        for wrong in ["80", "8080:http", "8080:80:90", "70000:80", "web=80", "=8080:80"] {
            assert!(of_machine::<Ports>(wrong).is_err(), "{wrong}");
        }
    }
}
