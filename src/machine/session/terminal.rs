//! Asks root's channel about the state of a terminal. It is used only if it is already open.

use std::time::Duration;

use crate::channel::{Progress, Request, Shell};
use crate::machine::Life;

/// The limit for root to look at a terminal, on a fast host.
const LOOK: Duration = Duration::from_secs(2);
/// Maximum number of bytes kept of an answer.
const LONGEST: usize = 4096;

/// Prints the settings of the serial console: ttyS0, or the kernel's first console that is no screen. They contain `-echo`
/// if its echo is off.
const ECHO: &str = r#"read -ra all </sys/class/tty/console/active; case " ${all[*]} " in *" ttyS0 "*) all=(ttyS0) ;; esac; for t in "${all[@]}"; do case $t in tty[0-9]*) ;; *) exec stty -a -F "/dev/$t" ;; esac; done; exit 1"#;

/// Prints `reads` if `SHELL` or a process below it is in the foreground and waits for input on its terminal, otherwise
/// `no`. It fails if a process without children waits in poll(2), because that may be for the terminal. The fields of
/// /proc/N/stat after the name are the state, the parent, the group, the session, the terminal, and its foreground group.
/// Reads of terminals and of sockets sleep in `wait_woken`, so the system call and the file decide: 0 is read(2) on
/// x86-64, 3 on x86 and ARM, 63 on ARM64 and RISC-V. Character devices other than terminals sleep elsewhere.
const READS: &str = r#"shell=SHELL; declare -A parent front starts
for p in /proc/[0-9]*; do { read -r s <"$p/stat"; } 2>/dev/null || continue; n=${p#/proc/}; set -- ${s##*) }; parent[$n]=$2; starts[$2]=1; [ "$5" != 0 ] && [ "$3" = "$6" ] && front[$n]=1; done
[ -n "${parent[$shell]-}" ] || exit 1
unsure=
for n in "${!front[@]}"; do q=$n; while [ "${q:-0}" -gt 1 ] && [ "$q" != "$shell" ]; do q=${parent[$q]-0}; done; [ "$q" = "$shell" ] || continue
{ read -r w <"/proc/$n/wchan"; } 2>/dev/null || [ -n "$w" ] || exit 1
case $w in *tty_read*|wait_woken) ;; *poll*|*select*) [ -n "${starts[$n]-}" ] || unsure=1; continue ;; *) continue ;; esac
{ read -r call file _ <"/proc/$n/syscall"; } 2>/dev/null || exit 1
case $call in 0|3|63) [ -c "/proc/$n/fd/$((file))" ] && { echo reads; exit; } ;; esac; done
[ -z "$unsure" ] || exit 1
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

    /// Returns whether the process `pid` lives; `None` if unknown.
    pub(crate) async fn lives(&self, pid: &str) -> Option<bool> {
        if pid.is_empty() || !pid.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        // A process that has ended and was not waited for has no program.
        let said = self.root_says(&format!("[ -e /proc/{pid}/exe ]; echo $?")).await?;
        match said.trim() {
            "0" => Some(true),
            "1" => Some(false),
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

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::process::{Child, Command};

    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

    use super::*;

    fn bash(script: &str) -> String {
        let said = Command::new("bash").args(["-c", script]).output().expect("bash runs");
        String::from_utf8(said.stdout).expect("text")
    }

    /// What READS says of a program in the foreground of a terminal of its own, once it waits for something.
    fn reads(program: &str) -> String {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&terminal).and_then(|()| unlockpt(&terminal)).expect("a terminal");
        let path = ptsname(&terminal, Vec::new()).expect("its name");
        let path = path.to_str().expect("a path");
        let its = || std::fs::File::options().read(true).write(true).open(path).expect("the terminal");
        let mut command = Command::new("setsid");
        command.args(["--ctty", "bash", "-c", program]).stdin(its()).stdout(its()).stderr(its());
        let program = Program(command.spawn().expect("setsid runs"));
        let shell = program.0.id();
        // An answer before that is "no", or none.
        let waits = || {
            let place = std::fs::read_to_string(format!("/proc/{shell}/wchan")).unwrap_or_default();
            ["wait_woken", "tty_read", "poll", "select", "nanosleep"]
                .iter()
                .any(|known| place.contains(known))
        };
        while !waits() {
            std::thread::sleep(Duration::from_millis(5));
        }
        bash(&READS.replace("SHELL", &shell.to_string())).trim().to_owned()
    }

    struct Program(Child);

    impl Drop for Program {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn a_program_that_reads_its_terminal_is_told_from_one_that_reads_a_socket() {
        let server = TcpListener::bind("127.0.0.1:0").expect("a socket");
        let port = server.local_addr().expect("its address").port();
        let socket = format!("exec 3<>/dev/tcp/127.0.0.1/{port}; exec cat <&3");
        assert_eq!(reads("exec cat"), "reads");
        assert_eq!(reads("exec cat </dev/tty"), "reads");
        assert_eq!(reads("exec sleep 1000"), "no");
        assert_eq!(reads(&socket), "no");
        // readline waits by pselect(2), as a program does that reads something else.
        assert_eq!(reads("read -e line"), "");
    }

    #[test]
    fn the_serial_console_is_asked_for_its_echo_wherever_it_stands_in_the_list() {
        let folder = tempfile::tempdir().expect("a folder");
        let list = folder.path().join("active");
        let script = ECHO.replace("/sys/class/tty/console/active", list.to_str().expect("a path"));
        let asked = |active: &str| {
            std::fs::write(&list, active).expect("a list");
            bash(&script.replace("exec stty -a -F", "exec echo")).trim().to_owned()
        };
        assert_eq!(asked("hvc0 ttyS0\n"), "/dev/ttyS0");
        assert_eq!(asked("tty0 ttyS0\n"), "/dev/ttyS0");
        assert_eq!(asked("tty0 ttyAMA0 hvc0\n"), "/dev/ttyAMA0");
        assert_eq!(asked("tty0\n"), "");
    }
}
