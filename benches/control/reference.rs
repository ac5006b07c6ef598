//! The NixOS test driver's way to run a command, as it goes over the wire.
//!
//! In the guest a bash reads commands from a virtio console. A command is written as
//! `bash -c 'set -euo pipefail; TEXT' | (base64 -w 0; echo)`, its output comes back as one line, and its status is
//! asked for in a second round. The driver itself is Python; the time that this takes it is not counted here.

use std::path::Path;
use std::time::Duration;

use nixvm_test::machine::Machine;
use nixvm_test::{Error, ErrorKind, Result};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

/// For the guest to say anything.
const LIMIT: Duration = Duration::from_secs(120);

/// What the guest runs: the driver's backdoor.
const BACKDOOR: &str = "systemd-run --quiet --collect --unit=backdoor bash -c 'export USER=root HOME=/root DISPLAY=:0.0 PAGER=; \
    [ ! -e /etc/profile ] || . /etc/profile; cd /tmp; exec </dev/hvc0 >/dev/hvc0 2>/dev/null; stty -F /dev/hvc0 raw -echo; \
    echo ready; PS1= exec env bash --norc /dev/hvc0'";

/// The options of QEMU for the console at which the guest's bash sits.
pub fn options(socket: &Path) -> String {
    format!(
        "-device virtio-serial -device virtconsole,chardev=reference -chardev socket,id=reference,path={}",
        socket.display()
    )
}

/// The host's end.
pub struct Reference {
    line: BufReader<UnixStream>,
}

impl Reference {
    /// Starts the guest's end; QEMU has connected to the socket, or will.
    pub async fn start(machine: &Machine, listener: &UnixListener) -> Result<Self> {
        let (stream, _) = within(listener.accept()).await?;
        let mut reference = Self { line: BufReader::new(stream) };
        machine.succeed(BACKDOOR).await?;
        while reference.line().await? != "ready" {}
        Ok(reference)
    }

    /// As `succeed` of the driver: the status of a command, after its output.
    pub async fn status(&mut self, command: &str) -> Result<i32> {
        let command = format!("set -euo pipefail; {command}").replace('\'', r#"'"'"'"#);
        self.send(&format!(" bash -c '{command}' | (base64 -w 0; echo)\n")).await?;
        self.line().await?;
        self.send("echo ${PIPESTATUS[0]}\n").await?;
        let status = self.line().await?;
        status.parse().map_err(|_| Error::new(ErrorKind::Other, format!("{status:?} is no status")))
    }

    async fn send(&mut self, text: &str) -> Result {
        within(self.line.get_mut().write_all(text.as_bytes())).await
    }

    async fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if within(self.line.read_line(&mut line)).await? == 0 {
            return Err(Error::new(ErrorKind::Other, "the console was closed"));
        }
        Ok(line.trim_end().to_owned())
    }
}

async fn within<T>(future: impl Future<Output = std::io::Result<T>>) -> Result<T> {
    let late = |_| Error::new(ErrorKind::Timeout, "the console with the reference says nothing");
    tokio::time::timeout(LIMIT, future)
        .await
        .map_err(late)?
        .map_err(|error| Error::new(ErrorKind::Other, format!("the console with the reference: {error}")))
}
