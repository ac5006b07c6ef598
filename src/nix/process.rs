//! Runs Nix: passes on its output line by line, limits its time, and ends it when this process ends.

use std::io::{PipeWriter, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt as _;

use super::ending::Process;
use super::line::Lines;

/// How a run ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) status: ExitStatus,
    /// Its stdout, at most [`STDOUT_KEPT`] bytes.
    pub(super) stdout: String,
    pub(super) took: Duration,
}

/// Why a run has no exit status.
#[derive(Debug)]
pub(super) enum Stopped {
    /// The program could not be started, or its output could not be read.
    Io(std::io::Error),
    /// It exceeded its time limit and was killed.
    Limit,
}

const STDOUT_KEPT: usize = 64 * 1024;

/// Maximum time to read output after Nix has exited: a process that it left behind may hold the pipe open.
const DRAIN: Duration = Duration::from_secs(1);

/// Capacity of its two pipes (pipe(7)), which may be full when that time is over.
const PIPES: usize = 2 * 64 * 1024;

/// Runs `command` to its end; each line of its stderr goes to `on_line`. Dropping the future ends the command with all
/// its builders, and so does the death of this process.
pub(super) async fn run(
    mut command: std::process::Command,
    limit: Duration,
    mut on_line: impl FnMut(&str) + Send,
) -> Result<Ended, Stopped> {
    let started = Instant::now();
    // Its own process group: ctrl-C reaches only this process, which then ends the group in order.
    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // Started first: if this process is killed in between, no Nix is left running.
    let watch = watch();
    let mut child = tokio::process::Command::from(command).spawn().map_err(Stopped::Io)?;
    let (mut stdout, mut stderr) = (child.stdout.take(), child.stderr.take());
    // Created after the pipes, so that it ends before they are closed: Nix does not clean up if it cannot print its
    // error.
    let mut running = Running::new(child, watch.ok());
    let (mut from_out, mut from_err) = (vec![0; 16 * 1024], vec![0; 16 * 1024]);
    let (mut out, mut lines) = (Vec::new(), Lines::default());
    let (mut status, mut late) = (None, 0);
    let mut deadline = tokio::time::Instant::now() + limit;
    while status.is_none() || stdout.is_some() || stderr.is_some() {
        tokio::select! {
            // This order ensures that a flood of output delays neither the limit nor the exit, and that output written
            // in time is read even if this process is late.
            biased;
            () = tokio::time::sleep_until(deadline), if status.is_none() || late > PIPES => break,
            ended = running.child.wait(), if status.is_none() => {
                status = Some(ended.map_err(Stopped::Io)?);
                deadline = deadline.min(tokio::time::Instant::now() + DRAIN);
            }
            count = read(&mut stderr, &mut from_err), if stderr.is_some() => {
                let count = count.map_err(Stopped::Io)?;
                late += if tokio::time::Instant::now() > deadline { count } else { 0 };
                match count {
                    0 => stderr = None,
                    count => lines.push(from_err.get(..count).unwrap_or_default(), &mut on_line),
                }
            }
            count = read(&mut stdout, &mut from_out), if stdout.is_some() => {
                let count = count.map_err(Stopped::Io)?;
                late += if tokio::time::Instant::now() > deadline { count } else { 0 };
                match count {
                    0 => stdout = None,
                    count => {
                        let room = STDOUT_KEPT.saturating_sub(out.len()).min(count);
                        out.extend_from_slice(from_out.get(..room).unwrap_or_default());
                    }
                }
            }
            () = tokio::time::sleep_until(deadline), if status.is_some() => break,
        }
    }
    lines.finish(&mut on_line);
    match status {
        Some(status) => {
            let stdout = String::from_utf8_lossy(&out).into_owned();
            Ok(Ended { status, stdout, took: started.elapsed() })
        }
        None => Err(Stopped::Limit),
    }
}

async fn read(
    from: &mut Option<impl tokio::io::AsyncRead + Unpin>,
    into: &mut [u8],
) -> std::io::Result<usize> {
    match from {
        Some(from) => from.read(into).await,
        None => Ok(0),
    }
}

/// Nix with its process group; ended on drop, if it has not exited by itself.
struct Running {
    child: tokio::process::Child,
    process: Option<Process>,
    watch: Option<PipeWriter>,
}

impl Running {
    fn new(child: tokio::process::Child, mut watch: Option<PipeWriter>) -> Self {
        if let (Some(watch), Some(pid)) = (&mut watch, child.id()) {
            // Fails only if the watching shell is gone, and then there is nothing to do.
            let _ = writeln!(watch, "{pid}");
        }
        let process = child.id().and_then(Process::under_way);
        Self { child, process, watch }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(process) = self.process {
            process.end();
            process.forget();
        }
        if let Some(mut watch) = self.watch.take() {
            // Fails only if the watching shell is gone, and then there is nothing to do.
            let _ = watch.write_all(b"ended\n");
        }
    }
}

/// Starts a shell that gets the pid of a process group, and ends the group if this process dies without reporting that
/// the group has ended. After SIGKILL this is the only way to end it.
fn watch() -> std::io::Result<PipeWriter> {
    const SCRIPT: &str = "trap '' HUP INT QUIT TERM TSTP
read -r group || exit 0; read -r _ && exit 0
kill -s TERM -- \"-$group\"; i=0
while [ $i -lt 30 ] && kill -s 0 -- \"-$group\" 2>/dev/null; do i=$((i + 1)); sleep 0.1; done
kill -s KILL -- \"-$group\" 2>/dev/null";
    let (sign, alive) = std::io::pipe()?;
    let mut shell = std::process::Command::new("/bin/sh")
        .args(["-c", SCRIPT, "nixvm-build-watch"])
        .current_dir("/")
        .process_group(0)
        .stdin(sign)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    // A thread waits for it, since it exits a moment after the message.
    std::thread::Builder::new().name("build-watch".to_owned()).spawn(move || drop(shell.wait()))?;
    Ok(alive)
}

#[cfg(test)]
mod tests {
    use rustix::process::{Pid, Signal, kill_process};

    use super::*;
    use crate::hang::HANG;

    fn shell(script: &str) -> std::process::Command {
        let mut command = std::process::Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    fn gone(pid: i32) -> bool {
        // A zombie that its parent has not waited for counts as gone.
        let state = std::fs::read_to_string(format!("/proc/{pid}/stat"));
        !state.is_ok_and(|stat| stat.rsplit(')').next().is_some_and(|rest| !rest.starts_with(" Z")))
    }

    /// Waits until the condition holds.
    fn until(what: impl Fn() -> bool) {
        let begun = Instant::now();
        while !what() {
            assert!(begun.elapsed() < HANG);
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Runs `script` until it prints on stderr, then drops it.
    async fn given_up(script: &str) -> String {
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let run = run(shell(script), HANG, move |line| drop(tell.send(line.to_owned())));
        tokio::select! {
            ended = run => panic!("{ended:?}"),
            line = told.recv() => line.unwrap(),
        }
    }

    #[tokio::test]
    async fn lines_stdout_and_status_are_told() {
        let mut lines = Vec::new();
        let script = "echo one >&2; printf 'two\\nthr' >&2; echo /nix/store/x; printf ee >&2; exit 7";
        let ended = run(shell(script), HANG, |line| lines.push(line.to_owned())).await.unwrap();
        assert_eq!(lines, ["one", "two", "three"]);
        assert_eq!(ended.stdout, "/nix/store/x\n");
        assert_eq!(ended.status.code(), Some(7));
    }

    #[tokio::test]
    async fn a_flood_on_both_sides_does_not_block_it_and_is_bounded() {
        let script = "i=0; while [ $i -lt 2000 ]; do echo 0123456789012345678901234567890123456789012345678901234567890123456789; \
                      echo err >&2; i=$((i+1)); done";
        let mut count = 0;
        let ended = run(shell(script), HANG, |_| count += 1).await.unwrap();
        assert_eq!((count, ended.stdout.len()), (2000, STDOUT_KEPT));
    }

    #[tokio::test]
    async fn what_is_left_behind_with_the_pipe_open_does_not_hold_the_run_up() {
        let mut lines = Vec::new();
        let script = "setsid sleep 1000 & echo $! >&2";
        let ended = run(shell(script), HANG, |line| lines.push(line.to_owned())).await.unwrap();
        assert!(!gone(lines[0].parse().unwrap()), "{ended:?}");
        end(&lines[0]);
    }

    #[tokio::test]
    async fn what_is_left_behind_and_floods_its_output_does_not_hold_the_run_up() {
        let folder = tempfile::tempdir().unwrap();
        let flooded = folder.path().join("flooded");
        // Its first process exits while the flood continues.
        let script = format!(
            "setsid sh -c 'echo $$ >&2; exec yes '$(head -c 8000 /dev/zero | tr '\\0' x)' >&2' & \
             until [ -e {} ]; do sleep 0.01; done",
            flooded.display()
        );
        let (mut process, mut count) = (None, 0);
        let on_line = |line: &str| {
            process.get_or_insert_with(|| line.to_owned());
            count += 1;
            if count == 10 {
                std::fs::write(&flooded, "").unwrap();
            }
            // Meanwhile the pipe fills again.
            std::thread::sleep(Duration::from_millis(10));
        };
        let ended = run(shell(&script), HANG, on_line).await;
        end(&process.unwrap());
        assert!(ended.is_ok(), "{ended:?}");
    }

    fn end(process: &str) {
        let _ = kill_process(Pid::from_raw(process.parse().unwrap()).unwrap(), Signal::KILL);
    }

    #[tokio::test]
    async fn what_was_written_in_time_is_read_by_a_process_that_gets_to_it_late() {
        let folder = tempfile::tempdir().unwrap();
        let (ended, written) = (folder.path().join("ended"), folder.path().join("written"));
        // Waits until the first process is gone, so its exit may be noticed.
        let script = format!(
            "setsid sh -c 'until [ -e {} ]; do sleep 0.01; done; echo $$ >&2; head -c 60000 /dev/zero; touch {}; \
             exec sleep 1000' & echo $$ >&2",
            ended.display(),
            written.display()
        );
        let mut lines: Vec<String> = Vec::new();
        let on_line = |line: &str| {
            lines.push(line.to_owned());
            let path = ended.clone();
            match lines.len() {
                1 => drop(std::thread::spawn({
                    let first = line.parse().unwrap();
                    move || {
                        until(|| gone(first));
                        std::fs::write(path, "").unwrap();
                    }
                })),
                // Simulates a host that gives this process no processor time.
                _ => {
                    until(|| written.exists());
                    std::thread::sleep(DRAIN);
                }
            }
        };
        let outcome = run(shell(&script), HANG, on_line).await.unwrap();
        end(&lines[1]);
        assert_eq!(outcome.stdout.len(), 60_000);
    }

    #[tokio::test]
    async fn the_limit_ends_it_and_a_builder_in_a_session_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pids");
        // Like Nix: a builder in its own session, with a child, that ignores SIGTERM.
        let script = format!(
            "trap '' TERM; setsid sh -c 'trap \"\" TERM; echo $$ >{0}; sleep 1000 & echo $! >>{0}; echo >&2; wait; \
             sleep 1000'",
            file.display()
        );
        // After the first line the clock jumps to the next deadline: the limit.
        let run = run(shell(&script), HANG, |_| tokio::time::pause());
        assert!(matches!(run.await, Err(Stopped::Limit)));
        let pids = std::fs::read_to_string(&file).unwrap();
        let pids: Vec<i32> = pids.lines().map(|pid| pid.parse().unwrap()).collect();
        assert_eq!(pids.len(), 2);
        until(|| pids.iter().all(|&pid| gone(pid)));
    }

    #[tokio::test]
    async fn a_build_that_is_ended_is_cleaned_up_after() {
        let folder = tempfile::tempdir().unwrap();
        let work = folder.path().join("work");
        // Like Nix: it removes the folder of a failed build, but not that of an interrupted one.
        let script = format!(
            "trap 'exit 1' TERM; mkdir {0}; setsid sh -c 'while :; do echo x >>{0}/file; echo >&2; sleep 0.01; done' & \
             wait $!; rm -r {0}",
            work.display()
        );
        given_up(&script).await;
        assert!(!work.exists());
    }

    #[tokio::test]
    async fn dropping_the_run_ends_it() {
        let pid = given_up("echo $$ >&2; exec sleep 1000").await.parse().unwrap();
        until(|| gone(pid));
    }
}
