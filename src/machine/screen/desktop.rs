//! X11 on a machine: its server and its windows.

use nixvm_test_macros::tracked;

use crate::console::Pattern;
use crate::machine::Machine;
use crate::machine::output::Output;
use crate::{ErrorKind, Result};

/// The command that lists the windows.
const LIST: &str = "xwininfo -root -tree";

/// Precedes [`LIST`]. A server may ask for a key. If no key file is configured, it is the one that the server was
/// started with: the server's lock file has its process id, and that process has an `-auth FILE` (Xserver(1)).
const KEY: &str = r#"export DISPLAY=${DISPLAY:-:0}; if [ -z "${XAUTHORITY-}" ]; then n=${DISPLAY#*:}
{ read -r p <"/tmp/.X${n%%.*}-lock" && mapfile -d '' a <"/proc/$p/cmdline" &&
for i in "${!a[@]}"; do [ "${a[i]}" = -auth ] && export XAUTHORITY="${a[i+1]-}"; done; } 2>/dev/null || :
fi
"#;

/// # Windows
///
/// As root, on the display `:0` or root's `$DISPLAY`. The windows are listed by `xwininfo`, which the machine must
/// have. If a server asks for a key, its own key file is used, unless root's `$XAUTHORITY` names one.
impl Machine {
    /// Waits until the X server accepts connections on display `:0`.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] after the limit, and those of [`crate::machine::User::execute`].
    #[tracked]
    pub async fn wait_for_x(&self) -> Result {
        self.wait_for_open_unix_socket("/tmp/.X11-unix/X0").await
    }

    /// Returns the names of the windows, including hidden ones. Windows without their own name are left out.
    ///
    /// # Errors
    /// [`ErrorKind::CommandFailed`] when there is no X server or no `xwininfo`, and those of
    /// [`crate::machine::User::execute`].
    #[tracked]
    pub async fn get_window_names(&self) -> Result<Vec<String>> {
        let root = self.root();
        let output = root.command(format!("{KEY}exec {LIST}")).named(LIST).output().await?;
        match output.success() {
            true => Ok(names(output.text())),
            false => Err(self.life().unexpected(ErrorKind::CommandFailed, root.name(), &output, "0")),
        }
    }

    /// Waits until a window's name matches, and returns the name. Also waits for an X server that is not up yet.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] after the limit ([`Machine::within`]) with the existing windows,
    /// [`ErrorKind::CommandFailed`] when the machine has no `xwininfo`, and those of [`crate::machine::User::execute`].
    #[tracked]
    pub async fn wait_for_window(&self, pattern: impl Into<Pattern>) -> Result<String> {
        let (pattern, root, life) = (pattern.into(), self.root(), self.life());
        let wanted = pattern.clone();
        let judge = move |look: &[u8]| match seen(look) {
            (NOT_FOUND, said) => Some(Err(said)),
            (_, said) => names(&said).into_iter().find(|name| wanted.matches(name)).map(Ok),
        };
        let look = format!("w=$({KEY}exec {LIST} 2>&1); echo \"$? $w\"");
        match root.look_until(&look, &format!("wait for window {pattern}"), judge).await? {
            Ok(Ok(name)) => Ok(name),
            Ok(Err(said)) => {
                let output = Output::new(LIST, NOT_FOUND, Vec::new(), said.into_bytes());
                Err(life.unexpected(ErrorKind::CommandFailed, root.name(), &output, "0"))
            }
            Err(in_vain) => {
                let error = in_vain.error(format!("{}: no window name matched {pattern}", life.name));
                let error = pattern.hint(error);
                let (status, said) = seen(&in_vain.last);
                Err(match status {
                    0 => error.section("the windows", names(&said).join("\n")),
                    _ => error.section("xwininfo said", said),
                })
            }
        }
    }
}

/// A shell's status for a missing program.
const NOT_FOUND: i32 = 127;

/// Returns the result of a sample: the status of `xwininfo`, and its output.
fn seen(look: &[u8]) -> (i32, String) {
    let text = String::from_utf8_lossy(look);
    let (status, said) = text.split_once(' ').unwrap_or_default();
    // No status, if there was no sample at all.
    (status.parse().unwrap_or(-1), said.trim_end().to_owned())
}

/// Returns the names in the output of `xwininfo -root -tree`: `     0x1e00003 "a name": ("class" "Class") 80x24+0+0`.
fn names(tree: &str) -> Vec<String> {
    tree.lines()
        .filter_map(|line| {
            let rest = line.trim_start();
            let rest = rest.strip_prefix("0x")?.split_once(" \"")?.1;
            let (name, _) = rest.rsplit_once("\": (")?;
            Some(name.to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{names, seen};

    #[test]
    fn the_names_of_windows_are_found() {
        let tree = r#"
xwininfo: Window id: 0x29a (the root window) (has no name)

  Root window id: 0x29a (the root window) (has no name)
  Parent window id: 0x0 (none)
     2 children:
     0x20000c "alice: "x": y": ("xterm" "XTerm")  484x316+0+0  +0+0
     0x200003 (has no name): ()  1x1+-1+-1  +-1+-1
"#;
        assert_eq!(names(tree), ["alice: \"x\": y"]);
    }

    #[test]
    fn a_look_tells_the_status_and_what_was_said() {
        assert_eq!(seen(b"0 \nxwininfo: Window id\n"), (0, "\nxwininfo: Window id".to_owned()));
        assert_eq!(seen(b"127 xwininfo: not found\n"), (127, "xwininfo: not found".to_owned()));
        assert_eq!(seen(b""), (-1, String::new()));
    }
}
