//! Runs steps on the machine.

use std::collections::HashMap;
use std::fmt::Write as _;

use crate::machine::{Machine, Output, Snapshot};
use crate::{Error, ErrorKind, Result};

use super::step::{How, Step};

/// The machine, and its snapshots.
pub struct Live {
    machine: Machine,
    snapshots: HashMap<String, Snapshot>,
}

impl Live {
    /// Creates it without snapshots.
    pub fn new(machine: Machine) -> Self {
        Self { machine, snapshots: HashMap::new() }
    }

    /// Runs `step` and returns its output.
    pub async fn perform(&mut self, step: &Step) -> Result<String> {
        let machine = &self.machine;
        match step {
            Step::Run { user, how, command } => {
                let user = machine.as_user(user.as_deref().unwrap_or("root"));
                let output = match how {
                    How::Succeed => user.succeed(command.as_str()).await,
                    How::Fail => user.fail(command.as_str()).await,
                    How::Execute => user.execute(command).await,
                    How::WaitUntilSucceeds => user.wait_until_succeeds(command).await,
                    How::WaitUntilFails => user.wait_until_fails(command).await,
                };
                return output.map(|output| shown(&output));
            }
            Step::Session(command) => {
                let session = machine.session().await.ok_or_else(|| {
                    Error::new(ErrorKind::SessionEnded, "no user is logged in on the console")
                        .next_step("log in: login USER PASSWORD")
                })?;
                return session.succeed(command).await.map(|output| shown(&output));
            }
            Step::Login { user, password } => machine.login(user, password).await.map(drop)?,
            Step::WaitForUnit(unit) => machine.wait_for_unit(unit).await?,
            Step::WaitForPort(port) => machine.wait_for_open_port(*port).await?,
            Step::WaitForFile(path) => machine.wait_for_file(path).await?,
            Step::Snapshot(name) => {
                let snapshot = machine.snapshot().await?;
                self.snapshots.insert(name.clone(), snapshot);
            }
            Step::Restore(name) => {
                let snapshot = self.snapshots.get(name).ok_or_else(|| {
                    let known: Vec<&str> = self.snapshots.keys().map(String::as_str).collect();
                    Error::new(ErrorKind::Usage, format!("there is no snapshot {name}"))
                        .section("there are", known.join("\n"))
                })?;
                machine.restore(snapshot).await?;
            }
            Step::Screenshot(file) => machine.screenshot(file).await?,
            Step::Reboot => machine.reboot().await?,
        }
        Ok(String::new())
    }
}

fn shown(output: &Output) -> String {
    let mut shown = output.text().to_owned();
    if !output.stderr().is_empty() {
        if !shown.is_empty() && !shown.ends_with('\n') {
            shown.push('\n');
        }
        shown += &String::from_utf8_lossy(output.stderr());
    }
    if output.status() != 0 {
        let end = if shown.is_empty() || shown.ends_with('\n') { "" } else { "\n" };
        let _ = write!(shown, "{end}(status {})", output.status());
    }
    shown
}
