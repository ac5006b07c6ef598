//! X11 on a machine: the server, and its windows.

use super::Machine;
use crate::console::Pattern;
use crate::{Error, ErrorKind, Result};

/// As root, on the display `:0`. What lists windows is `xwininfo`, which has to be in the machine.
impl Machine {
    /// Waits until the X server takes connections on display `:0`.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] after the limit, and those of [`super::User::execute`].
    pub async fn wait_for_x(&self) -> Result {
        self.wait_for_open_unix_socket("/tmp/.X11-unix/X0").await
    }

    /// The names of the windows, hidden ones and those without a name of their own left out.
    ///
    /// # Errors
    /// [`ErrorKind::CommandFailed`] when there is no X server or no `xwininfo`, and those of
    /// [`super::User::execute`].
    pub async fn get_window_names(&self) -> Result<Vec<String>> {
        let output = self.root().succeed("DISPLAY=${DISPLAY:-:0} xwininfo -root -tree").await?;
        Ok(names(output.text()))
    }

    /// Waits until a window's name matches. Returns the name.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] after the limit ([`Machine::within`]) with the windows there are, and those of
    /// [`Machine::get_window_names`].
    pub async fn wait_for_window(&self, pattern: impl Into<Pattern>) -> Result<String> {
        let pattern = pattern.into();
        let life = self.life();
        life.step(format!("wait for window {pattern}"));
        let limit = life.limit(self.limit.unwrap_or(super::WAIT));
        let started = std::time::Instant::now();
        loop {
            let names = self.get_window_names().await?;
            if let Some(name) = names.iter().find(|name| pattern.matches(name)) {
                return Ok(name.clone());
            }
            if started.elapsed() > limit {
                let what = format!("{}: no window's name matched {pattern}", life.name);
                return Err(Error::new(ErrorKind::Timeout, what)
                    .took(started.elapsed(), limit)
                    .section("the windows", names.join("\n")));
            }
            // xwininfo itself takes longer than this.
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }
}

/// The names in what `xwininfo -root -tree` prints: `     0x1e00003 "a name": ("class" "Class") 80x24+0+0`.
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
    use super::names;

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
}
