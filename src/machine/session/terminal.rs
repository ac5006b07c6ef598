//! Asks root's channel about the state of a terminal. It is used only if it is already open.

use std::time::Duration;

use crate::channel::{Progress, Request, Shell};
use crate::machine::Life;

/// The limit for root to look at a terminal, on a fast host.
const LOOK: Duration = Duration::from_secs(2);
/// Maximum number of bytes kept of an answer.
const LONGEST: usize = 4096;

/// Prints the settings of the kernel's serial console. They contain `-echo` if its echo is off.
const ECHO: &str = r#"read -ra all </sys/class/tty/console/active; for t in "${all[@]}"; do case $t in tty[0-9]*) ;; *) exec stty -a -F "/dev/$t" ;; esac; done; exit 1"#;

/// Prints `reads` if `SHELL` or a process below it is in the foreground and waits for input on its terminal, otherwise
/// `no`. Such a process sleeps in the terminal's read. The fields of /proc/N/stat after the name are the state, the
/// parent, the group, the session, the terminal, and its foreground group.
const READS: &str = r#"shell=SHELL; declare -A parent front
for p in /proc/[0-9]*; do { read -r s <"$p/stat"; } 2>/dev/null || continue; n=${p#/proc/}; set -- ${s##*) }; parent[$n]=$2; [ "$5" != 0 ] && [ "$3" = "$6" ] && front[$n]=1; done
[ -n "${parent[$shell]-}" ] || exit 1
for n in "${!front[@]}"; do q=$n; while [ "${q:-0}" -gt 1 ] && [ "$q" != "$shell" ]; do q=${parent[$q]-0}; done; [ "$q" = "$shell" ] || continue
{ read -r w <"/proc/$n/wchan"; } 2>/dev/null || [ -n "$w" ] || exit 1
case $w in *tty_read*|wait_woken) echo reads; exit;; esac; done
echo no"#;

impl Life {
    /// Returns whether a process below the process `shell` waits for input; `None` if unknown.
    pub(crate) async fn is_read_below(&self, shell: &str) -> Option<bool> {
        if shell.is_empty() || !shell.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let said = self.root_says(&READS.replace("SHELL", shell)).await?;
        match said.trim() {
            "reads" => Some(true),
            "no" => Some(false),
            _ => None,
        }
    }

    /// Returns whether the console's terminal echoes input; `None` if unknown.
    pub(crate) async fn console_echoes(&self) -> Option<bool> {
        let said = self.root_says(ECHO).await?;
        let mut words = said.split_whitespace().map(|word| word.trim_end_matches(';'));
        words.find_map(|word| match word {
            "echo" => Some(true),
            "-echo" => Some(false),
            _ => None,
        })
    }

    /// Returns the output of a short root command, if root's channel is open and the command succeeds.
    pub(crate) async fn root_says(&self, command: &str) -> Option<String> {
        let channel = self.channels.root()?;
        let request = Request { text: command.to_owned(), shell: Shell::Bash, stdin: false, sum: false };
        let asking = async {
            let mut running = channel.run(request).await.ok()?;
            let mut said = Vec::new();
            loop {
                match running.next().await {
                    Ok(Progress::Stdout(bytes)) if said.len() < LONGEST => said.extend(bytes),
                    Ok(Progress::Stdout(_) | Progress::Stderr(_)) => {}
                    Ok(Progress::Exit(0)) => return Some(String::from_utf8_lossy(&said).into_owned()),
                    Ok(Progress::Exit(_)) | Err(_) => return None,
                }
            }
        };
        crate::stopped::timeout(self.limit(LOOK), asking).await.ok().flatten()
    }
}
