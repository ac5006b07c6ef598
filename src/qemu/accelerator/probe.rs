//! Tries KVM with the VM's own script and kernel, in a run directory that is thrown away.
//!
//! Proof is a line of the kernel: on the hosts this is for, creating a VM works and the firmware runs.

use std::sync::LazyLock;
use std::time::Duration;

use regex::bytes::Regex;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

use super::Accelerator;
use crate::build::BuiltVm;
use crate::qemu::{Launch, Qemu, RunDirectory};
use crate::{ErrorKind, Events, Result};

/// How long the script may take until QEMU runs: it may make disk images first.
const SCRIPT_LIMIT: Duration = Duration::from_secs(60);
/// How long the kernel may take to its first line. With a working KVM it takes less than 2 s.
const KERNEL_LIMIT: Duration = Duration::from_secs(10);
/// QEMU aborts within 0.2 s where it can't use KVM, sometimes after its control protocol has greeted.
const LAST_WORDS_LIMIT: Duration = Duration::from_secs(2);

/// What a trial has shown.
#[derive(Debug)]
pub(super) struct Finding {
    pub(super) accelerator: Accelerator,
    pub(super) reason: String,
    /// False when something else than KVM may have been the matter: then it is not remembered.
    pub(super) conclusive: bool,
}

impl Finding {
    fn tcg(reason: impl Into<String>, conclusive: bool) -> Self {
        Self { accelerator: Accelerator::Tcg, reason: reason.into(), conclusive }
    }
}

/// Boots `vm` under KVM until its kernel speaks.
pub(super) async fn probe(vm: &BuiltVm) -> Result<Finding> {
    let run = RunDirectory::create()?;
    let mut launch = Launch::new(vm, "trial", &run, Events::none());
    launch.accelerator = Accelerator::Kvm;
    launch.limit = SCRIPT_LIMIT;
    // A console from the first instructions on, and everything on it: NixOS boots with loglevel=4,
    // which would leave out even the kernel's first line.
    launch.kernel_params = ["earlyprintk=ttyS0,115200", "ignore_loglevel"].map(str::to_owned).to_vec();
    launch.options = vec!["-no-reboot".to_owned()];
    let (qemu, console) = match Qemu::launch(launch).await {
        Ok(launched) => launched,
        Err(error) => {
            let text = error.to_string();
            let words = telling_line(error.sections().map(|(_, body)| body).next().unwrap_or(&text));
            let aborted = error.summary().contains("SIGABRT");
            let conclusive = error.kind() == ErrorKind::QemuGone && (aborted || about_kvm(&text));
            return Ok(Finding::tcg(format!("QEMU failed with /dev/kvm: {words}"), conclusive));
        }
    };
    let finding = match kernel_speaks(console).await {
        Heard::Kernel => Finding {
            accelerator: Accelerator::Kvm,
            reason: "the VM's kernel starts with it".to_owned(),
            conclusive: true,
        },
        Heard::Nothing => Finding::tcg(
            format!(
                "/dev/kvm opens, but the VM's kernel said nothing within {} s of starting with it",
                KERNEL_LIMIT.as_secs()
            ),
            true,
        ),
        Heard::End => ended(&qemu).await,
    };
    qemu.kill().await;
    Ok(finding)
}

/// QEMU closed its console before the kernel spoke.
async fn ended(qemu: &Qemu) -> Finding {
    let mut exit = qemu.exit();
    let exit = tokio::time::timeout(LAST_WORDS_LIMIT, exit.wait_for(Option::is_some)).await;
    let Ok(Ok(Some(exit))) = exit.map(|exit| exit.map(|exit| exit.clone())) else {
        return Finding::tcg("/dev/kvm opens, but QEMU closed the console with it", false);
    };
    // Status 0 is a guest that reset itself (-no-reboot); any other is a complaint about something.
    let conclusive = exit.status.code().is_none_or(|code| code == 0) || about_kvm(&exit.stderr);
    let words = telling_line(&exit.stderr);
    Finding::tcg(format!("/dev/kvm opens, but QEMU ended with it: {}: {words}", exit.describe()), conclusive)
}

fn about_kvm(text: &str) -> bool {
    text.contains("kvm") || text.contains("KVM") || text.contains("MSR")
}

enum Heard {
    Kernel,
    Nothing,
    End,
}

async fn kernel_speaks(mut console: UnixStream) -> Heard {
    static RECORD: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"Linux version |\[ *[0-9]+\.[0-9]{6}\] ").ok());
    let reading = async {
        let mut seen = Vec::new();
        loop {
            match console.read_buf(&mut seen).await {
                Ok(0) | Err(_) => return Heard::End,
                Ok(_) => {}
            }
            if RECORD.as_ref().is_some_and(|record| record.is_match(&seen)) {
                return Heard::Kernel;
            }
            // The kernel's line is short; keep what it could have begun with.
            let excess = seen.len().saturating_sub(64);
            seen.drain(..excess);
        }
    };
    tokio::time::timeout(KERNEL_LIMIT, reading).await.unwrap_or(Heard::Nothing)
}

/// The line that says most, short enough for a note: the script may have talked before QEMU complained.
fn telling_line(text: &str) -> String {
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    let line = lines()
        .find(|line| about_kvm(line) || line.contains("error") || line.contains("No space left"))
        .or_else(|| lines().next_back())
        .unwrap_or("no word of it");
    line.chars().take(120).collect()
}
