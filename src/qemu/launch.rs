//! Starts the user's own run script, with what it needs in the variables that it honours.
//!
//! The script is never imitated: all that it does before QEMU (images, helpers, EFI variables) is
//! part of the VM. It passes descriptors on, so console and control protocol are socketpairs: no path
//! that can be too long, no waiting for a socket to appear, and what the firmware prints first is in
//! the socket's buffer before anybody reads.

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream as StdStream;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::stopped::Instant;

use tokio::net::UnixStream;

use super::accelerator::processor_in;
use super::cards::{Cards, backends};
use super::causes::likely_cause;
use super::disk::Claim;
use super::halt::Guest;
use super::line_end::LineEnd;
use super::supervise::{self, Supervised};
use super::template::{Made, Memory, arguments};
use super::{Accelerator, Disk, QMP_LIMIT, Qemu, Qmp, RunDirectory, port_holder};
use crate::BuiltVm;
use crate::{Error, ErrorKind, Event, Events, Result, environment, host_limits};

/// Ids of our character devices. Unlikely to be in a script already.
pub(super) const CONSOLE: &str = "nixvm-console";
pub(super) const CONTROL: &str = "nixvm-control";
/// The id of the virtio-serial port, as in QEMU's events.
pub(crate) const CHANNEL: &str = "nixvm-channel";
/// The name of the virtio-serial port, by which the guest finds it.
const PORT: &str = "nixvm";

/// For the run script, until QEMU runs. NixOS's own makes an image of all store paths at each start, where the VM has one
/// (`virtualisation.useNixStoreImage`), and a large system has many GB of them.
const SCRIPT: Duration = Duration::from_secs(10 * 60);

/// Everything that starting a machine takes. Make it with [`Launch::new`], then set fields.
#[derive(Debug)]
pub struct Launch<'a> {
    /// What to run.
    pub vm: &'a BuiltVm,
    /// The machine's name in events and errors.
    pub machine: &'a str,
    /// Where its files go. Must outlive the [`Qemu`].
    pub run_dir: &'a RunDirectory,
    /// Its disk image.
    pub disk: Disk,
    /// The VM that a kept image belongs to, if another one runs on it now: the machine was switched to it.
    pub(crate) disk_of: Option<&'a BuiltVm>,
    /// What executes its instructions; see [`accelerator::choose`](super::accelerator::choose).
    pub accelerator: Accelerator,
    /// Its processor under KVM, if it is not that of the run script.
    pub(crate) cpu: Option<&'static str>,
    /// It may have to boot once more, from the state of before: a disk image that is kept is put back then.
    pub(crate) tried: bool,
    /// QEMU's end of a socket pair; the guest sees it as a virtio-serial port called `nixvm`. Default:
    /// no such port.
    pub channel: Option<OwnedFd>,
    /// The scenario that it is in.
    pub(crate) scenario: Option<String>,
    /// Its RAM, in a file, so that it can be saved. Default: RAM of its own.
    pub(crate) memory: Option<Memory>,
    /// Its cards on the networks of its scenario. Default: none.
    pub(crate) cards: Cards,
    /// Kernel parameters, after those of the VM and of the user's QEMU_KERNEL_PARAMS.
    pub kernel_params: Vec<String>,
    /// Options for QEMU, after those of the VM and of the user's QEMU_OPTS. No spaces inside one.
    pub options: Vec<String>,
    /// How long the script may take until QEMU runs: it may have to make disk images first. It does not follow the speed of
    /// guests, of which the script says nothing.
    pub limit: Duration,
    /// Who is told.
    pub events: Events,
}

impl<'a> Launch<'a> {
    /// A machine on a fresh disk under TCG, with no options of its own and 10 minutes for its run script.
    pub fn new(vm: &'a BuiltVm, machine: &'a str, run_dir: &'a RunDirectory, events: Events) -> Self {
        Self {
            vm,
            machine,
            run_dir,
            disk: Disk::Fresh,
            disk_of: None,
            accelerator: Accelerator::Tcg,
            cpu: None,
            tried: false,
            channel: None,
            scenario: None,
            memory: None,
            cards: Cards::default(),
            kernel_params: Vec::new(),
            options: Vec::new(),
            limit: SCRIPT,
            events,
        }
    }
}

impl Qemu {
    /// Starts the machine and returns it with its console (the first serial port), once QEMU's control
    /// protocol answers. The guest runs by then; what it printed waits in the stream.
    ///
    /// Read the console at all times: QEMU waits when it is full.
    ///
    /// # Errors
    /// [`ErrorKind::Host`] when the script can't be started, [`ErrorKind::QemuGone`] when script or QEMU
    /// end at once (with their stderr and the likely cause), [`ErrorKind::Timeout`] when QEMU does not
    /// answer within the limit, [`ErrorKind::Usage`] when an option has a space or the VM's own options
    /// take the first serial port.
    pub async fn launch(mut launch: Launch<'_>) -> Result<(Self, UnixStream)> {
        let started = Instant::now();
        has_memory(launch.machine)?;
        let (console, line) = LineEnd::pair()?;
        let (control, control_theirs) = pair()?;
        let control = ours(control)?;
        let mut claim =
            launch.disk.claim(launch.disk_of.unwrap_or(launch.vm), launch.run_dir, &launch.events)?;
        if launch.tried {
            claim.set_aside(&launch.events).await;
        }
        let mut descriptors: Vec<OwnedFd> = vec![line.descriptor()?, control_theirs.into()];
        descriptors.extend(launch.channel.take());
        let made = match launch.memory.is_some() {
            true => Some(Made::by_script(launch.vm.script(), launch.run_dir)),
            false => None,
        };
        let made = made.transpose().map_err(|error| Error::io("write to the run directory", &error))?;
        let (options, memory) = launch.memory.take().map(Memory::into_options).unzip();
        launch.options.extend(options.into_iter().flatten());
        let (options, sockets) = std::mem::take(&mut launch.cards).into_options();
        launch.options.extend(options);
        let command = launch.command(&claim.image, &descriptors)?;
        descriptors.extend(memory);
        descriptors.extend(sockets);
        let supervised = supervise::start(command, descriptors, line, launch.run_dir)
            .await
            .map_err(|error| cannot_start(launch.vm.script(), &error))?;
        launch
            .events
            .send(Event::MachineStarted { machine: launch.machine.to_owned(), pid: supervised.pid() });
        let greeted = async {
            let limit = launch.limit;
            let qmp = wait_for_qmp(launch.machine, control, &supervised, started, limit).await?;
            first_serial_port_is_ours(supervised.pid())?;
            claim.started()?;
            Ok(qmp)
        };
        let qmp = match greeted.await {
            Ok(qmp) => qmp,
            Err(error) => {
                supervised.kill().await;
                claim.not_started();
                launch.events.send(not_begun(launch.machine));
                return Err(error);
            }
        };
        let Launch { accelerator, machine, events, .. } = &launch;
        let mut qemu = Self::new(supervised, qmp, *accelerator, Some(claim), machine, events);
        qemu.made = made.map(Arc::new);
        Ok((qemu, console))
    }

    /// A QEMU that answers.
    pub(super) fn new(
        supervised: Supervised,
        qmp: Qmp,
        accelerator: Accelerator,
        claim: Option<Claim>,
        machine: &str,
        events: &Events,
    ) -> Self {
        let (trouble, resets) = (Arc::default(), Arc::default());
        let guest = Guest::of(&supervised, accelerator, Arc::clone(&trouble), Arc::clone(&resets));
        guest.follow(supervised.exit(), &qmp, machine, events);
        let forwarding = tokio::sync::Mutex::default();
        let arguments = arguments(supervised.pid()).unwrap_or_default();
        let cpu = processor_in(arguments.iter().map(String::as_str));
        Self {
            supervised,
            qmp,
            accelerator,
            cpu,
            trouble,
            resets,
            made: None,
            forwarding,
            disk: Mutex::new(claim),
        }
    }
}

impl Launch<'_> {
    /// `descriptors` are the console, the control protocol and, if there is one, the channel.
    fn command(&self, image: &Path, descriptors: &[OwnedFd]) -> Result<Command> {
        let mut command = Command::new(self.vm.script());
        let tmp = self.run_dir.tmp();
        command.env(port_holder::LABEL, port_holder::label(self.machine, self.scenario.as_deref()));
        command.env("NIX_DISK_IMAGE", image).env("TMPDIR", &tmp).env("USE_TMPDIR", "1");
        // EFI variables and a TPM's state have a default in the working directory: beside the image,
        // if that is kept.
        let beside = match &self.disk {
            Disk::Fresh => None,
            Disk::Kept { .. } => image.parent().filter(|parent| parent.is_dir()),
        };
        command.current_dir(beside.unwrap_or(&tmp));
        // What the user gave relative to their own folder still means that.
        for name in ["SHARED_DIR", "NIX_EFI_VARS", "NIX_SWTPM_DIR"] {
            if let Some(path) = environment::path(name)
                && let Ok(path) = std::path::absolute(path)
            {
                command.env(name, path);
            }
        }
        let options = self.options(descriptors);
        if let Some(bad) = options.iter().find(|option| option.contains(char::is_whitespace)) {
            return Err(Error::new(
                ErrorKind::Usage,
                format!("the QEMU option {bad:?} has a space: the run script would split it there"),
            ));
        }
        let users = |variable| environment::text(variable).unwrap_or_default();
        command.env("QEMU_OPTS", joined(&users("QEMU_OPTS"), &options));
        let given = users("QEMU_KERNEL_PARAMS");
        let params = kernel_params(&given, &self.kernel_params);
        command.env("QEMU_KERNEL_PARAMS", joined(&given, &params));
        tracing::debug!(script = %self.vm.script().display(), ?options, ?params, "launching");
        Ok(command)
    }

    /// Options that win over the script's own: later ones are merged over earlier ones (measured with
    /// QEMU 7.2 and 10.0: `-enable-kvm -cpu host … -machine accel=tcg -cpu max` runs under TCG).
    fn options(&self, descriptors: &[OwnedFd]) -> Vec<String> {
        let socket = |id: &str, descriptor: &OwnedFd| format!("socket,id={id},fd={}", descriptor.as_raw_fd());
        let mut options = vec!["-machine".to_owned(), format!("accel={}", self.accelerator)];
        if self.accelerator == Accelerator::Tcg {
            // `host`, which the script may have, needs KVM.
            options.extend(["-cpu", "max"].map(str::to_owned));
        } else if let Some(cpu) = self.cpu {
            options.extend(["-cpu", cpu].map(str::to_owned));
        }
        options.extend(self.options.iter().cloned());
        let [console, control, channel @ ..] = descriptors else { return options };
        options.extend(
            [
                "-display",
                "none",
                "-chardev",
                &socket(CONSOLE, console),
                "-serial",
                &format!("chardev:{CONSOLE}"),
                "-chardev",
                &socket(CONTROL, control),
                // Also keeps `-nographic` from putting a monitor on stdio.
                "-mon",
                &format!("chardev={CONTROL},mode=control"),
            ]
            .map(str::to_owned),
        );
        if let [channel] = channel {
            // A port costs the guest time while it boots (0.3 s under TCG), so there is one.
            options.extend(
                [
                    "-device",
                    "virtio-serial-pci,id=nixvm-serial",
                    "-chardev",
                    &socket(CHANNEL, channel),
                    "-device",
                    &format!("virtserialport,id={CHANNEL},bus=nixvm-serial.0,chardev={CHANNEL},name={PORT}"),
                ]
                .map(str::to_owned),
            );
        }
        options
    }
}

/// Checks that a limit leaves this process the memory that it takes for the machine.
pub(super) fn has_memory(machine: &str) -> Result {
    match host_limits::lacks_memory(host_limits::FOR_A_MACHINE) {
        Some(limit) => Err(Error::limited(format_args!("start {machine}"), limit)),
        None => Ok(()),
    }
}

/// Returns the ids of the character devices and network backends of a machine that starts from a state, each with its
/// descriptor. `lines` are the console, the control protocol and the channel.
pub(super) fn sockets_of(lines: &[OwnedFd], cards: &[OwnedFd]) -> Vec<(String, i32)> {
    let named = [CONSOLE, CONTROL, CHANNEL].into_iter().zip(lines);
    let lines = named.map(|(id, line)| (id.to_owned(), line.as_raw_fd()));
    lines.chain(backends(cards)).collect()
}

/// Two ends of a line.
pub(super) fn pair() -> Result<(StdStream, StdStream)> {
    StdStream::pair().map_err(|error| Error::io("make a socket pair", &error))
}

/// Our end of it.
pub(super) fn ours(stream: StdStream) -> Result<UnixStream> {
    stream
        .set_nonblocking(true)
        .and_then(|()| UnixStream::from_std(stream))
        .map_err(|error| Error::io("use a socket", &error))
}

/// Waits until QEMU's control protocol answers, `limit` at most. What ended before is reported with its words.
pub(super) async fn wait_for_qmp(
    machine: &str,
    control: UnixStream,
    supervised: &Supervised,
    started: Instant,
    limit: Duration,
) -> Result<Qmp> {
    let error = match Qmp::connect(control, limit).await {
        Ok(qmp) => {
            supervised.qemu_runs();
            return Ok(qmp);
        }
        Err(error) => error,
    };
    // It closed: the script ended, or is about to, and its last words say more.
    if error.kind() == ErrorKind::QemuGone {
        let mut exit = supervised.exit();
        let exit = crate::stopped::timeout(QMP_LIMIT, exit.wait_for(Option::is_some)).await;
        if let Ok(Ok(exit)) = exit
            && let Some(exit) = &*exit
        {
            return Err(exit.error(format_args!("{machine}: the run script ended before QEMU ran")));
        }
    }
    let said = supervised.said();
    let error = if error.kind() == ErrorKind::Timeout {
        let seconds = limit.as_secs_f64();
        let expected = format!("{machine}: expected QEMU's control protocol to answer within {seconds:.0} s");
        Error::new(ErrorKind::Timeout, format!("{expected} of the run script's start, and it did not"))
            .took(started.elapsed(), limit)
            .next_step("run the script by hand, to see what it does: ./result/bin/run-*-vm -nographic")
    } else {
        error
    };
    let error = error
        .section("what the run script printed last", said.script())
        .section(super::exit::STDERR, said.qemu());
    let telling = said.telling();
    let error = match likely_cause(&telling) {
        Some(cause) => error.likely_cause(cause.means).next_step(cause.next),
        None => error,
    };
    Err(error.because_of_words(&telling))
}

/// The end of a machine whose guest has not begun.
pub(super) fn not_begun(machine: &str) -> Event {
    Event::MachineStopped { machine: machine.to_owned(), how: "ended before its guest began".to_owned() }
}

/// The user's own words first, then ours, which win.
fn joined(users: &str, ours: &[String]) -> String {
    let words = users.split_whitespace().chain(ours.iter().map(String::as_str));
    words.collect::<Vec<_>>().join(" ")
}

/// The caller's parameters, and the console unless the last `console=` is the serial port already:
/// the last one becomes /dev/console, and a VM with graphics has `console=tty0` last.
fn kernel_params(users: &str, callers: &[String]) -> Vec<String> {
    let mut params = callers.to_vec();
    let last = users
        .split_whitespace()
        .chain(params.iter().flat_map(|param| param.split_whitespace()))
        .filter_map(|param| param.strip_prefix("console="))
        .next_back();
    let serial = last.is_some_and(|console| console == "ttyS0" || console.starts_with("ttyS0,"));
    if !serial {
        // The speed as NixOS has it. At the default of 9,600 QEMU holds typed input back for 4 ms.
        params.push("console=ttyS0,115200n8".to_owned());
    }
    params
}

fn cannot_start(script: &Path, source: &std::io::Error) -> Error {
    use std::io::ErrorKind as Io;
    let error = Error::host(format_args!("run {}", script.display()), source);
    match source.kind() {
        Io::NotFound if script.exists() => error
            .likely_cause("the interpreter in its first line is missing")
            .next_step("build the VM again; its parts may have been removed from the Nix store"),
        Io::NotFound => error
            .likely_cause("the VM was removed from the Nix store since it was built")
            .next_step("build it again"),
        Io::PermissionDenied => error.likely_cause("it is not executable"),
        _ if source.raw_os_error() == Some(rustix::io::Errno::NOEXEC.raw_os_error()) => {
            error.likely_cause("it is not a script: its first line does not begin with #!")
        }
        _ => error,
    }
}

/// Serial ports get their numbers in the order of their options; one of the VM's own would be ttyS0.
fn first_serial_port_is_ours(pid: u32) -> Result {
    // Unreadable when QEMU has just ended: its next user will see that.
    let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut words = command.split(|byte| *byte == 0);
    let first = words.find(|word| *word == b"-serial" || *word == b"--serial").and_then(|_| words.next());
    match first {
        Some(first) if first != format!("chardev:{CONSOLE}").as_bytes() => Err(Error::new(
            ErrorKind::Usage,
            format!(
                "the VM's own options take the first serial port: -serial {}",
                super::output::neutralise(first)
            ),
        )
        .likely_cause("virtualisation.qemu.options or QEMU_OPTS has -serial; the console is needed here")
        .next_step("remove that option")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_user_has_in_a_variable_comes_first_and_stays() {
        let ours = ["-display".to_owned(), "none".to_owned()];
        assert_eq!(joined("-m 2048\n -vga std ", &ours), "-m 2048 -vga std -display none");
        assert_eq!(joined("", &ours), "-display none");
    }

    #[test]
    fn the_serial_port_is_the_last_console() {
        let none: [String; 0] = [];
        assert_eq!(kernel_params("", &none), ["console=ttyS0,115200n8"]);
        assert_eq!(kernel_params("console=ttyS0", &none), none);
        assert_eq!(kernel_params("console=ttyS0,115200 quiet", &["x=1".to_owned()]), ["x=1"]);
        assert_eq!(kernel_params("console=ttyS0 console=tty0", &none), ["console=ttyS0,115200n8"]);
        assert_eq!(kernel_params("console=ttyS01", &none), ["console=ttyS0,115200n8"]);
    }
}
