//! Opens the control channel: from a user on the console who can become root to a [`Channel`].
//!
//! No service of ours runs in the guest beforehand: a script is passed to root's shell over the console. The script
//! opens the virtio-serial port and fetches the program that serves the channel (see [`crate::channel`]) over it, into
//! /run, which is in memory. Systemd then starts that program as a transient service, so that it does not belong to the
//! console's session or end with it.
//!
//! The channel is open as soon as the service says hello. The script on the console ends after the first command, and
//! this is not awaited: sudo takes longer to end than most commands run.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::pin::pin;
use std::time::Duration;

use tokio::net::UnixStream;

use super::{Life, Line, Root};
use crate::channel::{Channel, ChannelOptions, Handshake, Request, Shell, guest};
use crate::machine::commands::launch::{launch, launch_for};
use crate::machine::session::login::Credentials;
use crate::machine::session::shell_line::{Ended, Until};
use crate::mutex::lock;
use crate::{Error, ErrorKind, Result};

/// The limit for `sudo`, `systemd-run` and what they start, on a fast host.
pub(in crate::machine) const OPEN: Duration = Duration::from_secs(20);
/// The minimum on any host: sudo opens a session, for which PAM waits in real time.
const OPEN_AT_LEAST: Duration = Duration::from_secs(40);
/// The status of a refusal by sudo, doas and run0, and the shell's status for a missing program. The loader uses others.
const REFUSALS: [i32; 2] = [1, 127];

impl Life {
    /// Returns the channel on which commands run as `user`. Opens it if necessary.
    ///
    /// # Errors
    /// [`ErrorKind::NoRoot`] when no user on the console can become root, [`ErrorKind::ChannelLost`] and
    /// [`ErrorKind::Timeout`] when the started service does not answer.
    pub(in crate::machine) async fn channel(&self, user: &str) -> Result<Channel> {
        self.require_machine("what this asks of the guest")?;
        self.while_it_runs(self.opened_channel(user)).await
    }

    async fn opened_channel(&self, user: &str) -> Result<Channel> {
        let mut open = self.channels.open.lock().await;
        let root = match open.root.take().filter(|root| root.channel.lost().is_none()) {
            Some(root) => root,
            None => {
                open.users.clear();
                self.open_root().await?
            }
        };
        open.root = Some(root.clone());
        // The shell script that serves a channel can't nest channels: each of its commands changes to the user itself.
        if user == "root" || !root.channel.is_whole() {
            return Ok(root.channel);
        }
        if let Some(channel) = open.users.get(user).filter(|channel| channel.lost().is_none()) {
            return Ok(channel.clone());
        }
        let channel = self.open_user(&root, user).await?;
        open.users.insert(user.to_owned(), channel.clone());
        Ok(channel)
    }

    async fn open_root(&self) -> Result<Root> {
        let mut line = self.line.lock().await;
        if let Some(error) = lock(&self.channels.no_root).clone() {
            return Err(error.likely_cause(
                "an earlier attempt failed; the next one comes after the next login on the console",
            ));
        }
        match &*line {
            Line::Shell(_) => self.open_from_console(&mut line).await,
            Line::Lost(why) => Err(self.no_root(why)),
            // After a reboot the previous user is logged in again, only to open the channel.
            Line::AtLogin => {
                let Some(Credentials { user, password }) = self.channels.remembered() else {
                    return Err(self.no_root("no user has logged in yet"));
                };
                *line = Line::Lost("a login was interrupted".to_owned());
                let mut prompt_came = false;
                *line = match self.log_in(&user, password.reveal(), &mut prompt_came).await {
                    Ok(shell) => Line::Shell(shell),
                    Err(error) => {
                        let refused = error.kind() == ErrorKind::LoginRefused;
                        if refused && (prompt_came || self.back_at_login().await) {
                            *line = Line::AtLogin;
                        }
                        return Err(error);
                    }
                };
                let opened = self.open_from_console(&mut line).await;
                self.leave_shell(&mut line).await?;
                opened
            }
        }
    }

    async fn open_from_console(&self, line: &mut Line) -> Result<Root> {
        let Line::Shell(shell) = line else { return Err(self.no_root("no user is logged in")) };
        let user = shell.user().to_owned();
        let _step = self.step("open the control channel");
        let nonce = nonce();
        let limit = self.speed.scale_to_at_least(OPEN, OPEN_AT_LEAST);
        let copy = self.channels.line.try_clone().and_then(UnixStream::from_std);
        let stream = copy.map_err(|error| Error::io("copy a socket", &error))?;
        let helper = if self.channels.shell_only { |_: &str| None } else { guest::helper_for };
        let handshake = Handshake::Load { helper, server: guest::SERVER };
        // It begins with typing, which has its own limit.
        let options =
            ChannelOptions { name: self.name.clone(), nonce: nonce.clone(), handshake, limit: limit * 2 };
        let mut opening = pin!(Channel::open(stream, options));
        let command = |before: &str| launch(before, &nonce);
        let (until, by) = shell.run_as_root(self, command, limit, &mut opening).await?;
        let opened = match until {
            Until::Then(opened) => opened,
            Until::Ended(ended) => {
                if matches!(*ended, Ended::LoggedOut(_)) {
                    *line = Line::AtLogin;
                }
                let will_last = is_refusal_for_good(&ended);
                if let Err(error) = self.check_started(&user, by, *ended) {
                    if will_last && matches!(*line, Line::Shell(_)) {
                        *lock(&self.channels.no_root) = Some(error.clone());
                    }
                    return Err(error);
                }
                opening.await
            }
        };
        let channel = opened.map_err(|error| {
            error.likely_cause("the guest's kernel lacks virtio_console, or something else has the port open")
        })?;
        self.channels.note_kernel_log_of(&channel, false);
        *lock(&self.channels.current) = Some(channel.clone());
        self.qemu.came_up();
        self.channels.awaken(self.limit(OPEN)).await?;
        Ok(Root { channel, nonce })
    }

    /// Checks that the command that was typed to open the channel ended as expected.
    fn check_started(&self, user: &str, by: &str, ended: Ended) -> Result {
        let collector = match ended {
            Ended::Done(collector) => collector,
            Ended::Asks { question, collector, .. } => {
                let question = crate::text::line(&question);
                let why = format!(
                    "{user} could not become root: {by} asks {question:?}, and nixvm-test has no answer"
                );
                return Err(self
                    .no_root(&why)
                    .section("what came", crate::console::shown(&collector.into_bytes(), 10)));
            }
            Ended::Interrupted { collector, .. } | Ended::LoggedOut(collector) => {
                let error = self.no_root(&format!("{user} could not start it"));
                return Err(error.section("what came", crate::console::shown(&collector.into_bytes(), 10)));
            }
        };
        if collector.status() == Some(0) {
            return Ok(());
        }
        let error = self.no_root(&format!("{user} could not become root"));
        let by = if by.is_empty() { "the shell" } else { by };
        Err(error.section(format!("what {by} said"), crate::console::shown(&collector.into_bytes(), 10)))
    }

    async fn open_user(&self, root: &Root, user: &str) -> Result<Channel> {
        let _step = self.step_with(&format!("open the control channel of {user}"), "");
        let nonce = nonce();
        let text = launch_for(user, &root.nonce, &nonce);
        let carrier = root.channel.run(Request { text, shell: Shell::Bash, stdin: true, sum: false }).await?;
        let options = ChannelOptions {
            name: format!("{} ({user})", self.name),
            nonce,
            handshake: Handshake::Direct,
            limit: self.speed.scale_to_at_least(OPEN, OPEN_AT_LEAST),
        };
        Channel::open(carrier.into_stream(), options).await.map_err(|error| {
            error
                .likely_cause(format!("there is no user {user}, or PAM refuses them"))
                .next_step(format!("check users.users.{user} in the configuration"))
        })
    }

    fn no_root(&self, why: &str) -> Error {
        Error::new(ErrorKind::NoRoot, format!("{}: root is needed: {why}", self.name)).next_step(
            "log in first, as root or as a user who may use sudo (a member of wheel): `machine.login(…)`",
        )
    }
}

/// Returns whether another attempt would fail until the next login: the program that makes the user root refuses, or asks for
/// more than the password. A failure of the loader may be temporary.
fn is_refusal_for_good(ended: &Ended) -> bool {
    match ended {
        Ended::Asks { .. } => true,
        Ended::Done(collector) => collector.status().is_some_and(|status| REFUSALS.contains(&status)),
        Ended::Interrupted { .. } | Ended::LoggedOut(_) => false,
    }
}

/// Returns a nonce that separates a channel's preamble from the remains of an earlier one in the line. It is random,
/// because a guest may have been saved by another process with the same id.
fn nonce() -> String {
    format!("{:016x}", RandomState::new().build_hasher().finish())
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream as StdStream;

    use super::*;
    use crate::channel::Way;
    use crate::hang::HANG;
    use crate::machine::commands::launch::LOADER;

    /// Makes a guest on this host open a channel with [`LOADER`], with its files in `run` instead of /run. `left` is
    /// what it reads first.
    async fn loaded(run: &std::path::Path, left: &str) -> (Channel, std::process::Child) {
        let run = run.to_str().unwrap();
        let loader = LOADER
            .replace(r#"[ -c "$p" ]||"#, "p=;true||")
            .replace(r#"exec 3<>"$p""#, "exec 3<&0")
            .replace(r#"exec 3>&-;"$f" begin "$f" "$p""#, r#"exec "$f" serve 3 "" """#)
            .replace("/run/", &format!("{run}/"));
        let (ours, theirs) = StdStream::pair().unwrap();
        std::io::Write::write_all(&mut &ours, left.as_bytes()).unwrap();
        let loader = std::process::Command::new("sh")
            .args(["-c", &loader, "nixvm", "77"])
            .stdin(std::process::Stdio::from(std::os::fd::OwnedFd::from(theirs)))
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        ours.set_nonblocking(true).unwrap();
        let handshake = Handshake::Load { helper: guest::helper_for, server: guest::SERVER };
        let (name, nonce, limit) = ("server".to_owned(), "77".to_owned(), HANG);
        let options = ChannelOptions { name, nonce, handshake, limit };
        let opened = Channel::open(UnixStream::from_std(ours).unwrap(), options).await;
        (opened.unwrap_or_else(|error| panic!("after {left:?}: {error}")), loader)
    }

    /// The next guest first reads the bytes that were in flight when an earlier guest closed the port.
    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn what_was_meant_for_an_earlier_guest_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        for left in
            ["", "\n", "K 5 1\n9", "T 7 4\ntrueR 7 11\nshell bash\n", "helper 9\n\0\0\\", "shell 3 1\nabc"]
        {
            let (channel, mut loader) = loaded(folder.path(), left).await;
            drop(channel);
            loader.wait().unwrap();
        }
    }

    /// A clone of a machine that another process saved, or a helper that has not ended yet.
    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_helper_of_the_same_name_that_still_runs_is_not_in_the_way() {
        let folder = tempfile::tempdir().unwrap();
        let (first, mut first_loader) = loaded(folder.path(), "").await;
        let (second, mut second_loader) = loaded(folder.path(), "").await;
        for channel in [&first, &second] {
            assert_eq!(channel.way(), Way::Helper);
            channel.ping(HANG).await.unwrap();
        }
        drop((first, second));
        first_loader.wait().unwrap();
        second_loader.wait().unwrap();
    }

    #[test]
    fn no_two_channels_have_the_same_word() {
        let words: std::collections::HashSet<String> = (0..1000).map(|_| nonce()).collect();
        assert_eq!(words.len(), 1000);
        assert!(
            words
                .iter()
                .all(|word| word.len() == 16 && word.bytes().all(|byte| byte.is_ascii_alphanumeric()))
        );
    }
}
