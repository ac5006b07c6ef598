//! A QEMU that does not exist, for machines whose answers come from a record.

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::sync::watch;

use super::supervise::Supervised;
use super::{Accelerator, Exit, QMP_LIMIT, Qemu, Qmp};
use crate::{Error, Events, Result};

/// QEMU's greeting (qmp-spec.txt, 2.2).
const GREETING: &[u8] = b"{\"QMP\": {\"version\": {}, \"capabilities\": []}}\r\n";

impl Qemu {
    /// Returns a QEMU without a process. Its console is silent, and it refuses every command of its control
    /// protocol. It ends when it is told to.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Io`] when no descriptor is left.
    pub(crate) async fn absent(machine: &str, events: &Events) -> Result<(Self, UnixStream)> {
        let pair = || UnixStream::pair().map_err(|error| Error::io("make a socket pair", &error));
        let ((console, silent), (control, refusing)) = (pair()?, pair()?);
        let supervised = Supervised::absent();
        tokio::spawn(until_the_end(supervised.exit(), swallow(silent)));
        tokio::spawn(until_the_end(supervised.exit(), refuse(refusing)));
        let qmp = Qmp::connect(control, QMP_LIMIT).await?;
        Ok((Self::new(supervised, qmp, Accelerator::Tcg, None, machine, events), console))
    }

    /// Ends an absent QEMU, as after a power-off or as if it was killed.
    pub(crate) fn set_ended(&self, in_good_order: bool) {
        self.supervised.set_ended(in_good_order);
    }
}

async fn until_the_end(mut exit: watch::Receiver<Option<Exit>>, work: impl Future<Output = ()>) {
    tokio::select! {
        () = work => {}
        _ = exit.wait_for(Option::is_some) => {}
    }
}

/// Reads what is typed, and discards it.
async fn swallow(mut line: UnixStream) {
    let mut typed = [0; 4096];
    while line.read(&mut typed).await.is_ok_and(|count| count > 0) {}
    // The line stays open even if nothing is typed.
    std::future::pending().await
}

/// Answers the part of the control protocol that is needed for a connection, and refuses the rest.
async fn refuse(line: UnixStream) {
    let (reader, mut writer) = line.into_split();
    let mut requests = BufReader::new(reader).lines();
    let mut answer = GREETING.to_vec();
    while writer.write_all(&answer).await.is_ok() {
        let Ok(Some(request)) = requests.next_line().await else { return };
        let request: serde_json::Value = serde_json::from_str(&request).unwrap_or_default();
        let mut reply = match request["execute"].as_str() {
            Some("qmp_capabilities") => serde_json::json!({ "return": {} }),
            _ => serde_json::json!({ "error": {
                "class": "GenericError",
                "desc": "there is no QEMU: a record answers for this machine",
            }}),
        };
        reply["id"] = request["id"].clone();
        answer = format!("{reply}\r\n").into_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_that_is_absent_refuses_and_ends_when_it_is_told_to() {
        let (qemu, mut console) = Qemu::absent("m", &Events::none()).await.unwrap();
        let refused = qemu.qmp().execute("query-status", None, crate::hang::HANG).await.unwrap_err();
        assert!(refused.summary().contains("there is no QEMU"), "{refused}");
        assert!(qemu.exit().borrow().is_none());
        qemu.set_ended(true);
        assert!(qemu.exit().borrow().as_ref().is_some_and(|exit| exit.status.success()));
        assert_eq!(console.read(&mut [0; 8]).await.unwrap(), 0);
        qemu.kill().await;
        assert!(qemu.exit().borrow().as_ref().is_some_and(|exit| exit.status.success()));
    }

    #[tokio::test]
    async fn one_that_is_absent_and_killed_was_killed() {
        let (qemu, _console) = Qemu::absent("m", &Events::none()).await.unwrap();
        qemu.kill().await;
        assert!(qemu.exit().borrow().as_ref().is_some_and(|exit| !exit.status.success()));
    }
}
