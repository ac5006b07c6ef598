//! Lets a person inspect a machine while its scenario waits: its console, a root shell, QEMU's control protocol and its
//! gdb stub. They are sockets in the machine's run directory, which only this user can enter.

mod enter;
mod qmp;
mod serve;

use std::path::PathBuf;
use std::time::Duration;

use nixvm_test_macros::tracked;
use tokio::net::UnixListener;
use tokio::task::JoinHandle;

use crate::machine::Machine;
use crate::machine::session::raw_console::Standing;
use crate::{Error, ErrorKind, Events, Result, pause};

pub(crate) use enter::has_terminal;

/// The sockets' names.
const CONSOLE: &str = "console.sock";
const SHELL: &str = "shell.sock";
const QMP: &str = "qmp.sock";
const GDB: &str = "gdb.sock";
/// The limit for opening root's channel, while a person waits at a prompt.
const CHANNEL: Duration = Duration::from_secs(20);

/// A machine that clients can attach to, until this is dropped.
struct Paused {
    machine: Machine,
    sockets: Vec<PathBuf>,
    serving: Vec<JoinHandle<()>>,
    gdb: bool,
}

/// # Breakpoints
impl Machine {
    /// Pauses the scenario until Enter is pressed on the terminal, and shows how to attach to the machine: to its
    /// console (`nixvm-test attach --live ID`, or any program that connects to a socket), a root shell, QEMU's control
    /// protocol or its gdb stub. The machine keeps running. The scenario's time limits are suspended.
    ///
    /// ```no_run
    /// # async fn example(machine: nixvm_test::machine::Machine) -> nixvm_test::Result {
    /// let alice = machine.login("alice", "test").await?;
    /// alice.succeed("sudo systemctl restart nginx").await?;
    /// machine.breakpoint().await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] without a terminal, because Enter can't be pressed; [`ErrorKind::Io`] when the sockets
    /// can't be created.
    #[tracked]
    pub async fn breakpoint(&self) -> Result {
        if !has_terminal() {
            return Err(Error::new(
                ErrorKind::Usage,
                format!("{}: a breakpoint needs a terminal, and standard input is not one", self.name()),
            )
            .likely_cause(
                "the run is in CI, in a pipe, or under cargo-nextest, which gives tests no standard input",
            )
            .next_step("run the scenario with `nixvm-test FILE.rs`, or remove the breakpoint"));
        }
        let events = self.life().events.clone();
        pause_at(std::slice::from_ref(self), "at a breakpoint", &events).await
    }
}

/// Waits for Enter while clients can attach to all of `machines`. `why` ends the printed line.
///
/// # Errors
/// [`ErrorKind::Io`] when the sockets or the terminal can't be used.
pub(crate) async fn pause_at(machines: &[Machine], why: &str, events: &Events) -> Result {
    let _pause = pause::begin();
    // Two scenarios that pause at the same time share one terminal.
    let turn = enter::turn().await;
    let mut paused = Vec::new();
    for machine in machines {
        if machine.qemu().exit().borrow().is_some() {
            events.note(format!("{} is off: there is nothing to attach to", machine.name()));
            continue;
        }
        let (its, how) = Paused::open(machine).await?;
        events.note(format!("{} waits {why}", machine.name()));
        how.into_iter().for_each(|line| events.note(line));
        paused.push(its);
    }
    events.note("press Enter to continue");
    let pressed = enter::pressed().await;
    drop(turn);
    for its in paused {
        its.close().await;
    }
    pressed
}

impl Paused {
    /// Opens all sockets. Returns a description of how to use them, line by line.
    async fn open(machine: &Machine) -> Result<(Self, Vec<String>)> {
        let mut its = Self { machine: machine.clone(), sockets: Vec::new(), serving: Vec::new(), gdb: false };
        let id = machine.run_directory().file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut how = Vec::new();
        // Done before a person has the console, because opening the channel may need it.
        let root = its.root().await;
        let listener = its.listen(CONSOLE)?;
        its.serving.push(tokio::spawn(serve::console(machine.clone(), listener)));
        how.push(format!(
            "  console        nixvm-test attach --live {id}   (or socat -,rawer,escape=0x1d UNIX:{})",
            its.path(CONSOLE)
        ));
        match root {
            Some(channel) => {
                let listener = its.listen(SHELL)?;
                its.serving.push(tokio::spawn(serve::shell(channel, machine.name().to_owned(), listener)));
                how.push(format!("  root's shell   nc -U {}", its.path(SHELL)));
            }
            None => how.push("  root's shell   none: the control channel is not open".to_owned()),
        }
        let listener = its.listen(QMP)?;
        its.serving.push(tokio::spawn(qmp::serve(machine.qemu(), listener)));
        how.push(format!("  QMP            nc -U {}", its.path(QMP)));
        let stub = format!("gdbserver unix:{},server=on,wait=off", its.path(GDB));
        match machine.qemu().monitor(&stub).await {
            Ok(_) => {
                its.gdb = true;
                its.sockets.push(machine.run_directory().join(GDB));
                how.push(format!("  gdb            gdb -ex 'target remote {}'", its.path(GDB)));
            }
            Err(error) => how.push(format!("  gdb            none: {}", error.summary())),
        }
        Ok((its, how))
    }

    fn path(&self, name: &str) -> String {
        self.machine.run_directory().join(name).display().to_string()
    }

    fn listen(&mut self, name: &str) -> Result<UnixListener> {
        let path = self.machine.run_directory().join(name);
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path);
        let listener =
            listener.map_err(|error| Error::io(format_args!("listen on {}", path.display()), &error))?;
        self.sockets.push(path);
        Ok(listener)
    }

    /// Returns root's channel if it is open, or can be opened without taking the console from a command.
    async fn root(&self) -> Option<crate::channel::Channel> {
        let life = self.machine.life();
        if life.channels.root().is_none() && life.standing(false).await != Standing::Serving {
            return None;
        }
        let channel = crate::stopped::timeout(life.limit(CHANNEL), life.channel("root")).await;
        channel.ok()?.ok().filter(crate::channel::Channel::is_whole)
    }

    /// Disconnects every attached client, and resumes a guest that gdb or QMP has stopped.
    async fn close(mut self) {
        for serving in std::mem::take(&mut self.serving) {
            serving.abort();
            // It has released the console by then.
            let _ = serving.await;
        }
        let qemu = self.machine.qemu();
        if std::mem::take(&mut self.gdb) {
            let _ = qemu.monitor("gdbserver none").await;
        }
        let limit = Duration::from_secs(5);
        if let Ok(status) = qemu.qmp().execute("query-status", None, limit).await
            && matches!(status["status"].as_str(), Some("paused" | "debug"))
        {
            let _ = qemu.qmp().execute("cont", None, limit).await;
        }
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        self.serving.iter().for_each(JoinHandle::abort);
        for socket in &self.sockets {
            let _ = std::fs::remove_file(socket);
        }
    }
}
