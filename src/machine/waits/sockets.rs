//! Waits for Unix sockets: the helper in the guest connects to them.
//!
//! /proc/net/unix is not used: it has the path that a server bound. That path may be relative, in another mount
//! namespace, through a symbolic link, or removed since.

use std::time::Duration;

use crate::stopped::Instant;

use crate::channel::{Channel, Progress};
use crate::machine::User;
use crate::machine::commands::user::COMMAND;
use crate::{Error, ErrorKind, Result};

/// The polling interval.
const LOOK_AGAIN: Duration = Duration::from_millis(40);

/// The kernel's maximum length of a path (path_resolution(7)).
const LONGEST_PATH: usize = 4095;

/// # Ports, sockets and files
impl User {
    pub(crate) async fn wait_for_listener(&self, path: &str) -> Result {
        if path.is_empty() || path.len() > LONGEST_PATH || path.contains('\0') {
            return Err(Error::new(ErrorKind::Usage, format!("{path:?} is not the path of a socket")));
        }
        let life = self.life();
        let _step = life.step(format!("{}: wait for socket {path}", self.name));
        let question = format!("{}: wait until something listens on {path}", self.name);
        life.answer(&question, self.wait_until_listening(path)).await
    }

    async fn wait_until_listening(&self, path: &str) -> Result {
        let life = self.life();
        let limit = life.limit(self.limit.unwrap_or(COMMAND));
        let started = Instant::now();
        let in_vain = || {
            let summary = format!("{}: timed out waiting until something listens on {path}", life.name);
            Error::new(ErrorKind::Timeout, summary).took(started.elapsed(), limit)
        };
        let Ok(channel) = life.held_to(limit, life.channel(&self.name)).await else {
            return Err(life.in_vain(in_vain()).await);
        };
        let channel = channel?;
        if !channel.is_whole() {
            let summary = format!(
                "{}: can't check whether a program listens on {path}: only a shell serves the control channel, and \
                 a shell can't connect to a Unix socket",
                life.name
            );
            return Err(Error::new(ErrorKind::Usage, summary)
                .likely_cause("NIXVM_CHANNEL=shell is set, or the helper can't run in this machine")
                .next_step(
                    "wait for an effect of the service, or use `wait_until_succeeds` with a \
                    program that connects",
                ));
        }
        let mut why = String::new();
        let looking = async {
            while let Some(reason) = in_the_way(&channel, path).await? {
                why = reason;
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            Ok(())
        };
        if let Ok(outcome) = crate::stopped::timeout(limit, looking).await {
            return outcome;
        }
        let error = in_vain();
        Err(match why.as_str() {
            "" => life.in_vain(error.likely_cause("the machine does not answer")).await,
            why => error.likely_cause(why),
        })
    }
}

/// Returns why a connection to a socket fails, or `None` if it succeeds.
async fn in_the_way(channel: &Channel, path: &str) -> Result<Option<String>> {
    let mut asked = channel.ask(format!("connect {path}").as_bytes()).await?;
    let mut why = Vec::new();
    loop {
        match asked.next().await? {
            Progress::Stdout(bytes) | Progress::Stderr(bytes) => why.extend(bytes),
            Progress::Exit(0) => return Ok(None),
            Progress::Exit(_) => return Ok(Some(String::from_utf8_lossy(&why).into_owned())),
        }
    }
}
