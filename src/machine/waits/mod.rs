//! Waits for ports, sockets and files, with one command in the machine that starts no process per check.

mod globs;
pub(crate) mod sockets;

use nixvm_test_macros::tracked;

use crate::machine::command_text::quoted;
use crate::machine::output::Output;
use crate::machine::{Machine, User};
use crate::{Error, ErrorKind, Result};

/// # Ports, sockets and files
impl User {
    /// Waits until a program listens on a TCP port: of the machine itself, or of the host `address` as seen from the
    /// machine. It needs only bash.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] after the limit, [`ErrorKind::Usage`] for port 0 and for an invalid address, and those of
    /// [`User::execute`].
    #[tracked]
    pub async fn wait_for_open_port(&self, port: u16, address: &str) -> Result {
        let script = looking(&format!(": 3<>{}", tcp(address, port)?), true);
        let what = format!("port {port} of {address} is open");
        self.look_by(&script, &format!("wait for open port {port}"), &what).await.map(drop)
    }

    /// Waits until no program listens on a TCP port. See [`User::wait_for_open_port`].
    ///
    /// # Errors
    /// Those of [`User::wait_for_open_port`].
    #[tracked]
    pub async fn wait_for_closed_port(&self, port: u16, address: &str) -> Result {
        let script = looking(&format!(": 3<>{}", tcp(address, port)?), false);
        let what = format!("port {port} of {address} is closed");
        self.look_by(&script, &format!("wait for closed port {port}"), &what).await.map(drop)
    }

    /// Waits until a program listens on a Unix socket of any type. The wait connects to it and closes the connection at
    /// once, which the server sees. A datagram socket is open when it is bound. `path` is resolved as this user; if a
    /// service has its own `/tmp`, a socket in it is in `/tmp/systemd-private-…/tmp`. `@NAME` is an abstract socket; a
    /// file whose name begins with `@` is `./@NAME`.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] after the limit, with the reason of the last failure; [`ErrorKind::Usage`] where the
    /// helper can't run in the machine and only a shell serves the control channel, and for an empty path or one with a
    /// NUL; and those of [`User::execute`].
    #[tracked]
    pub async fn wait_for_open_unix_socket(&self, path: &str) -> Result {
        self.wait_for_listener(path).await
    }

    /// Waits until a file (of any type) exists. The path is taken literally; for one with `*` or `~` see
    /// [`User::wait_for_file_matching`].
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] after the limit, [`ErrorKind::Usage`] for an empty path and one with a NUL, and those of
    /// [`User::execute`].
    #[tracked]
    pub async fn wait_for_file(&self, path: &str) -> Result {
        if path.is_empty() || path.contains('\0') {
            return Err(Error::new(ErrorKind::Usage, format!("{path:?} is no path of a file")));
        }
        // The check is a shell builtin. inotify is not used: no program that every machine has offers it.
        let script = looking(&format!("[ -e {} ]", quoted(path)), true);
        let what = format!("{path} is there");
        let waited = self.look_by(&script, &format!("wait for file {path}"), &what).await.map(drop);
        waited.map_err(|error| match error.kind() {
            ErrorKind::Timeout if globs::has_signs(path) => error.next_step(
                "a path is taken literally; `wait_for_file_matching` accepts `*`, `?`, `[…]` and `~` as a \
                 shell does",
            ),
            _ => error,
        })
    }

    /// Waits until a file (of any type) exists whose path matches a shell pattern with `*`, `?`, `[…]`, or `~` at the
    /// beginning. Returns the first path that matches.
    ///
    /// ```no_run
    /// # async fn example(machine: nixvm_test::machine::Machine) -> nixvm_test::Result {
    /// let socket = machine.wait_for_file_matching("/run/user/*/bus").await?;
    /// assert!(socket.ends_with("/bus"));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] after the limit, [`ErrorKind::Usage`] for an empty pattern and one with a NUL, and those
    /// of [`User::execute`].
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
    /// Waits until a program listens on a TCP port of the machine. See [`User::wait_for_open_port`].
    ///
    /// # Errors
    /// Those of [`User::wait_for_open_port`].
    #[tracked]
    pub async fn wait_for_open_port(&self, port: u16) -> Result {
        self.root().wait_for_open_port(port, "localhost").await
    }

    /// Waits until no program listens on a TCP port of the machine. See [`User::wait_for_closed_port`].
    ///
    /// # Errors
    /// Those of [`User::wait_for_closed_port`].
    #[tracked]
    pub async fn wait_for_closed_port(&self, port: u16) -> Result {
        self.root().wait_for_closed_port(port, "localhost").await
    }

    /// Waits until a program listens on a Unix socket. See [`User::wait_for_open_unix_socket`].
    ///
    /// # Errors
    /// Those of [`User::wait_for_open_unix_socket`].
    #[tracked]
    pub async fn wait_for_open_unix_socket(&self, path: &str) -> Result {
        self.root().wait_for_open_unix_socket(path).await
    }

    /// Waits until a file exists. See [`User::wait_for_file`].
    ///
    /// # Errors
    /// Those of [`User::wait_for_file`].
    #[tracked]
    pub async fn wait_for_file(&self, path: &str) -> Result {
        self.root().wait_for_file(path).await
    }

    /// Waits until a file exists whose path matches a pattern. See [`User::wait_for_file_matching`].
    ///
    /// # Errors
    /// Those of [`User::wait_for_file_matching`].
    #[tracked]
    pub async fn wait_for_file_matching(&self, pattern: &str) -> Result<String> {
        self.root().wait_for_file_matching(pattern).await
    }
}

/// Returns a script that repeats a check every 40 ms, with builtins only, until it succeeds (or fails).
fn looking(look: &str, until_success: bool) -> String {
    let done = if until_success { "&&" } else { "||" };
    format!(
        "set +e; exec {{z}}<> <(:)\nwhile :; do {{ {look}; }} 2>/dev/null {done} exit 0; read -rt .04 -u $z; done"
    )
}

/// Returns bash's own path to a port (bash(1), "REDIRECTION").
fn tcp(address: &str, port: u16) -> Result<String> {
    if address.is_empty() || !address.chars().all(|c| c.is_ascii_alphanumeric() || ".:-_%".contains(c)) {
        return Err(Error::new(ErrorKind::Usage, format!("{address:?} is not an address or a host name")));
    }
    if port == 0 {
        return Err(Error::new(ErrorKind::Usage, "no program can listen on port 0"));
    }
    Ok(format!("/dev/tcp/{address}/{port}"))
}
