//! A machine's control channels: how they are saved, and when they end. `channels/opening.rs` opens them.

use std::collections::HashMap;
use std::os::unix::net::UnixStream as StdStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Mutex, MutexGuard, watch};

use crate::channel::{Channel, Way};
use crate::machine::bus::Bus;
use crate::machine::checks::kernel_log::{KernelLog, SavedLog};
use crate::machine::seed::seed;
use crate::machine::session::elevation::Elevation;
use crate::machine::session::login::Credentials;
use crate::machine::session::logout::Getty;
use crate::machine::session::shell_line::Secret;
use crate::machine::{Life, Line};
use crate::mutex::lock;
use crate::qemu::{Exit, Qemu};
use crate::{Error, Result, Speed};

mod opening;

pub(in crate::machine) use opening::OPEN;

/// The limit for a kernel to turn the machine off after it has released its devices, on a fast host.
const LAST_STEPS: Duration = Duration::from_secs(2);

/// A machine's control channels.
#[derive(Debug)]
pub(crate) struct Channels {
    /// Our end of the port's connection; each channel gets a copy.
    line: StdStream,
    /// No helper is sent, as if the machine could not run it.
    shell_only: bool,
    /// Code that takes both locks takes this one before the console's line: opening root's channel takes the line.
    open: Mutex<Open>,
    /// Connections to service managers, by user.
    pub(crate) buses: Mutex<HashMap<String, Bus>>,
    /// Root's channel, for the task that notices that the guest has closed the port.
    current: Current,
    /// The last user who was root or became root: they are used again after a reboot.
    credentials: Arc<std::sync::Mutex<Option<Credentials>>>,
    /// The program by which a user on the console becomes root.
    pub(crate) elevation: std::sync::Mutex<Option<Elevation>>,
    /// Why the console gave no root, until the next login there.
    no_root: std::sync::Mutex<Option<Error>>,
    /// What is known of the console's getty.
    pub(crate) getty: std::sync::Mutex<Getty>,
    /// The guest was resumed from a saved moment, and its clock is still wrong.
    asleep: AtomicBool,
    /// The kernel log, as delivered by root's helper.
    kernel: KernelLog,
}

type Current = Arc<std::sync::Mutex<Option<Channel>>>;

/// The part of it that a template stores.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct SavedChannels {
    root: Option<SavedRoot>,
    /// How much of the kernel log was delivered, and the findings in it.
    #[serde(default)]
    pub(crate) kernel: SavedLog,
    /// Name and password of a user who can become root.
    credentials: Option<(String, String)>,
    #[serde(default)]
    getty: Getty,
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedRoot {
    channel: crate::channel::Saved,
    nonce: String,
}

/// The open channels.
#[derive(Debug, Default)]
pub(crate) struct Open {
    root: Option<Root>,
    /// Nested in root's channel.
    users: HashMap<String, Channel>,
}

#[derive(Debug, Clone)]
struct Root {
    channel: Channel,
    nonce: String,
}

impl Channels {
    pub(crate) fn new(line: StdStream, shell_only: bool) -> Result<Self> {
        line.set_nonblocking(true).map_err(|error| Error::io("use a socket", &error))?;
        Ok(Self {
            line,
            shell_only,
            open: Mutex::default(),
            buses: Mutex::default(),
            current: Arc::default(),
            credentials: Arc::default(),
            elevation: std::sync::Mutex::default(),
            no_root: std::sync::Mutex::default(),
            getty: std::sync::Mutex::default(),
            asleep: AtomicBool::new(false),
            kernel: KernelLog::default(),
        })
    }

    /// Locks the open channels. No other channel is opened while the lock is held; it is taken before the console's
    /// line.
    pub(crate) async fn channels(&self) -> MutexGuard<'_, Open> {
        self.open.lock().await
    }

    /// Closes the channels of users, which end with the process that carries them, and returns the rest.
    pub(crate) async fn save(&self, open: &mut Open) -> SavedChannels {
        open.users.clear();
        self.buses.lock().await.clear();
        let root = open.root.as_ref().filter(|root| root.channel.lost().is_none());
        let credentials = self.remembered();
        SavedChannels {
            root: root
                .map(|Root { channel, nonce }| SavedRoot { channel: channel.saved(), nonce: nonce.clone() }),
            kernel: self.kernel.saved(),
            credentials: credentials.map(|its| (its.user, its.password.reveal().to_owned())),
            getty: lock(&self.getty).clone(),
        }
    }

    /// Restores the channels in a guest that is about to resume. `is_judged` tells that its kernel log was already
    /// reported when the guest was saved.
    pub(crate) async fn resume(
        line: StdStream,
        shell: bool,
        name: &str,
        saved: &SavedChannels,
        is_judged: bool,
    ) -> Result<Self> {
        let channels = Self::new(line, shell)?;
        channels.kernel.resume(&saved.kernel, is_judged);
        channels.open_again(name, saved).await?;
        Ok(channels)
    }

    /// Releases all channels: pending requests on them fail with `why`. The program that serves the port in the guest
    /// is ignored from now on.
    pub(crate) async fn leave(&self, open: &mut Open, why: &str) {
        open.users.clear();
        self.buses.lock().await.clear();
        *lock(&self.current) = None;
        *lock(&self.no_root) = None;
        if let Some(root) = open.root.take() {
            root.channel.close(why);
        }
    }

    async fn open_again(&self, name: &str, saved: &SavedChannels) -> Result {
        *lock(&self.getty) = saved.getty.clone();
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

    /// Returns whether a guest that was resumed from a saved moment still needs its corrections.
    pub(crate) fn is_asleep(&self) -> bool {
        self.asleep.load(Ordering::Relaxed)
    }

    /// Corrects what is wrong in a guest that was resumed from a saved moment, as soon as root is available. Waits
    /// until that is done, because a command on the console would not wait. `limit` applies to each of the guest's
    /// answers.
    pub(crate) async fn awaken(&self, limit: Duration) -> Result {
        if let Some(root) = self.root()
            && self.asleep.swap(false, Ordering::Relaxed)
        {
            root.awaken(&seed(), limit).await?;
        }
        Ok(())
    }

    /// Makes the channel fail when the guest closes the port: it reboots, or the program that serves the port was
    /// killed. The connection itself stays open as long as QEMU lives, so nothing else would show it. `speed` is the
    /// host's speed.
    pub(crate) fn follow(&self, qemu: &Qemu, speed: Speed) {
        let mut from_qemu = qemu.qmp().events();
        let exit = qemu.exit();
        let (current, kernel) = (Arc::clone(&self.current), self.kernel.clone());
        kernel.follow_host(qemu);
        tokio::spawn(async move {
            loop {
                let closed = match from_qemu.recv().await {
                    Ok(event) if event.name == "RESET" => {
                        kernel.begin_boot();
                        false
                    }
                    // The uptime continued while the guest slept, but its kernel's clock may not have.
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
                        "the guest closed the port: it went down, or the program that served the port was killed",
                    );
                    tokio::spawn(note_whether_it_runs_on(kernel.clone(), exit.clone(), speed));
                }
            }
        });
    }

    /// Notes what the kernel logs from now on, as far as the channel delivers it.
    fn note_kernel_log_of(&self, channel: &Channel, goes_on: bool) {
        match channel.way() {
            Way::Helper => self.kernel.follow(channel, goes_on),
            Way::Shell => self.kernel.only_on_request(),
        }
        self.kernel.compare_clocks(channel);
    }

    /// Saves like [`Channels::save`], for a machine that is about to be paused: waits until the guest has delivered its
    /// whole kernel log, and holds further delivery. The delivery continues when the second value is dropped, and when
    /// this fails or is cancelled.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Timeout`] and [`crate::ErrorKind::ChannelLost`] when the guest does not answer within
    /// `limit`.
    pub(crate) async fn save_at_rest(
        &self,
        open: &mut Open,
        limit: Duration,
    ) -> Result<(SavedChannels, HeldLog<'_>)> {
        let mut saved = self.save(open).await;
        let held = self.hold_kernel_log();
        if let Some(root) = self.root() {
            root.ping(limit).await?;
        }
        // The answer came after everything that the kernel had logged by then.
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

    /// Returns the program by which a user on the console becomes root, as far as it was tried.
    pub(crate) fn way_to_root(&self) -> &'static str {
        lock(&self.elevation).unwrap_or(Elevation::Sudo).name()
    }

    /// Returns what is known about the kernel log.
    pub(crate) fn kernel(&self) -> &KernelLog {
        &self.kernel
    }

    /// Returns root's channel, if it is open.
    pub(crate) fn root(&self) -> Option<Channel> {
        lock(&self.current).clone().filter(|channel| channel.lost().is_none())
    }

    /// Remembers the login.
    pub(crate) fn remember(&self, credentials: Credentials) {
        *lock(&self.credentials) = Some(credentials);
        *lock(&self.no_root) = None;
    }

    /// Remembers the login that was remembered before the machine was started again.
    pub(crate) fn remember_from(&self, before: &Self) {
        if let Some(credentials) = before.remembered() {
            self.remember(credentials);
        }
    }

    fn remembered(&self) -> Option<Credentials> {
        lock(&self.credentials).clone()
    }
}

/// Holds the delivery of the kernel log from the next answer on, until this is dropped.
#[must_use]
pub(crate) struct HeldLog<'a>(Option<&'a Channels>);

impl HeldLog<'_> {
    /// Keeps holding: the machine was saved, and does not continue.
    pub(crate) fn keep_held(mut self) {
        self.0 = None;
    }
}

impl Drop for HeldLog<'_> {
    fn drop(&mut self) {
        if let Some(channels) = self.0 {
            channels.go_on_with_kernel_log();
        }
    }
}

/// Notes that the kernel log is no longer delivered, if the machine keeps running after the guest closed the port and
/// the helper ended without a message. If the guest's kernel closed the port, the machine is practically off (`poweroff
/// -ff`).
async fn note_whether_it_runs_on(kernel: KernelLog, mut exit: watch::Receiver<Option<Exit>>, speed: Speed) {
    let ended = async { exit.wait_for(Option::is_some).await.map(drop) };
    if crate::stopped::timeout(speed.scale(LAST_STEPS), ended).await.is_err() {
        kernel.note_untold();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use crate::hang::HANG;

    /// A guest that was resumed from a saved moment. Its kernel has delivered the records before number 7.
    async fn resumed() -> (Channels, UnixStream) {
        let (ours, theirs) = StdStream::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        let saved = r#"{
            "root": { "channel": { "way": "helper", "last_id": 0 }, "nonce": "1" },
            "kernel": { "next": 7, "noted": { "found": [], "incomplete": [] } },
            "credentials": null
        }"#;
        let saved: SavedChannels = serde_json::from_str(saved).unwrap();
        let channels = Channels::resume(ours, false, "server", &saved, false).await.unwrap();
        (channels, UnixStream::from_std(theirs).unwrap())
    }

    /// Reads what the guest receives until it ends with `end`.
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
        let (channels, mut guest) = resumed().await;
        assert_eq!(heard(&mut guest, "7").await, "M 0 1\n7");
        assert_eq!(heard(&mut guest, "U 0 16\n").await, "U 0 16\n");
        // The guest does not answer.
        let failed =
            channels.save_at_rest(&mut *channels.channels().await, Duration::from_millis(1)).await.map(drop);
        assert_eq!(failed.unwrap_err().kind(), ErrorKind::Timeout);
        assert!(heard(&mut guest, "M 0 1\n7").await[16..].starts_with("M 0 4\nhold"));
        let mut open = channels.channels().await;
        let dropped = channels.save_at_rest(&mut open, Duration::from_secs(600));
        assert!(tokio::time::timeout(Duration::from_millis(1), dropped).await.is_err());
        assert!(heard(&mut guest, "M 0 1\n7").await.starts_with("M 0 4\nhold"));
        // A saved machine does not continue.
        channels.hold_kernel_log().keep_held();
        drop(channels.hold_kernel_log());
        assert_eq!(heard(&mut guest, "M 0 1\n7").await, "M 0 4\nholdM 0 4\nholdM 0 1\n7");
    }

    /// Time advances automatically when idle.
    #[tokio::test(start_paused = true)]
    async fn a_log_is_cut_off_only_where_the_machine_runs_on_without_its_helper() {
        let lost = || {
            let kernel = KernelLog::default();
            kernel.broken_off();
            kernel
        };
        let (runs, ended) = (watch::Sender::new(None), watch::Sender::new(None));
        ended.send_replace(Some(Exit {
            status: Default::default(),
            stderr: String::new(),
            script: String::new(),
            killed: false,
        }));
        let kernel = lost();
        note_whether_it_runs_on(kernel.clone(), ended.subscribe(), Speed::new(1.0)).await;
        assert!(!kernel.is_cut_off());
        note_whether_it_runs_on(kernel.clone(), runs.subscribe(), Speed::new(1.0)).await;
        assert!(kernel.is_cut_off());
    }
}
