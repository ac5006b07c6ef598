//! QEMU's own interfaces, for everything without a method here.

use std::time::Duration;

use nixvm_test_macros::tracked;
use serde_json::Value;

use crate::Result;
use crate::machine::Machine;
use crate::qemu::QmpEvent;

/// How long QEMU may take to answer.
const ANSWER: Duration = Duration::from_secs(60);

/// # QEMU monitor
impl Machine {
    /// Runs a command of QEMU's monitor, such as `info network`, and returns its output.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Qmp`] when the monitor does not know the command or prints `Error:`. The monitor has no
    /// status: other errors are returned as text.
    #[tracked]
    pub async fn send_monitor_command(&self, command: impl AsRef<str>) -> Result<String> {
        let command = command.as_ref();
        let life = self.life();
        let _step = life.step(format!("monitor: {command}"));
        life.answer_of_qemu(&format!("monitor: {command}"), life.qemu.monitor(command)).await
    }

    /// Runs a command of QEMU's control protocol and returns its answer. The limit is a minute.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Qmp`] with QEMU's words when it refuses, [`crate::ErrorKind::Timeout`],
    /// [`crate::ErrorKind::QemuGone`].
    ///
    /// ```no_run
    /// # async fn example(machine: nixvm_test::machine::Machine) -> nixvm_test::Result {
    /// use serde_json::json;
    /// machine.qmp("stop", None).await?;
    /// machine.wait_for_qmp_event("STOP", std::time::Duration::from_secs(5)).await?;
    /// machine.qmp("set_link", Some(json!({ "name": "virtio-net-pci.0", "up": false }))).await?;
    /// # Ok(()) }
    /// ```
    #[tracked]
    pub async fn qmp(&self, command: impl AsRef<str>, arguments: Option<Value>) -> Result<Value> {
        let command = command.as_ref();
        let life = self.life();
        let _step = life.step(format!("qmp: {command}"));
        let question = format!("qmp: {command} {}", arguments.as_ref().unwrap_or(&Value::Null));
        life.answer_of_qemu(&question, life.qemu.qmp().execute(command, arguments, ANSWER)).await
    }

    /// Waits for an event of QEMU's control protocol by its name, such as `RESET` or `DEVICE_DELETED`.
    ///
    /// Events since the one that the previous such wait found (at first: since QEMU's start) count, so an earlier event
    /// is not missed. `limit` is for a fast host and is scaled by [`crate::Speed`].
    ///
    /// # Errors
    /// [`crate::ErrorKind::Timeout`] after `limit`, with the events that came instead,
    /// [`crate::ErrorKind::QemuGone`] at once when QEMU ends.
    #[tracked]
    pub async fn wait_for_qmp_event(&self, name: &str, limit: Duration) -> Result<QmpEvent> {
        self.wait_for_qmp_event_where(name, |_| true, limit).await
    }

    /// Like [`Machine::wait_for_qmp_event`], for an event whose data `wanted` accepts. Other events of that name are
    /// skipped.
    ///
    /// # Errors
    /// Those of [`Machine::wait_for_qmp_event`].
    #[tracked]
    pub async fn wait_for_qmp_event_where(
        &self,
        name: &str,
        mut wanted: impl FnMut(&Value) -> bool,
        limit: Duration,
    ) -> Result<QmpEvent> {
        let life = self.life();
        let _step = life.step(format!("wait for QEMU's event {name}"));
        let fits = |event: &QmpEvent| event.name == name && wanted(&event.data);
        let waiting = life.qemu.qmp().wait_for_event(name, fits, life.limit(limit));
        life.answer(&format!("wait for QEMU's event {name}"), waiting).await
    }
}
