//! The options for booting a machine.

use std::time::Duration;

use crate::machine::Alone;
use crate::machine::networks::Networks;
use crate::machine::session::shell_line::Secret;
use crate::qemu::Disk;
use crate::record::Keeper;
use crate::{Events, Result, environment};

/// How a machine is booted.
#[derive(Debug, Clone)]
pub struct MachineOptions {
    pub(crate) name: String,
    pub(crate) disk: Disk,
    pub(crate) events: Events,
    pub(crate) boot_limit: Option<Duration>,
    pub(crate) hardware: Vec<String>,
    pub(crate) shell_channel: bool,
    pub(crate) show_console: bool,
    pub(crate) boot_times: bool,
    pub(crate) passphrase: Option<Secret>,
    pub(crate) scenario: Option<String>,
    pub(crate) alone: Option<Alone>,
    pub(crate) keeper: Option<Keeper>,
    pub(crate) networks: Option<Networks>,
}

impl MachineOptions {
    /// Creates options for a machine called `name`, with a fresh disk.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            disk: Disk::Fresh,
            events: Events::none(),
            boot_limit: None,
            hardware: Vec::new(),
            shell_channel: environment::variable("NIXVM_CHANNEL").is_some_and(|way| way == "shell"),
            show_console: false,
            boot_times: false,
            passphrase: None,
            scenario: None,
            alone: None,
            keeper: None,
            networks: None,
        }
    }

    /// Sets its memory in MiB, instead of the configuration's value.
    #[must_use]
    pub fn memory(mut self, mebibytes: u64) -> Self {
        self.hardware.extend(["-m".to_owned(), mebibytes.to_string()]);
        self
    }

    /// Sets its number of processors, instead of the configuration's value.
    #[must_use]
    pub fn cores(mut self, count: u64) -> Self {
        self.hardware.extend(["-smp".to_owned(), count.to_string()]);
        self
    }

    /// Makes `keeper` store its transcripts as they come.
    #[must_use]
    pub(crate) fn kept_by(mut self, keeper: Option<Keeper>) -> Self {
        self.keeper = keeper;
        self
    }

    /// Sets its cards on the networks of its scenario.
    #[must_use]
    pub(crate) fn networks(mut self, networks: Option<Networks>) -> Self {
        self.networks = networks;
        self
    }

    /// Plugs it into networks without any other machine. A machine that is to be saved as a template must not keep
    /// anything of the machines of one scenario.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Host`] when the system can't start a thread.
    pub(crate) fn alone_on_networks(mut self) -> Result<Self> {
        if let Some(networks) = &self.networks {
            self.networks = Networks::together(&[networks])?.1.pop();
        }
        Ok(self)
    }

    /// Returns its networks for the key of a template; empty if it has none.
    pub(crate) fn wired_as(&self) -> String {
        self.networks.as_ref().map_or_else(String::new, Networks::key)
    }

    /// Returns its hardware, as options of QEMU.
    pub(crate) fn hardware(&self) -> &[String] {
        &self.hardware
    }

    /// Sets the passphrase of its disks. It is typed when the boot asks for a disk's passphrase, once for each
    /// question, and masked like a password.
    #[must_use]
    pub fn passphrase(mut self, passphrase: &str) -> Self {
        crate::secrets::know(passphrase);
        self.passphrase = Some(Secret::new(passphrase));
        self
    }

    /// Returns the passphrase of its disks for the key of a template; empty if there is none.
    pub(crate) fn opened_by(&self) -> &str {
        self.passphrase.as_ref().map_or("", Secret::reveal)
    }

    /// Returns the machine's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Sets its scenario, which is shown to other processes that wait for its resources.
    pub(crate) fn scenario(mut self, name: &str) -> Self {
        self.scenario = Some(name.to_owned());
        self
    }

    /// Sets its scenario's right to run machines that reach others.
    pub(crate) fn alone(mut self, alone: Option<Alone>) -> Self {
        self.alone = alone;
        self
    }

    /// Returns whether its disk outlives it.
    pub(crate) fn keeps_state(&self) -> bool {
        self.disk.is_kept()
    }

    /// Sets the disk image that it gets.
    #[must_use]
    pub fn disk(mut self, disk: Disk) -> Self {
        self.disk = disk;
        self
    }

    /// Sets the destination of its events.
    #[must_use]
    pub fn events(mut self, events: Events) -> Self {
        self.events = events;
        self
    }

    /// Sets the limit for reaching the login prompt, on a fast host (scaled by [`crate::Speed`]). The default is two
    /// minutes.
    #[must_use]
    pub fn boot_limit(mut self, limit: Duration) -> Self {
        self.boot_limit = Some(limit);
        self
    }

    /// Sends an [`crate::Event::ConsoleLine`] for every line of its console, while it runs.
    #[must_use]
    pub fn show_console(mut self, show: bool) -> Self {
        self.show_console = show;
        self
    }

    /// Asks the machine before it is powered off how long its boot took, so that
    /// [`crate::machine::Machine::boot_times`] knows it.
    #[must_use]
    pub fn time_boot(mut self, time: bool) -> Self {
        self.boot_times = time;
        self
    }

    /// Makes a shell script serve the control channel, as if the machine could not run the library's own helper. This
    /// is slower, and output comes at a command's end. `NIXVM_CHANNEL=shell` does so for all machines.
    #[must_use]
    pub fn shell_channel(mut self) -> Self {
        self.shell_channel = true;
        self
    }
}
