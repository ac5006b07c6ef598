//! The contenders, each doing the same: find the prompt behind a flood, wait in silence, ask and be answered.

use std::fmt;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

use expectrl::Expect;
use nixvm_test::console::{Console, ConsoleOptions, Pattern as Ours, Watch};

use crate::{PROMPT, PROMPT_REGEX, guest, pty};

/// A flood that takes longer is given up.
pub const LIMIT: Duration = Duration::from_secs(20);
/// How long nothing is said for the processor time of an idle wait.
const SILENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contender {
    /// `read` into a buffer, and a look at the last bytes: nobody can be faster.
    Read,
    Console,
    /// With the transcript that every real run writes.
    Transcript,
    Expectrl,
    Rexpect,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pattern {
    Literal,
    Regex,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Case {
    Flood { megabytes: usize, pattern: Pattern },
    Silence,
    RoundTrips(u32),
}

/// What one process measured.
#[derive(Debug, Clone, Copy)]
pub struct Measured {
    /// Wall time, of one round trip for round trips; infinite when the limit was reached.
    pub seconds: f64,
    /// Processor time of the process meanwhile.
    pub processor: f64,
    /// Peak resident memory of the process, in KiB.
    pub peak: u64,
}

/// Does a case and says what it took.
pub fn measure(contender: Contender, case: Case) -> Measured {
    let (seconds, processor) = match contender {
        Contender::Read => read(case),
        Contender::Console => console(case, None),
        Contender::Transcript => {
            let folder = tempfile::tempdir().expect("a folder");
            console(case, Some(folder.path().join("console.log")))
        }
        Contender::Expectrl => expectrl(case),
        Contender::Rexpect => rexpect(case),
    };
    let status = std::fs::read_to_string("/proc/self/status").expect("status");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
    let peak = peak.trim().trim_end_matches("kB").trim().parse().expect("KiB");
    Measured { seconds, processor, peak }
}

/// Times what `work` does: wall and processor seconds for each of `count`.
fn timed(count: u32, work: impl FnOnce()) -> (f64, f64) {
    let processor = || {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
    };
    let (began, used) = (Instant::now(), processor());
    work();
    (began.elapsed().as_secs_f64() / f64::from(count), (processor() - used) / f64::from(count))
}

/// Times work that may give up.
fn until_the_limit(work: impl FnOnce() -> bool) -> (f64, f64) {
    let mut done = false;
    let (seconds, processor) = timed(1, || done = work());
    (if done { seconds } else { f64::INFINITY }, processor)
}

fn read(case: Case) -> (f64, f64) {
    let (mut master, _guest) = pty::spawn(&case.guest().iter().map(String::as_str).collect::<Vec<_>>());
    let mut buffer = vec![0; 64 << 10];
    let mut until = |master: &mut std::fs::File, end: &[u8]| {
        let mut last = Vec::new();
        loop {
            let count = master.read(&mut buffer).expect("read");
            let read = &buffer[..count];
            last.extend_from_slice(&read[count.saturating_sub(end.len())..]);
            last.drain(..last.len().saturating_sub(end.len()));
            if last == end {
                return;
            }
        }
    };
    match case {
        Case::Flood { .. } => timed(1, || {
            master.write_all(b"go\n").expect("write");
            until(&mut master, PROMPT.as_bytes());
        }),
        Case::Silence => timed(1, || std::thread::sleep(SILENCE)),
        Case::RoundTrips(count) => timed(count, || {
            for number in 0..count {
                writeln!(master, "{number}").expect("write");
                until(&mut master, format!("answer to {number}.\r\n").as_bytes());
            }
        }),
    }
}

fn console(case: Case, transcript: Option<std::path::PathBuf>) -> (f64, f64) {
    // As the one that a scenario runs on.
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build().expect("runtime");
    let (master, _guest) = pty::spawn(&case.guest().iter().map(String::as_str).collect::<Vec<_>>());
    let console = {
        // As it is when commands run.
        let options = ConsoleOptions { transcript, watch: Watch::Session, ..ConsoleOptions::default() };
        Console::attach_on_a_thread(|| Ok(pty::Stream::new(master)), options).expect("attach")
    };
    let find = |pattern: Ours| runtime.block_on(console.expect(pattern, LIMIT)).expect("found");
    match case {
        Case::Flood { pattern, .. } => {
            let pattern = match pattern {
                Pattern::Literal => Ours::from(PROMPT),
                Pattern::Regex => Ours::regex(PROMPT_REGEX).expect("pattern"),
            };
            timed(1, || {
                runtime.block_on(console.send(b"go\n")).expect("sent");
                assert_eq!(find(pattern).text(), PROMPT);
            })
        }
        Case::Silence => timed(1, || {
            runtime.block_on(console.expect(PROMPT, SILENCE)).expect_err("silence");
        }),
        Case::RoundTrips(count) => timed(count, || {
            for number in 0..count {
                runtime.block_on(console.send(format!("{number}\n").as_bytes())).expect("sent");
                find(format!("answer to {number}.\n").into());
            }
        }),
    }
}

fn expectrl(case: Case) -> (f64, f64) {
    let command = guest(&case.guest().iter().map(String::as_str).collect::<Vec<_>>());
    let mut session = expectrl::Session::spawn(command).expect("spawn");
    session.set_expect_timeout(Some(LIMIT));
    match case {
        Case::Flood { pattern, .. } => until_the_limit(|| {
            session.send("go\n").expect("sent");
            let found = match pattern {
                Pattern::Literal => session.expect(PROMPT),
                Pattern::Regex => session.expect(expectrl::Regex(PROMPT_REGEX)),
            };
            found.is_ok()
        }),
        Case::Silence => timed(1, || {
            session.set_expect_timeout(Some(SILENCE));
            session.expect(PROMPT).expect_err("silence");
        }),
        Case::RoundTrips(count) => timed(count, || {
            for number in 0..count {
                session.send(format!("{number}\n")).expect("sent");
                session.expect(format!("answer to {number}.\r\n")).expect("found");
            }
        }),
    }
}

fn rexpect(case: Case) -> (f64, f64) {
    let command = guest(&case.guest().iter().map(String::as_str).collect::<Vec<_>>());
    let limit = if case == Case::Silence { SILENCE } else { LIMIT };
    let mut session =
        rexpect::session::spawn_command(command, Some(limit.as_millis() as u64)).expect("spawn");
    match case {
        Case::Flood { pattern, .. } => until_the_limit(|| {
            session.send_line("go").expect("sent");
            match pattern {
                Pattern::Literal => session.exp_string(PROMPT).is_ok(),
                Pattern::Regex => session.exp_regex(PROMPT_REGEX).is_ok(),
            }
        }),
        Case::Silence => timed(1, || {
            session.exp_string(PROMPT).expect_err("silence");
        }),
        Case::RoundTrips(count) => timed(count, || {
            for number in 0..count {
                session.send_line(&number.to_string()).expect("sent");
                session.exp_string(&format!("answer to {number}.\r\n")).expect("found");
            }
        }),
    }
}

impl Contender {
    pub const ALL: [Self; 5] = [Self::Read, Self::Console, Self::Transcript, Self::Expectrl, Self::Rexpect];

    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Console => "console",
            Self::Transcript => "console+transcript",
            Self::Expectrl => "expectrl",
            Self::Rexpect => "rexpect",
        }
    }

    pub fn parse(name: &str) -> Self {
        Self::ALL.into_iter().find(|contender| contender.name() == name).expect("a contender")
    }
}

impl Case {
    /// What the guest does.
    fn guest(self) -> Vec<String> {
        match self {
            Self::Flood { megabytes, .. } => vec!["flood".to_owned(), megabytes.to_string()],
            Self::Silence => vec!["silence".to_owned()],
            Self::RoundTrips(_) => vec!["echo".to_owned()],
        }
    }

    pub fn parse(text: &str) -> Self {
        match text.split(' ').collect::<Vec<_>>()[..] {
            ["literal", megabytes] => {
                Self::Flood { megabytes: megabytes.parse().expect("MB"), pattern: Pattern::Literal }
            }
            ["regex", megabytes] => {
                Self::Flood { megabytes: megabytes.parse().expect("MB"), pattern: Pattern::Regex }
            }
            ["silence"] => Self::Silence,
            ["trips", count] => Self::RoundTrips(count.parse().expect("count")),
            _ => panic!("no case: {text}"),
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flood { megabytes, pattern: Pattern::Literal } => write!(f, "literal {megabytes}"),
            Self::Flood { megabytes, pattern: Pattern::Regex } => write!(f, "regex {megabytes}"),
            Self::Silence => write!(f, "silence"),
            Self::RoundTrips(count) => write!(f, "trips {count}"),
        }
    }
}

impl Measured {
    pub fn parse(line: &str) -> Self {
        let mut figures = line.split(' ').map(|figure| figure.parse::<f64>().expect("a figure"));
        let mut next = || figures.next().expect("a figure");
        Self { seconds: next(), processor: next(), peak: next() as u64 }
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.seconds, self.processor, self.peak)
    }
}
