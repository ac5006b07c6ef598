//! Waiting for ports, sockets and files: in the machine, in one command, with nothing started for a look.

mod globs;
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

    /// Waits until a file (of any type) is there. The path is taken as it stands; for one with `*` or `~` see
    /// [`User::wait_for_file_matching`].
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] after the limit, and those of [`User::execute`].
    #[tracked]
    pub async fn wait_for_file(&self, path: &str) -> Result {
        // A look is a builtin; inotify is in no program that every machine has.
        let script = looking(&format!("[ -e {} ]", quoted(path)), true);
        let what = format!("{path} is there");
        let waited = self.look_by(&script, &format!("wait for file {path}"), &what).await.map(drop);
        waited.map_err(|error| match error.kind() {
            ErrorKind::Timeout if globs::has_signs(path) => error.next_step(
                "a path is looked for as it stands; `wait_for_file_matching` takes `*`, `?`, `[…]` and `~` as a shell does",
            ),
            _ => error,
        })
    }

    /// Waits until a file (of any type) is there whose path matches a pattern, in which `*`, `?`, `[…]`, and `~` at the
    /// beginning, mean what they mean to a shell. Returns the first path that matches.
    ///
    /// ```no_run
    /// # async fn example(machine: nixvm_test::machine::Machine) -> nixvm_test::Result {
    /// let socket = machine.wait_for_file_matching("/run/user/*/bus").await?;
    /// assert!(socket.ends_with("/bus"));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] after the limit, [`ErrorKind::Usage`] for an empty pattern and one with a NUL, and those of
    /// [`User::execute`].
    #[tracked]
    pub async fn wait_for_file_matching(&self, pattern: &str) -> Result<String> {
        let word = globs::word(pattern)?;
        let look =
            format!("for f in {word}; do [ -e \"$f\" ] && {{ printf %s \"$f\"; exit 0; }}; done; false");
        let what = format!("a file that matches {pattern} is there");
        let found = self.look_by(&looking(&look, true), &format!("wait for file {pattern}"), &what).await?;
        Ok(String::from_utf8_lossy(found.bytes()).into_owned())
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

    /// Waits until a file is there whose path matches a pattern. See [`User::wait_for_file_matching`].
    ///
    /// # Errors
    /// Those of [`User::wait_for_file_matching`].
    #[tracked]
    pub async fn wait_for_file_matching(&self, pattern: &str) -> Result<String> {
        self.root().wait_for_file_matching(pattern).await
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
