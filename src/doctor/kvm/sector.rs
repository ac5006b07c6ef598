//! Guests of a few bytes, which show whether a processor runs anything, and how fast a console is.

use std::io::Write as _;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout};

use super::words::ended;
use crate::environment;
use crate::qemu::accelerator::processors;
use crate::qemu::line_about_kvm;

/// The processor in NixOS's run scripts, which is tried first.
pub(in crate::doctor) const FIRST_CPU: &str = "max";
/// The limit for all processors together. The guest ends within milliseconds. On some nested hosts its
/// firmware takes 11 s, and it hangs if KVM runs nothing.
pub(in crate::doctor) const LIMIT: Duration = Duration::from_secs(30);
/// A guest that tells isa-debug-exit (docs/specs in QEMU's sources; port 0xf4) that it runs: `mov dx, 0xf4;
/// mov al, 0x10; out dx, al; hlt; jmp -3`.
const ENDS: [u8; 9] = [0xba, 0xf4, 0x00, 0xb0, 0x10, 0xee, 0xf4, 0xeb, 0xfd];
/// QEMU's exit status then: twice the number, plus 1.
const RAN: i32 = 0x10 * 2 + 1;
/// A guest that writes to the first serial port without end: `mov dx, 0x3f8; mov al, '.'; out dx, al; jmp
/// -3`.
const TALKS: [u8; 8] = [0xba, 0xf8, 0x03, 0xb0, b'.', 0xee, 0xeb, 0xfd];
/// How long its output is measured.
const LISTENED: Duration = Duration::from_secs(1);

/// With less time left than this, no further try begins.
pub(in crate::doctor) const LEAST: Duration = Duration::from_secs(2);

/// The processor with which the guest runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::doctor) enum Runs {
    /// With this one.
    With(&'static str),
    /// With none that was tried. Holds why the first one failed, if there was time to try it.
    No(Option<String>),
    /// There is no such QEMU.
    NoQemu,
}

/// A processor, and the outcome of the guest with it; `None` if there was no time to try it.
#[derive(Debug)]
pub(in crate::doctor) struct Try {
    pub(in crate::doctor) cpu: &'static str,
    pub(in crate::doctor) begun: Instant,
    pub(in crate::doctor) ran: Option<Ran>,
}

/// Runs the smallest guest under KVM, with fewer and fewer processor features until it runs. Calls `each` for
/// each try.
pub(in crate::doctor) async fn with_less_and_less(
    program: &Path,
    end: Instant,
    mut each: impl FnMut(&Try),
) -> Runs {
    let mut first = None;
    for cpu in [FIRST_CPU].into_iter().chain(processors()) {
        let begun = Instant::now();
        let left = end.saturating_duration_since(begun);
        let ran = if left < LEAST { None } else { Some(run(program, "kvm", cpu, left).await) };
        let tried = Try { cpu, begun, ran };
        each(&tried);
        match tried.ran {
            Some(Ran::Yes) => return Runs::With(cpu),
            Some(Ran::No(why)) => drop(first.get_or_insert(why)),
            Some(Ran::NoQemu) => return Runs::NoQemu,
            None => break,
        }
    }
    Runs::No(first)
}

/// The outcome of a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::doctor) enum Ran {
    /// It runs.
    Yes,
    /// It does not run, for this reason from QEMU.
    No(String),
    /// There is no such QEMU.
    NoQemu,
}

/// Runs the smallest guest with this QEMU and processor.
async fn run(program: &Path, accelerator: &str, cpu: &str, limit: Duration) -> Ran {
    let Ok(disk) = disk(&ENDS) else {
        return Ran::No("no temporary file can be made for its disk".to_owned());
    };
    let mut command = command(program, accelerator, cpu, disk.path());
    command.args(["-device", "isa-debug-exit,iobase=0xf4,iosize=4"]).stdout(Stdio::null());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ran::NoQemu,
        Err(error) => return Ran::No(error.to_string()),
    };
    let mut said = String::new();
    match timeout(limit, last_words(&mut child, &mut said)).await {
        Ok(Some(status)) if status.code() == Some(RAN) => Ran::Yes,
        Ok(status) => Ran::No(ended(status, &said)),
        Err(_) => Ran::No(format!("it has not run after {:.0} s", limit.as_secs_f64())),
    }
}

/// Reads QEMU's messages until it ends, or until KVM has stopped the guest, because QEMU does not end then.
async fn last_words(child: &mut Child, said: &mut String) -> Option<ExitStatus> {
    if let Some(stderr) = child.stderr.take() {
        let mut lines = BufReader::new(stderr.take(1 << 20)).split(b'\n');
        while let Ok(Some(line)) = lines.next_segment().await {
            let line = String::from_utf8_lossy(&line).into_owned();
            said.push_str(&line);
            said.push('\n');
            if line_about_kvm(&line).is_some() {
                // QEMU may abort right after the message, which tells more.
                let _ = timeout(Duration::from_millis(300), child.wait()).await;
                return child.try_wait().ok().flatten();
            }
        }
    }
    child.wait().await.ok()
}

/// Measures how many bytes a second a guest can write to its first serial port.
///
/// # Errors
/// Why it writes nothing.
pub(super) async fn rate(
    program: &Path,
    accelerator: &str,
    cpu: &str,
    limit: Duration,
) -> Result<f64, String> {
    let disk = disk(&TALKS).map_err(|error| error.to_string())?;
    let mut command = command(program, accelerator, cpu, disk.path());
    let mut child = command
        .args(["-serial", "stdio"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| error.to_string())?;
    let Some(mut console) = child.stdout.take() else { return Err("it has no console".to_owned()) };
    let mut buffer = [0; 16 << 10];
    let first = timeout(limit, console.read(&mut buffer)).await;
    if !matches!(first, Ok(Ok(1..))) {
        return Err(format!("nothing came within {:.0} s", limit.as_secs_f64()));
    }
    let (begun, mut bytes) = (Instant::now(), 0);
    while let Ok(Ok(read @ 1..)) =
        timeout(LISTENED.saturating_sub(begun.elapsed()), console.read(&mut buffer)).await
    {
        bytes += read;
    }
    let _ = child.kill().await;
    Ok(bytes as f64 / begun.elapsed().as_secs_f64())
}

fn command(program: &Path, accelerator: &str, cpu: &str, disk: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .args(["-accel", accelerator, "-cpu", cpu, "-m", "16", "-nodefaults", "-no-user-config"])
        .args(["-display", "none", "-no-reboot", "-drive"])
        .arg(format!("file={},format=raw,if=ide", disk.display()))
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

fn disk(code: &[u8]) -> std::io::Result<tempfile::NamedTempFile> {
    let mut disk = tempfile::NamedTempFile::new_in(environment::temporary_folder())?;
    let mut sector = [0; 512];
    sector[..code.len()].copy_from_slice(code);
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    disk.write_all(&sector)?;
    Ok(disk)
}
