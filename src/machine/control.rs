//! Opening the control channel: from a user on the console who can become root to a [`Channel`].
//!
//! Nothing in the guest waits for us: a script is handed to root's shell over the console. It opens the virtio-serial
//! port and fetches over it what serves the channel (see [`crate::control`]), into /run, which is memory. That asks
//! systemd to start it as a transient service, so that it neither belongs to the session on the console nor ends with it.
//!
//! The channel is open as soon as the service says hello. What was typed on the console ends after the first command, and
//! nobody waits for it: sudo takes longer to end than most commands run.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::os::unix::net::UnixStream as StdStream;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Mutex, MutexGuard, watch};

use super::bus::Bus;
use super::kernel_log::{KernelLog, SavedLog};
use super::login::Credentials;
use super::saved::seed;
use super::service::{launch, launch_for};
use super::shell_line::{Ended, Secret, Until};
use super::{Life, Line};
use crate::control::{Channel, ChannelOptions, Handshake, Request, Shell, Way, guest};
use crate::mutex::lock;
use crate::qemu::{Exit, Qemu};
use crate::{Error, ErrorKind, Result, Speed};

/// For `sudo`, `systemd-run` and what they start, on a fast host.
pub(super) const OPEN: Duration = Duration::from_secs(20);
/// At least, on any host: sudo opens a session, for which PAM waits by the clock.
const OPEN_AT_LEAST: Duration = Duration::from_secs(40);

/// For a kernel to turn the machine off once it has let go of its devices, on a fast host.
const LAST_STEPS: Duration = Duration::from_secs(2);

/// The way into a machine beside its console.
#[derive(Debug)]
pub(super) struct Control {
    /// Our end of the port's line; each channel gets a copy.
    line: StdStream,
    /// No helper is sent, as if the machine could not run it.
    shell_only: bool,
    /// Locked before the console's line by whoever takes both: to open root's channel takes the line.
    open: Mutex<Open>,
    /// Connections to service managers, by user.
    pub(super) buses: Mutex<HashMap<String, Bus>>,
    /// Root's channel, for the one who learns that the guest has let go of the port.
    current: Current,
    /// Who was root, or became it, last: they are asked again after a reboot.
    credentials: Arc<std::sync::Mutex<Option<Credentials>>>,
    /// The guest goes on from a saved moment, and its clock still stands there.
    asleep: AtomicBool,
    /// What root's helper tells of the kernel's log.
    kernel: KernelLog,
}

type Current = Arc<std::sync::Mutex<Option<Channel>>>;

/// What a template holds of it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct SavedControl {
    root: Option<SavedRoot>,
    /// How far the kernel's log was told, and what was found in it.
    #[serde(default)]
    pub(super) kernel: SavedLog,
    /// Name and password of who can become root.
    credentials: Option<(String, String)>,
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedRoot {
    channel: crate::control::Saved,
    nonce: String,
}

/// The channels that are open.
#[derive(Debug, Default)]
pub(super) struct Open {
    root: Option<Root>,
    /// Nested in the root's.
    users: HashMap<String, Channel>,
}

#[derive(Debug, Clone)]
struct Root {
    channel: Channel,
    nonce: String,
}

impl Control {
    pub(super) fn new(line: StdStream, shell_only: bool) -> Result<Self> {
        line.set_nonblocking(true).map_err(|error| Error::io("use a socket", &error))?;
        Ok(Self {
            line,
            shell_only,
            open: Mutex::default(),
            buses: Mutex::default(),
            current: Arc::default(),
            credentials: Arc::default(),
            asleep: AtomicBool::new(false),
            kernel: KernelLog::default(),
        })
    }

    /// The channels that are open. No other is opened as long as this is held; it is taken before the console's line.
    pub(super) async fn channels(&self) -> MutexGuard<'_, Open> {
        self.open.lock().await
    }

    /// Closes the channels of users, which end with the process that carries them, and gives the rest.
    pub(super) async fn save(&self, open: &mut Open) -> SavedControl {
        open.users.clear();
        self.buses.lock().await.clear();
        let root = open.root.as_ref().filter(|root| root.channel.lost().is_none());
        let credentials = self.remembered();
        SavedControl {
            root: root
                .map(|Root { channel, nonce }| SavedRoot { channel: channel.saved(), nonce: nonce.clone() }),
            kernel: self.kernel.saved(),
            credentials: credentials.map(|its| (its.user, its.password.reveal().to_owned())),
        }
    }

    /// In a guest that is about to go on. What its kernel had logged `is_judged` where it was told when the guest was saved.
    pub(super) async fn resume(
        line: StdStream,
        shell: bool,
        name: &str,
        saved: &SavedControl,
        is_judged: bool,
    ) -> Result<Self> {
        let control = Self::new(line, shell)?;
        control.kernel.goes_on(&saved.kernel, is_judged);
        control.open_again(name, saved).await?;
        Ok(control)
    }

    /// Lets go of all channels: what is pending on them fails with `why`. What serves the port in the guest is of no
    /// interest any more.
    pub(super) async fn leave(&self, open: &mut Open, why: &str) {
        open.users.clear();
        self.buses.lock().await.clear();
        *lock(&self.current) = None;
        if let Some(root) = open.root.take() {
            root.channel.close(why);
        }
    }

    async fn open_again(&self, name: &str, saved: &SavedControl) -> Result {
        if let Some((user, password)) = &saved.credentials {
            self.remember(Credentials { user: user.clone(), password: Secret::new(password) });
        }
        if let Some(SavedRoot { channel, nonce }) = &saved.root {
            let copy = self.line.try_clone().and_then(UnixStream::from_std);
            let stream = copy.map_err(|error| Error::io("copy a socket", &error))?;
            let channel = Channel::resume(stream, name.to_owned(), *channel);
            self.note_kernel_log_of(&channel, true);
            *lock(&self.current) = Some(channel.clone());
            self.open.lock().await.root = Some(Root { channel, nonce: nonce.clone() });
        }
        self.asleep.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Whether nobody has put right yet what differs in a guest that goes on from a saved moment.
    pub(super) fn is_asleep(&self) -> bool {
        self.asleep.load(Ordering::Relaxed)
    }

    /// Puts right what differs in a guest that goes on from a saved moment, as soon as root can; waits until it is
    /// done, since a command on the console would not. Each of the guest's answers may take `limit`.
    pub(super) async fn awaken(&self, limit: Duration) -> Result {
        if let Some(root) = self.root()
            && self.asleep.swap(false, Ordering::Relaxed)
        {
            root.awaken(&seed(), limit).await?;
        }
        Ok(())
    }

    /// Has the channel fail when the guest closes the port: it reboots, or what serves the port was killed.
    /// The line itself stays open as long as QEMU lives, so nothing else would tell. `speed` is that of the host.
    pub(super) fn follow(&self, qemu: &Qemu, speed: Speed) {
        let mut from_qemu = qemu.qmp().events();
        let exit = qemu.exit();
        let (current, kernel) = (Arc::clone(&self.current), self.kernel.clone());
        kernel.runs_on_host(qemu);
        tokio::spawn(async move {
            loop {
                let closed = match from_qemu.recv().await {
                    Ok(event) if event.name == "RESET" => {
                        kernel.boots_anew();
                        false
                    }
                    // The uptime went on while the guest slept, and its kernel's clock may not have.
                    Ok(event) if event.name == "WAKEUP" => {
                        let channel = lock(&current).clone();
                        if let Some(channel) = channel {
                            kernel.compare_clocks(&channel);
                        }
                        false
                    }
                    Ok(event) => {
                        event.name == "VSERPORT_CHANGE"
                            && event.data["id"] == crate::qemu::CHANNEL
                            && event.data["open"] == false
                    }
                    Err(RecvError::Lagged(_)) => false,
                    Err(RecvError::Closed) => return,
                };
                if closed && let Some(channel) = lock(&current).take() {
                    channel.close_when_read(
                        "the guest closed the port: it went down, or what served the port was killed",
                    );
                    tokio::spawn(note_whether_it_runs_on(kernel.clone(), exit.clone(), speed));
                }
            }
        });
    }

    /// From now on what the kernel logs is noted, as far as what serves the channel tells it.
    fn note_kernel_log_of(&self, channel: &Channel, goes_on: bool) {
        match channel.way() {
            Way::Helper => self.kernel.follow(channel, goes_on),
            Way::Shell => self.kernel.only_on_request(),
        }
        self.kernel.compare_clocks(channel);
    }

    /// [`Control::save`] for a machine that stands still soon: waits until the guest has told all that its kernel logged,
    /// and tells nothing more. It goes on with that when the second value is dropped, and when this fails or is broken
    /// off.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] and [`ErrorKind::ChannelLost`] when the guest does not answer within `limit`.
    pub(super) async fn save_at_rest(
        &self,
        open: &mut Open,
        limit: Duration,
    ) -> Result<(SavedControl, HeldLog<'_>)> {
        let mut saved = self.save(open).await;
        let held = self.hold_kernel_log();
        if let Some(root) = self.root() {
            root.ping(limit).await?;
        }
        // The answer came behind all that the kernel had logged by then.
        saved.kernel = self.kernel.saved();
        Ok((saved, held))
    }

    fn hold_kernel_log(&self) -> HeldLog<'_> {
        if let Some(root) = self.root().filter(|root| root.way() == Way::Helper) {
            root.hold_kernel();
        }
        HeldLog(Some(self))
    }

    fn go_on_with_kernel_log(&self) {
        if let Some(root) = self.root().filter(|root| root.way() == Way::Helper) {
            self.kernel.follow(&root, true);
        }
    }

    /// What is known of the kernel's log.
    pub(super) fn kernel(&self) -> &KernelLog {
        &self.kernel
    }

    /// Root's channel, if it is open.
    pub(super) fn root(&self) -> Option<Channel> {
        lock(&self.current).clone().filter(|channel| channel.lost().is_none())
    }

    /// Keeps in mind who logged in.
    pub(super) fn remember(&self, credentials: Credentials) {
        *lock(&self.credentials) = Some(credentials);
    }

    fn remembered(&self) -> Option<Credentials> {
        lock(&self.credentials).clone()
    }
}

/// Nothing is told of the kernel's log from the next answer on, until this is dropped.
#[must_use]
pub(super) struct HeldLog<'a>(Option<&'a Control>);

impl HeldLog<'_> {
    /// The machine was saved, and does not go on.
    pub(super) fn stays_held(mut self) {
        self.0 = None;
    }
}

impl Drop for HeldLog<'_> {
    fn drop(&mut self) {
        if let Some(control) = self.0 {
            control.go_on_with_kernel_log();
        }
    }
}

/// The guest closed the port. Where its kernel did so, the machine is as good as off (`poweroff -ff`); where it runs on,
/// nobody tells its log any more, if the helper went without a word.
async fn note_whether_it_runs_on(kernel: KernelLog, mut exit: watch::Receiver<Option<Exit>>, speed: Speed) {
    let ended = async { exit.wait_for(Option::is_some).await.map(drop) };
    if tokio::time::timeout(speed.scale(LAST_STEPS), ended).await.is_err() {
        kernel.runs_untold();
    }
}

impl Life {
    /// The channel on which commands run as `user`; opened if it isn't.
    ///
    /// # Errors
    /// [`ErrorKind::NoRoot`] when nobody is logged in on the console who can become root,
    /// [`ErrorKind::ChannelLost`] and [`ErrorKind::Timeout`] when what was started does not answer.
    pub(super) async fn channel(&self, user: &str) -> Result<Channel> {
        self.needs_a_machine("what this asks of the guest")?;
        self.while_it_runs(self.opened_channel(user)).await
    }

    async fn opened_channel(&self, user: &str) -> Result<Channel> {
        let mut open = self.control.open.lock().await;
        let root = match open.root.take().filter(|root| root.channel.lost().is_none()) {
            Some(root) => root,
            None => {
                open.users.clear();
                self.open_root().await?
            }
        };
        open.root = Some(root.clone());
        // The shell's server takes no channel within it: there each command becomes the user's by itself.
        if user == "root" || !is_whole(&root.channel) {
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
        match &*line {
            Line::Shell(_) => self.open_from_console(&mut line).await,
            Line::Lost(why) => Err(self.no_root(why)),
            // After a reboot whoever was there before is let in again, for this alone.
            Line::AtLogin => {
                let Some(Credentials { user, password }) = self.control.remembered() else {
                    return Err(self.no_root("nobody has logged in yet"));
                };
                *line = Line::Lost("a login was broken off".to_owned());
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
        let Line::Shell(shell) = line else { return Err(self.no_root("nobody is logged in")) };
        let user = shell.user().to_owned();
        let _step = self.step("open the control channel");
        let nonce = nonce();
        let limit = self.speed.scale_to_at_least(OPEN, OPEN_AT_LEAST);
        let copy = self.control.line.try_clone().and_then(UnixStream::from_std);
        let stream = copy.map_err(|error| Error::io("copy a socket", &error))?;
        let helper = if self.control.shell_only { |_: &str| None } else { guest::helper_for };
        let handshake = Handshake::Load { helper, server: guest::SERVER };
        // It begins with what is typed, which has a limit of its own.
        let options =
            ChannelOptions { name: self.name.clone(), nonce: nonce.clone(), handshake, limit: limit * 2 };
        let mut opening = pin!(Channel::open(stream, options));
        let opened = match shell
            .run_until(self, &launch(&user, shell.language(), &nonce), limit, opening.as_mut())
            .await?
        {
            Until::Then(opened) => opened,
            Until::Ended(ended) => {
                if matches!(*ended, Ended::LoggedOut(_)) {
                    *line = Line::AtLogin;
                }
                self.is_started(&user, *ended)?;
                opening.await
            }
        };
        let channel = opened.map_err(|error| {
            error.likely_cause("the guest's kernel lacks virtio_console, or something else has the port open")
        })?;
        self.control.note_kernel_log_of(&channel, false);
        *lock(&self.control.current) = Some(channel.clone());
        self.qemu.came_up();
        self.control.awaken(self.limit(OPEN)).await?;
        Ok(Root { channel, nonce })
    }

    /// Whether what was typed to open the channel ended as it should.
    fn is_started(&self, user: &str, ended: Ended) -> Result {
        let collector = match ended {
            Ended::Done(collector) => collector,
            Ended::Interrupted { collector, .. } | Ended::LoggedOut(collector) => {
                let error = self.no_root(&format!("{user} could not start it"));
                return Err(error.section("what came", crate::console::shown(&collector.into_bytes(), 10)));
            }
        };
        if collector.status() == Some(0) {
            return Ok(());
        }
        let error = self.no_root(&format!("{user} could not become root"));
        Err(error.section("what sudo said", crate::console::shown(&collector.into_bytes(), 10)))
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
                .likely_cause(format!("there is no user {user}, or PAM does not let them in"))
                .next_step(format!("look for users.users.{user} in the configuration"))
        })
    }

    fn no_root(&self, why: &str) -> Error {
        Error::new(ErrorKind::NoRoot, format!("{}: root is needed: {why}", self.name)).next_step(
            "log in first, as root or as a user who may use sudo (a member of wheel): `machine.login(…)`",
        )
    }
}

/// Tells a channel's preamble from whatever an earlier one left in the line. A guest may have been saved by another
/// process that had the same number, so it is random.
fn nonce() -> String {
    format!("{:016x}", RandomState::new().build_hasher().finish())
}

/// Whether several commands can run at once and their output is seen as it comes.
pub(super) fn is_whole(channel: &Channel) -> bool {
    channel.way() == Way::Helper
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hang::HANG;
    use crate::machine::service::LOADER;

    /// A guest that goes on from a saved moment, whose kernel has told the records before number 7.
    async fn resumed() -> (Control, UnixStream) {
        let (ours, theirs) = StdStream::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        let saved = r#"{
            "root": { "channel": { "way": "helper", "last_id": 0 }, "nonce": "1" },
            "kernel": { "next": 7, "noted": { "found": [], "incomplete": [] } },
            "credentials": null
        }"#;
        let saved: SavedControl = serde_json::from_str(saved).unwrap();
        let control = Control::resume(ours, false, "server", &saved, false).await.unwrap();
        (control, UnixStream::from_std(theirs).unwrap())
    }

    /// Reads what the guest hears until it ends with `end`.
    async fn heard(guest: &mut UnixStream, end: &str) -> String {
        use tokio::io::AsyncReadExt as _;
        let mut heard = String::new();
        let reading = async {
            while !heard.ends_with(end) {
                heard.push(char::from(guest.read_u8().await.unwrap()));
            }
        };
        let read = tokio::time::timeout(HANG, reading).await;
        assert!(read.is_ok(), "{end:?} is not heard after {heard:?}");
        heard
    }

    #[tokio::test]
    async fn a_kernels_log_that_was_held_goes_on_when_a_save_fails_or_is_broken_off() {
        let (control, mut guest) = resumed().await;
        assert_eq!(heard(&mut guest, "7").await, "M 0 1\n7");
        assert_eq!(heard(&mut guest, "U 0 16\n").await, "U 0 16\n");
        // The guest does not answer.
        let failed =
            control.save_at_rest(&mut *control.channels().await, Duration::from_millis(1)).await.map(drop);
        assert_eq!(failed.unwrap_err().kind(), ErrorKind::Timeout);
        assert!(heard(&mut guest, "M 0 1\n7").await[16..].starts_with("M 0 4\nhold"));
        let mut open = control.channels().await;
        let dropped = control.save_at_rest(&mut open, Duration::from_secs(600));
        assert!(tokio::time::timeout(Duration::from_millis(1), dropped).await.is_err());
        assert!(heard(&mut guest, "M 0 1\n7").await.starts_with("M 0 4\nhold"));
        // A machine that was saved does not go on.
        control.hold_kernel_log().stays_held();
        drop(control.hold_kernel_log());
        assert_eq!(heard(&mut guest, "M 0 1\n7").await, "M 0 4\nholdM 0 4\nholdM 0 1\n7");
    }

    /// The time goes on by itself where nothing else happens.
    #[tokio::test(start_paused = true)]
    async fn a_log_is_cut_off_only_where_the_machine_runs_on_without_its_helper() {
        let lost = || {
            let kernel = KernelLog::default();
            kernel.broken_off();
            kernel
        };
        let (runs, ended) = (watch::Sender::new(None), watch::Sender::new(None));
        ended.send_replace(Some(Exit { status: Default::default(), stderr: String::new() }));
        let kernel = lost();
        note_whether_it_runs_on(kernel.clone(), ended.subscribe(), Speed::new(1.0)).await;
        assert!(!kernel.is_cut_off());
        note_whether_it_runs_on(kernel.clone(), runs.subscribe(), Speed::new(1.0)).await;
        assert!(kernel.is_cut_off());
    }

    /// Has a guest on this host open a channel by [`LOADER`], with its files in `run` in the place of /run, and where
    /// `left` is what it reads first.
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

    /// What was on its way when an earlier guest let go of the port is what the next one reads first.
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
