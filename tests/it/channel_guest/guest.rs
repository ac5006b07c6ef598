//! What serves the control channel in a machine, run here, on a socket instead of a port, and spoken to in
//! frames made by hand.

use std::collections::VecDeque;
use std::fmt;
use std::io::{ErrorKind, Read};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::SendFlags;

use crate::hang::HANG as LIMIT;

/// What serves the channel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Way {
    Helper,
    /// The shell server, in this shell.
    Shell(&'static str),
}

/// One frame.
#[derive(Clone, PartialEq)]
pub struct Frame {
    pub kind: char,
    pub id: u32,
    pub content: Vec<u8>,
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.content[..self.content.len().min(200)];
        write!(f, "{} {} {} {}", self.kind, self.id, self.content.len(), shown.escape_ascii())
    }
}

/// What became of a command.
#[derive(Clone, Default, PartialEq)]
pub struct Outcome {
    /// Its status; none when it couldn't be started.
    pub status: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    /// Why it couldn't be started.
    pub refused: String,
    /// How many bytes of its input were taken.
    pub taken: usize,
}

impl Outcome {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).expect("UTF-8")
    }
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (stdout, stderr) = (self.stdout.escape_ascii(), self.stderr.escape_ascii());
        write!(f, "{:?} {} out {stdout} err {stderr}", self.status, self.refused)
    }
}

/// A guest's end that runs, and the host's end.
pub struct Guest {
    pub way: Way,
    child: Child,
    port: UnixStream,
    buffer: Vec<u8>,
    /// Frames that came while another command's were waited for.
    aside: VecDeque<Frame>,
    next: u32,
}

/// Has `command` inherit the environment of this test: without the variables that cargo passes on to tests, and without
/// those that a person has set for nixvm-test.
pub fn inherits(command: &mut Command) {
    let ours = |name: &std::ffi::OsString| name.to_string_lossy().to_lowercase().starts_with("nixvm");
    std::env::vars_os().filter(|(name, _)| ours(name)).for_each(|(name, _)| {
        command.env_remove(name);
    });
    command.env("NIXVM_TEST", "inherited");
}

impl Guest {
    /// Starts one, and has heard its hello.
    pub fn start(way: Way) -> Guest {
        Guest::start_in(way, Path::new("."))
    }

    /// Starts one in a folder.
    pub fn start_in(way: Way, folder: &Path) -> Guest {
        let mut command = match way {
            Way::Helper => {
                let mut command = Command::new(env!("NIXVM_GUEST_HELPER"));
                command.args(["serve", "-", bash(), "abc123"]);
                command
            }
            Way::Shell(shell) => {
                let mut command = Command::new(shell);
                let server = concat!(env!("CARGO_MANIFEST_DIR"), "/src/channel/guest/server.sh");
                let script = r#"exec 3<&0; printf '\nnixvm-channel abc123 %s\n' "$(uname -m)" >&3; . "$0""#;
                command.args(["-c", script, server]);
                command
            }
        };
        inherits(&mut command);
        command.current_dir(folder);
        let mut guest = Guest::spawn(way, command);
        guest.skip_preamble();
        let hello = guest.frame();
        assert_eq!((hello.kind, hello.id), ('H', 0));
        let hello = String::from_utf8(hello.content).unwrap();
        let name = if way == Way::Helper { "helper" } else { "shell" };
        assert!(hello.contains(&format!("version 1\nway {name}\nbash /")), "{hello}");
        guest
    }

    /// Starts a program with one end of a socket as standard input and output.
    pub fn spawn(way: Way, mut command: Command) -> Guest {
        let (port, theirs) = UnixStream::pair().unwrap();
        port.set_read_timeout(Some(LIMIT)).unwrap();
        port.set_write_timeout(Some(LIMIT)).unwrap();
        let theirs = OwnedFd::from(theirs);
        command.stdin(Stdio::from(theirs.try_clone().unwrap())).stdout(Stdio::from(theirs));
        let child = command.spawn().expect("it starts");
        Guest { way, child, port, buffer: Vec::new(), aside: VecDeque::new(), next: 1 }
    }

    fn skip_preamble(&mut self) {
        let wanted = format!("\nnixvm-channel abc123 {}\n", std::env::consts::ARCH);
        while self.buffer.len() < wanted.len() {
            self.fill();
        }
        assert!(self.buffer.starts_with(wanted.as_bytes()), "{}", self.buffer.escape_ascii());
        self.buffer.drain(..wanted.len());
    }

    /// Skips what comes before the hello, whatever it is.
    pub fn skip_to_hello(&mut self) {
        let hello = |buffer: &[u8]| buffer.windows(5).position(|five| five == b"\nH 0 ");
        while hello(&self.buffer).is_none() {
            self.fill();
        }
        let start = hello(&self.buffer).unwrap() + 1;
        self.buffer.drain(..start);
        assert_eq!(self.frame().kind, 'H');
    }

    fn fill(&mut self) {
        let mut piece = vec![0; 1 << 17];
        let n = loop {
            match self.port.read(&mut piece) {
                // A child of another test has ended, in a process that runs several.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => break read.expect("an answer in time"),
            }
        };
        assert!(n > 0, "the guest closed the channel");
        self.buffer.extend_from_slice(&piece[..n]);
    }

    /// The next frame, whosever it is.
    pub fn frame(&mut self) -> Frame {
        loop {
            if let Some(end) = self.buffer.iter().position(|&byte| byte == b'\n') {
                let header = std::str::from_utf8(&self.buffer[..end]).expect("a header");
                let words: Vec<&str> = header.split(' ').collect();
                let [kind, id, length] = words[..] else { panic!("no header: {header}") };
                let (id, length): (u32, usize) = (id.parse().unwrap(), length.parse().unwrap());
                assert!(kind.len() == 1 && length <= 65536, "{header}");
                if self.buffer.len() > end + length {
                    let content = self.buffer[end + 1..=end + length].to_vec();
                    let kind = kind.chars().next().unwrap();
                    self.buffer.drain(..=end + length);
                    return Frame { kind, id, content };
                }
            }
            self.fill();
        }
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) {
        let mut left = bytes;
        while !left.is_empty() {
            let mut ready = [PollFd::new(&self.port, PollFlags::IN | PollFlags::OUT)];
            let limit = Timespec { tv_sec: LIMIT.as_secs() as i64, tv_nsec: 0 };
            assert_eq!(poll(&mut ready, Some(&limit)), Ok(1), "the guest reads");
            let ready = ready[0].revents();
            // As the host does: a guest that can't say what it has to say takes nothing more.
            if ready.contains(PollFlags::IN) {
                self.fill();
            } else {
                let sent = rustix::net::send(&self.port, left, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
                left = &left[sent.expect("the guest reads")..];
            }
        }
    }

    /// Whether the guest has not closed the channel. What it says is passed over.
    pub fn is_open(&mut self) -> bool {
        let mut ready = [PollFd::new(&self.port, PollFlags::IN | PollFlags::OUT)];
        let limit = Timespec { tv_sec: LIMIT.as_secs() as i64, tv_nsec: 0 };
        assert_eq!(poll(&mut ready, Some(&limit)), Ok(1), "the guest reads or closes");
        let said = ready[0].revents().contains(PollFlags::IN);
        !said || self.port.read(&mut [0; 1 << 17]).is_ok_and(|count| count > 0)
    }

    /// Sends as much of a frame as the guest takes before it closes the channel.
    pub fn try_to_send_frame(&mut self, kind: char, id: u32, content: &[u8]) {
        let mut frame = format!("{kind} {id} {}\n", content.len()).into_bytes();
        frame.extend_from_slice(content);
        let mut left = &frame[..];
        while !left.is_empty() && self.is_open() {
            let sent = rustix::net::send(&self.port, left, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
            left = &left[sent.unwrap_or(0)..];
        }
    }

    pub fn send_frame(&mut self, kind: char, id: u32, content: &[u8]) {
        let mut frame = format!("{kind} {id} {}\n", content.len()).into_bytes();
        frame.extend_from_slice(content);
        self.send(&frame);
    }

    /// Asks what takes no command.
    pub fn begin_question(&mut self, question: &[u8]) -> u32 {
        let id = self.next;
        self.next += 1;
        self.send_frame('Q', id, question);
        id
    }

    /// Starts a command; `options` are the lines of its R frame.
    pub fn begin(&mut self, text: &str, options: &str) -> u32 {
        let id = self.next;
        self.next += 1;
        for piece in text.as_bytes().chunks(65536) {
            self.send_frame('T', id, piece);
        }
        self.send_frame('R', id, options.as_bytes());
        id
    }

    /// The next frame of a command; others' are put aside.
    pub fn frame_of(&mut self, id: u32) -> Frame {
        if let Some(at) = self.aside.iter().position(|frame| frame.id == id) {
            return self.aside.remove(at).unwrap();
        }
        loop {
            let frame = self.frame();
            if frame.id == id {
                return frame;
            }
            self.aside.push_back(frame);
        }
    }

    /// Waits for a command's end.
    pub fn finish(&mut self, id: u32) -> Outcome {
        let mut outcome = Outcome::default();
        loop {
            let frame = self.frame_of(id);
            let text = || String::from_utf8(frame.content.clone()).unwrap();
            match frame.kind {
                'O' => outcome.stdout.extend(frame.content),
                'E' => outcome.stderr.extend(frame.content),
                'A' => outcome.taken += text().parse::<usize>().unwrap(),
                'F' => {
                    outcome.refused = text();
                    return outcome;
                }
                'X' => {
                    let text = text();
                    let status = text.strip_prefix("status ").and_then(|text| text.strip_suffix('\n'));
                    outcome.status = Some(status.expect("a status").parse().unwrap());
                    return outcome;
                }
                other => panic!("a frame {other} for a command"),
            }
        }
    }

    /// Runs a command in bash.
    pub fn run(&mut self, text: &str) -> Outcome {
        self.run_with(text, "shell bash\n")
    }

    pub fn run_with(&mut self, text: &str, options: &str) -> Outcome {
        let id = self.begin(text, options);
        self.finish(id)
    }

    pub fn kill(&mut self, id: u32, signal: i32) {
        self.send_frame('K', id, signal.to_string().as_bytes());
    }

    /// Sends a ping and waits for it: whatever was asked before has been taken.
    pub fn ping(&mut self) {
        let id = self.next;
        self.next += 1;
        self.send_frame('P', id, b"are you there");
        assert_eq!(self.frame_of(id), Frame { kind: 'P', id, content: b"are you there".to_vec() });
    }

    /// Waits until the helper has shells that wait for commands.
    pub fn wait_until_ready(&self) {
        let pid = self.pid();
        until("shells are ready", || {
            let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
            children.is_ok_and(|children| children.split_whitespace().count() >= 8)
        });
    }

    /// The process that serves.
    pub fn pid(&self) -> i32 {
        self.child.id().try_into().unwrap()
    }

    /// Closes the host's end and waits for the guest's.
    pub fn close(&mut self) -> ExitStatus {
        self.port.shutdown(Shutdown::Both).unwrap();
        self.wait()
    }

    /// Waits for the guest's end.
    pub fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        until("it has ended", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    /// Whether nothing is left to read but the end.
    pub fn ended(&mut self) -> bool {
        let mut rest = Vec::new();
        self.port.read_to_end(&mut rest).is_ok() && rest.is_empty()
    }

    /// Frames that nobody asked for.
    pub fn unexpected(&self) -> &VecDeque<Frame> {
        &self.aside
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // It may be gone already.
        self.port.shutdown(Shutdown::Both).ok();
        self.child.wait().ok();
    }
}

/// Where bash is.
pub fn bash() -> &'static str {
    ["/bin/bash", "/usr/bin/bash", "/run/current-system/sw/bin/bash"]
        .into_iter()
        .find(|path| std::path::Path::new(path).exists())
        .expect("a bash")
}

/// Looks again and again, until it is so.
pub fn until(what: &str, mut so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !so() {
        assert!(start.elapsed() < LIMIT, "{what}: not within {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether a process runs: not one that ended and that nobody has asked about.
pub fn runs(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit(") ").next().is_some_and(|rest| !rest.starts_with(['Z', 'X'])))
}

/// The numbers in a file, once there are so many.
pub fn numbers(file: &std::path::Path, count: usize) -> Vec<i32> {
    let mut found = Vec::new();
    until("the file has its lines", || {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        found = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')?.parse().ok()).collect();
        found.len() >= count
    });
    found
}
