//! Waiting for ports, sockets and files: in the machine, in one command, with nothing started for a look.

pub(crate) mod sockets;

use nixvm_test_macros::tracked;

use crate::machine::command_text::quoted;
use crate::machine::output::Output;
use crate::machine::{Machine, User};
use crate::{Error, ErrorKind, Result};

impl User {
    /// Waits until something listens on a TCP port: of the machine itself, or of what `address` names as
    /// seen from it. Nothing but bash is needed for it.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] after the limit, and those of [`User::execute`].
    #[tracked]
    pub async fn wait_for_open_port(&self, port: u16, address: &str) -> Result {
        let script = looking(&format!(": 3<>{}", tcp(address, port)?), true);
        let what = format!("port {port} of {address} is open");
        self.look_by(&script, &format!("wait for open port {port}"), &what).await.map(drop)
    }

    /// Waits until nothing listens on a TCP port. See [`User::wait_for_open_port`].
    ///
    /// # Errors
    /// Those of [`User::wait_for_open_port`].
    #[tracked]
    pub async fn wait_for_closed_port(&self, port: u16, address: &str) -> Result {
        let script = looking(&format!(": 3<>{}", tcp(address, port)?), false);
        let what = format!("port {port} of {address} is closed");
        self.look_by(&script, &format!("wait for closed port {port}"), &what).await.map(drop)
    }

    /// Waits until a program listens on a Unix socket of any type: it is connected to, and the connection is closed
    /// at once, which the server sees. A socket for datagrams is open when it is bound. `path` is as this user sees it;
    /// where a service has a `/tmp` of its own, a socket in it is in `/tmp/systemd-private-…/tmp`. `@NAME` is an abstract
    /// socket; a file whose name begins so is `./@NAME`.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] after the limit, with what was in the way; [`ErrorKind::Usage`] where the helper can't run
    /// in the machine and only a shell serves the control channel, and for an empty path or one with a NUL; and
    /// those of [`User::execute`].
    #[tracked]
    pub async fn wait_for_open_unix_socket(&self, path: &str) -> Result {
        self.wait_for_listener(path).await
    }

    /// Waits until a file (of any type) is there.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] after the limit, and those of [`User::execute`].
    #[tracked]
    pub async fn wait_for_file(&self, path: &str) -> Result {
        // A look is a builtin; inotify is in no program that every machine has.
        let script = looking(&format!("[ -e {} ]", quoted(path)), true);
        let what = format!("{path} is there");
        self.look_by(&script, &format!("wait for file {path}"), &what).await.map(drop)
    }

    async fn look_by(&self, script: &str, name: &str, what: &str) -> Result<Output> {
        let looking = self.command(script).repeating(name);
        self.wait_by(looking.asked_as(format!("wait until {what}")), what).await
    }
}

/// # Waits
///
/// As root. See the methods of [`User`].
impl Machine {
    /// Waits until something listens on a TCP port of the machine. See [`User::wait_for_open_port`].
    ///
    /// # Errors
    /// Those of [`User::wait_for_open_port`].
    #[tracked]
    pub async fn wait_for_open_port(&self, port: u16) -> Result {
        self.root().wait_for_open_port(port, "localhost").await
    }

    /// Waits until nothing listens on a TCP port of the machine. See [`User::wait_for_closed_port`].
    ///
    /// # Errors
    /// Those of [`User::wait_for_closed_port`].
    #[tracked]
    pub async fn wait_for_closed_port(&self, port: u16) -> Result {
        self.root().wait_for_closed_port(port, "localhost").await
    }

    /// Waits until somebody listens on a Unix socket. See [`User::wait_for_open_unix_socket`].
    ///
    /// # Errors
    /// Those of [`User::wait_for_open_unix_socket`].
    #[tracked]
    pub async fn wait_for_open_unix_socket(&self, path: &str) -> Result {
        self.root().wait_for_open_unix_socket(path).await
    }

    /// Waits until a file is there. See [`User::wait_for_file`].
    ///
    /// # Errors
    /// Those of [`User::wait_for_file`].
    #[tracked]
    pub async fn wait_for_file(&self, path: &str) -> Result {
        self.root().wait_for_file(path).await
    }
}

/// A script that looks every 40 ms, by builtins alone, until the look succeeds (or fails).
fn looking(look: &str, until_success: bool) -> String {
    let done = if until_success { "&&" } else { "||" };
    format!(
        "set +e; exec {{z}}<> <(:)\nwhile :; do {{ {look}; }} 2>/dev/null {done} exit 0; read -rt .04 -u $z; done"
    )
}

/// bash's own path to a port (bash(1), "REDIRECTION").
fn tcp(address: &str, port: u16) -> Result<String> {
    if address.is_empty() || !address.chars().all(|c| c.is_ascii_alphanumeric() || ".:-_%".contains(c)) {
        return Err(Error::new(ErrorKind::Usage, format!("{address:?} is no address or name of a host")));
    }
    Ok(format!("/dev/tcp/{address}/{port}"))
}
