//! Tests of the real guest side on this host: a shell loads it over a socket, as in a machine, and the
//! commands are real.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use super::guest::{LIMIT, options, request, soon};
use crate::ErrorKind;
use crate::channel::guest::helper_for;
use crate::channel::{Channel, Handshake, Progress, Request, Running, Shell, Way};

/// The server without the part that makes it a service.
const SERVER: &str = include_str!("../guest/server.sh");

const NONCE: &str = super::guest::NONCE;

/// What is typed on a console. `$1` is the path for the program.
const LOADER: &str = r#"
exec 3<&0
printf '\nnixvm-channel %s %s\n' "$2" "$(uname -m)" >&3
while read -r kind size nonce <&3; do
  [ "$nonce" = "$2" ] || continue
  head -c "$size" <&3 >"$1"
  if [ "$kind" = helper ]; then
    chmod 755 "$1"
    "$1" # It refuses to do nothing, where it runs.
    [ "$?" != 64 ] || exec "$1" serve 3 "$BASH"
    printf 'refused\n' >&3
  else
    . "$1"
    exit
  fi
done
"#;

/// A guest that is a process of this host.
pub(super) struct Native {
    pub(super) channel: Channel,
    process: Child,
    program: tempfile::TempDir,
}

impl Native {
    pub(super) async fn open(helper: fn(&str) -> Option<&'static [u8]>) -> Self {
        let program = tempfile::tempdir().unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let process = Command::new("bash")
            .args(["-c", LOADER, "bash"])
            .arg(program.path().join("program"))
            .arg(NONCE)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .current_dir(program.path())
            .spawn()
            .unwrap();
        ours.set_nonblocking(true).unwrap();
        let stream = tokio::net::UnixStream::from_std(ours).unwrap();
        let channel =
            Channel::open(stream, options(Handshake::Load { helper, server: SERVER })).await.unwrap();
        Self { channel, process, program }
    }

    /// Returns a guest for each of the two ways.
    async fn both() -> [Self; 2] {
        let both = [Self::open(helper_for).await, Self::open(|_| None).await];
        assert_eq!(both[0].channel.way(), Way::Helper);
        assert_eq!(both[1].channel.way(), Way::Shell);
        both
    }

    /// Returns the process that serves the channel.
    pub(super) fn pid(&self) -> u32 {
        self.process.id()
    }

    pub(super) async fn run(&self, text: &str) -> Outcome {
        outcome(self.channel.run(request(text)).await.unwrap()).await
    }
}

impl Drop for Native {
    /// All commands end together with the channel.
    fn drop(&mut self) {
        self.channel.close("the test is over");
        let end = Instant::now() + LIMIT;
        while self.process.try_wait().unwrap().is_none() {
            if Instant::now() > end {
                let _ = self.process.kill();
                assert!(std::thread::panicking(), "the guest's side does not end with the channel");
            }
            std::thread::yield_now();
        }
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    pub(super) status: i32,
}

async fn outcome(mut running: Running) -> Outcome {
    let mut outcome = Outcome::default();
    loop {
        match soon(running.next()).await.unwrap() {
            Progress::Stdout(piece) => outcome.stdout.extend(piece),
            Progress::Stderr(piece) => outcome.stderr.extend(piece),
            Progress::Exit(status) => {
                outcome.status = status;
                return outcome;
            }
        }
    }
}

fn is_alive(pid: &str) -> bool {
    let state = std::fs::read_to_string(Path::new("/proc").join(pid).join("stat"));
    state.is_ok_and(|stat| !stat.rsplit_once(')').unwrap().1.starts_with(" Z"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn statuses_and_outputs_are_exact() {
    for guest in Native::both().await {
        for (text, stdout, stderr, status) in [
            ("true", "", "", 0),
            ("false", "", "", 1),
            ("echo hello", "hello\n", "", 0),
            ("printf 'a\\0b\\377' | od -An -tx1", " 61 00 62 ff\n", "", 0),
            ("echo out; echo err >&2; exit 7", "out\n", "err\n", 7),
            ("false | true; echo not reached", "", "", 1),
            ("echo 'ü€😀'", "ü€😀\n", "", 0),
            ("kill -TERM $BASHPID", "", "", 143),
            ("cat", "", "", 0),
            ("x=1; cd /; pwd", "/\n", "", 0),
            ("echo ${x-unset}", "unset\n", "", 0),
            ("echo O 1 3 >&2", "", "O 1 3\n", 0),
            ("", "", "", 0),
        ] {
            let outcome = guest.run(text).await;
            let said = (String::from_utf8_lossy(&outcome.stdout), String::from_utf8_lossy(&outcome.stderr));
            let way = guest.channel.way();
            assert_eq!((&*said.0, &*said.1, outcome.status), (stdout, stderr, status), "{text} by {way:?}");
        }
        // The folder that it was started in.
        let here = guest.program.path().canonicalize().unwrap();
        assert_eq!(guest.run("pwd -P").await.stdout, format!("{}\n", here.display()).into_bytes());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_users_shell_is_another() {
    for guest in Native::both().await {
        let text = "false; echo $0".to_owned();
        let running =
            guest.channel.run(Request { text, shell: Shell::User, stdin: false, sum: false }).await.unwrap();
        let outcome = outcome(running).await;
        assert_eq!(outcome.status, 0, "no `set -e`: {outcome:?}");
        assert!(outcome.stdout.ends_with(b"sh\n"), "{outcome:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn input_of_many_bytes_comes_back_as_it_was() {
    for guest in Native::both().await {
        let bytes: Vec<u8> =
            (0..10_000_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let mut running = guest.channel.run(Request { stdin: true, ..request("cat") }).await.unwrap();
        let mut input = running.take_input().unwrap();
        let writing = tokio::spawn({
            let bytes = bytes.clone();
            async move {
                input.write(&bytes).await?;
                input.end().await
            }
        });
        let outcome = outcome(running).await;
        soon(writing).await.unwrap().unwrap();
        assert!(outcome.stdout == bytes && outcome.status == 0, "{:?}", guest.channel.way());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_reader_that_stops_early_holds_nobody_up() {
    for guest in Native::both().await {
        let mut running = guest.channel.run(Request { stdin: true, ..request("head -c 3") }).await.unwrap();
        let mut input = running.take_input().unwrap();
        let writing = tokio::spawn(async move {
            input.write(b"abc").await?;
            input.write(&vec![b'x'; 3_000_000]).await?;
            input.end().await
        });
        assert_eq!(outcome(running).await, Outcome { stdout: b"abc".to_vec(), ..Outcome::default() });
        soon(writing).await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn commands_run_at_once_and_live() {
    let guest = Native::open(helper_for).await;
    assert_eq!(guest.run("mkfifo f{0..20}").await.status, 0);
    let mut all = Vec::new();
    for number in 0..20 {
        // Each waits for the one after it, and reports that first.
        let text = format!("echo {number}; read -r line <f{}; echo >f{number}", number + 1);
        all.push(guest.channel.run(request(&text)).await.unwrap());
    }
    for (number, running) in all.iter_mut().enumerate() {
        assert_eq!(soon(running.next()).await.unwrap(), Progress::Stdout(format!("{number}\n").into_bytes()));
    }
    assert_eq!(guest.run("echo >f20; read -r line <f0").await.status, 0);
    for running in all {
        assert_eq!(outcome(running).await, Outcome::default());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn dropping_a_command_kills_all_of_it_and_leaves_the_channel() {
    let guest = Native::open(helper_for).await;
    let mut running = guest.channel.run(request("sleep 1000 & echo $! $BASHPID; wait")).await.unwrap();
    let Progress::Stdout(pids) = soon(running.next()).await.unwrap() else { panic!("pids") };
    let pids = String::from_utf8(pids).unwrap();
    assert!(pids.split_whitespace().all(is_alive), "{pids}");
    drop(running);
    soon(async {
        while pids.split_whitespace().any(is_alive) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(guest.run("echo still here").await.stdout, b"still here\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_background_process_that_holds_stdout_delays_nothing() {
    for guest in Native::both().await {
        let outcome = guest.run("sleep 1000 & echo $!").await;
        assert_eq!(outcome.status, 0);
        let pid = String::from_utf8(outcome.stdout).unwrap();
        assert!(is_alive(pid.trim()));
        assert_eq!(guest.run(&format!("kill {}", pid.trim())).await.status, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_channel_runs_within_a_channel() {
    let guest = Native::open(helper_for).await;
    let text = format!("exec ./program serve - \"$BASH\" {NONCE}");
    let carrier = guest.channel.run(Request { stdin: true, ..request(&text) }).await.unwrap();
    let inner = Channel::open(carrier.into_stream(), options(Handshake::Direct)).await.unwrap();
    let running = inner.run(request("seq 100000")).await.unwrap();
    let outcome = outcome(running).await;
    assert_eq!((outcome.stdout.len(), outcome.status), (588_895, 0));
    drop(inner);
    assert_eq!(guest.run("echo still here").await.stdout, b"still here\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_helper_that_can_not_run_is_replaced_by_the_shell() {
    let guest = Native::open(|_| Some(b"#!/no/such/interpreter\n")).await;
    assert_eq!(guest.channel.way(), Way::Shell);
    assert_eq!(guest.run("echo hello").await.stdout, b"hello\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_end_of_the_helper_is_the_end_of_the_channel() {
    let mut guest = Native::open(helper_for).await;
    let mut running = guest.channel.run(request("sleep 1000")).await.unwrap();
    guest.process.kill().unwrap();
    assert_eq!(soon(running.next()).await.unwrap_err().kind(), ErrorKind::ChannelLost);
}
