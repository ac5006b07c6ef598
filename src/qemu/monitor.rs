//! QEMU's human monitor (HMP), reached through the control protocol. A few functions, such as port forwards,
//! exist only there.

use serde_json::json;

use super::output::neutralise;
use super::{QMP_LIMIT, Qemu};
use crate::{Error, ErrorKind, Result};

impl Qemu {
    /// Runs a command of QEMU's monitor, such as `info network`, and returns its output, with lines that end
    /// in `\n`.
    ///
    /// # Errors
    /// [`ErrorKind::Qmp`] with the monitor's message when it does not know the command or prints `Error:`;
    /// those of `Qmp::execute`. Other complaints of a command are returned as text, because the monitor has
    /// no status.
    pub async fn monitor(&self, command: &str) -> Result<String> {
        let arguments = json!({ "command-line": command });
        let answer = self.qmp().execute("human-monitor-command", Some(arguments), QMP_LIMIT).await?;
        let text = answer.as_str().unwrap_or_default().replace("\r\n", "\n");
        let complaint = text
            .lines()
            .find(|line| line.starts_with("Error: ") || line.starts_with("unknown command: "))
            .map(|line| neutralise(line.as_bytes()));
        match complaint {
            None => Ok(text),
            Some(complaint) => {
                let command = neutralise(command.as_bytes());
                Err(Error::new(ErrorKind::Qmp, format!("QEMU's monitor refused `{command}`: {complaint}")))
            }
        }
    }
}
