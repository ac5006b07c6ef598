//! A small record of a run, made by code.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nixvm_test::internals::beneath::Beneath;
use nixvm_test::internals::record::film::Film;
use nixvm_test::internals::record::{EVENTS, EventLine, Tape, VERSION};
use nixvm_test::internals::report::Rendering;
use nixvm_test::internals::{Event, Failure, FileKind, RequestedReports, StepOutput};

/// When the run began: seconds since 1970.
const BEGUN: f64 = 1_795_448_683.0;

/// One that is written.
pub struct Record {
    folder: tempfile::TempDir,
    lines: Vec<EventLine>,
    /// The test binary that what comes is from, as cargo-nextest calls it.
    pub suite: String,
}

pub fn seconds(time: f64) -> Duration {
    Duration::from_secs_f64(time)
}

impl Record {
    pub fn new(scenarios: usize) -> Self {
        let mut record =
            Self { folder: tempfile::tempdir().unwrap(), lines: Vec::new(), suite: String::new() };
        record.at(
            0.0,
            "",
            Event::RunStarted {
                arguments: vec!["scenarios/".into()],
                version: "0.1.0".into(),
                host: "builder".into(),
                processors: 8,
                scenarios,
                record: Some(record.path().to_owned()),
            },
        );
        record
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// `event` happened so many seconds after the run began.
    pub fn at(&mut self, time: f64, scenario: &str, event: Event) -> &mut Self {
        let (scenario, suite) = (scenario.to_owned(), self.suite.clone());
        self.lines.push(EventLine { v: VERSION, time: BEGUN + time, scenario, suite, event });
        self
    }

    pub fn note(&mut self, time: f64, text: &str) -> &mut Self {
        self.at(time, "", Event::Note { text: text.into() })
    }

    pub fn skipped(&mut self, time: f64, scenario: &str, why: &str) -> &mut Self {
        self.at(
            time,
            scenario,
            Event::ScenarioSkipped {
                scenario: scenario.into(),
                why: why.into(),
                file: "tests/slow.rs".into(),
                line: 7,
            },
        )
    }

    pub fn finished(&mut self, took: f64) -> &mut Self {
        self.at(took, "", Event::RunFinished { took: seconds(took), interrupted: None })
    }

    /// Begins a scenario. `source` is what its file has.
    pub fn scenario(&mut self, time: f64, name: &str, about: &str, attempt: u32, source: &str) -> &mut Self {
        let file = self.path().join(format!("{}.rs", name.rsplit("::").next().unwrap()));
        std::fs::write(&file, source).unwrap();
        let (scenario, about) = (name.to_owned(), about.to_owned());
        self.at(time, name, Event::ScenarioStarted { scenario, about, file, line: 4, attempt })
    }

    /// A machine that booted: firmware, kernel, services, prompt, each after so many seconds.
    pub fn booted(&mut self, time: f64, scenario: &str, machine: &str, phases: [f64; 3]) -> &mut Self {
        let machine = machine.to_owned();
        self.at(time, scenario, Event::MachineStarted { machine: machine.clone(), pid: 4711 });
        let (accelerator, factor) = ("tcg".to_owned(), 12.0);
        self.at(time, scenario, Event::HostSpeed { machine: machine.clone(), accelerator, factor });
        for (phase, at) in ["kernel", "services", "login prompt"].into_iter().zip(phases) {
            let phase = phase.to_owned();
            self.at(time + at, scenario, Event::Phase { machine: machine.clone(), phase, at: seconds(at) });
        }
        self
    }

    /// A step; `number` tells it from the others.
    pub fn step(
        &mut self,
        time: (f64, f64),
        scenario: &str,
        number: u64,
        text: &str,
        line: u32,
    ) -> &mut Self {
        self.step_with(time, scenario, number, text, line, None)
    }

    pub fn step_with(
        &mut self,
        (from, to): (f64, f64),
        scenario: &str,
        number: u64,
        text: &str,
        line: u32,
        output: Option<StepOutput>,
    ) -> &mut Self {
        let machine = || "machine".to_owned();
        let (text, line) = (text.to_owned(), Some(line));
        self.at(from, scenario, Event::StepStarted { machine: machine(), step: number, text, line });
        let took = seconds(to - from);
        self.at(to, scenario, Event::StepFinished { machine: machine(), step: number, took, output })
    }

    /// The console said these things, so many seconds after the machine's start.
    pub fn console(&mut self, time: f64, scenario: &str, said: &[(f64, &[u8])]) -> &mut Self {
        let path = PathBuf::from(scenario.replace("::", ".")).join("machine.transcript");
        let full = self.path().join(&path);
        std::fs::create_dir_all(full.parent().unwrap()).unwrap();
        let (mut bytes, mut times) = (Vec::new(), String::new());
        for (time, text) in said {
            times.push_str(&format!("{} {}\n", (time * 1e6) as u64, bytes.len()));
            bytes.extend_from_slice(text);
        }
        std::fs::write(&full, &bytes).unwrap();
        std::fs::write(format!("{}.times", full.display()), times).unwrap();
        let film = Film::of(&Tape::read(&Beneath::open(self.path()).unwrap(), &path).unwrap(), 1 << 20);
        std::fs::write(full.with_extension("film"), serde_json::to_vec(&film).unwrap()).unwrap();
        self.at(
            time,
            scenario,
            Event::FileKept { machine: "machine".into(), kind: FileKind::Transcript, path },
        )
    }

    /// A file in the scenario's folder.
    pub fn file(&mut self, time: f64, scenario: &str, kind: FileKind, name: &str, bytes: &[u8]) -> &mut Self {
        let path = PathBuf::from(scenario.replace("::", ".")).join(name);
        std::fs::create_dir_all(self.path().join(&path).parent().unwrap()).unwrap();
        std::fs::write(self.path().join(&path), bytes).unwrap();
        self.at(time, scenario, Event::FileKept { machine: "machine".into(), kind, path })
    }

    /// A file that the record names, whether it is there or not.
    pub fn named(&mut self, time: f64, scenario: &str, path: &str) -> &mut Self {
        let (machine, kind) = ("machine".to_owned(), FileKind::Log);
        self.at(time, scenario, Event::FileKept { machine, kind, path: path.into() })
    }

    pub fn stopped(&mut self, time: f64, scenario: &str, how: &str) -> &mut Self {
        self.at(time, scenario, Event::MachineStopped { machine: "machine".into(), how: how.into() })
    }

    pub fn passed(&mut self, time: f64, scenario: &str, took: f64) -> &mut Self {
        let name = scenario.to_owned();
        let (took, failure, retried) = (seconds(took), None, false);
        self.at(time, scenario, Event::ScenarioFinished { scenario: name, took, failure, retried })
    }

    pub fn failed(&mut self, time: f64, scenario: &str, took: f64, report: &str, retried: bool) -> &mut Self {
        let failure = Failure {
            summary: report.lines().next().unwrap_or_default().to_owned(),
            kind: nixvm_test::ErrorKind::Timeout.into(),
            report: report.into(),
            file: self.path().join("failing.rs"),
            line: 9,
        };
        let (name, took) = (scenario.to_owned(), seconds(took));
        self.at(
            time,
            scenario,
            Event::ScenarioFinished { scenario: name, took, failure: Some(failure), retried },
        )
    }

    /// Writes the events, and makes the reports.
    pub fn written(&self) -> &Self {
        self.written_with(&RequestedReports::default())
    }

    pub fn written_with(&self, reports: &RequestedReports) -> &Self {
        let text: String =
            self.lines.iter().map(|line| serde_json::to_string(line).unwrap() + "\n").collect();
        std::fs::write(self.path().join(EVENTS), text).unwrap();
        Rendering::start(self.path(), reports.clone()).finish();
        self
    }
}

/// What a guest says as it boots.
pub fn boot() -> Vec<(f64, Vec<u8>)> {
    let mut said: Vec<(f64, Vec<u8>)> =
        vec![(0.2, b"\x1b[2J\x1b[HSeaBIOS (version 1.16.2)\r\nBooting from ROM...\r\n".to_vec())];
    for line in 0..40 {
        let time = 1.5 + f64::from(line) * 0.05;
        said.push((
            time,
            format!(
                "[    {:.6}] pci 0000:00:0{}.0: [8086:1237] type 00 class 0x060000\r\n",
                time - 1.2,
                line % 9
            )
            .into(),
        ));
    }
    for (number, unit) in [
        "Journal Service",
        "Load Kernel Modules",
        "Network Configuration",
        "OpenSSH Daemon",
        "Getty on ttyS0",
    ]
    .iter()
    .enumerate()
    {
        let line = format!("[\x1b[0;32m  OK  \x1b[0m] Started \x1b[0;1;39m{unit}\x1b[0m.\r\n");
        said.push((4.0 + number as f64 * 0.4, line.into()));
    }
    said.push((
        6.2,
        b"\r\n\r\n<<< Welcome to NixOS 23.11 (x86_64) - ttyS0 >>>\r\n\r\nnixos login: ".to_vec(),
    ));
    said.push((6.6, b"alice\r\nPassword: \r\n\r\n\x1b[1;32m[alice@nixos:~]$\x1b[0m ".to_vec()));
    said
}

/// A run with a scenario of each fate.
pub fn every_fate() -> Record {
    let mut record = Record::new(5);
    record.note(0.1, "no KVM (/dev/kvm is missing): using TCG, 12 times slower");
    let source = "use nixvm_test::prelude::*;\n\n/// alice can log in.\n#[scenario]\nasync fn login(machine: Machine) -> Result {\n    let alice = machine.login(\"alice\", \"test\").await?;\n    let cow = alice.succeed(\"cowsay hello | lolcat\").await?;\n    assert!(cow.text().contains(\"< hello >\"));\n    machine.wait_for_unit(\"web.service\").await\n}\n";
    let mut cow = boot();
    cow.push((8.1, b"cowsay hello | lolcat\r\n\x1b[38;5;196m _______\x1b[0m\r\n\x1b[38;5;208m< hello >\x1b[0m\r\n\x1b[38;5;226m -------\x1b[0m\r\n\x1b[38;5;46m        \\   ^__^\x1b[0m\r\n\x1b[38;5;51m         \\  (oo)\\_______\x1b[0m\r\n\x1b[38;5;21m            (__)\\       )\\/\\\x1b[0m\r\n\x1b[38;5;93m                ||----w |\x1b[0m\r\n\x1b[38;5;201m                ||     ||\x1b[0m\r\n\x1b[1;32m[alice@nixos:~]$\x1b[0m ".to_vec()));
    let cow: Vec<(f64, &[u8])> = cow.iter().map(|(time, text)| (*time, text.as_slice())).collect();
    let printed = |text: &str, status| {
        Some(StepOutput { stdout: text.into(), status: Some(status), ..StepOutput::default() })
    };

    record
        .scenario(0.5, "web::login", "alice can log in, and her packages are on her path.", 1, source)
        .booted(1.0, "web::login", "machine", [1.4, 3.9, 6.2])
        .step((7.2, 7.8), "web::login", 1, "log in as alice", 6)
        .step_with(
            (8.0, 9.2),
            "web::login",
            2,
            "alice: cowsay hello | lolcat",
            7,
            printed(" _______\n< hello >\n -------\n        \\   ^__^\n         \\  (oo)\\_______\n", 0),
        )
        .step((9.3, 10.1), "web::login", 3, "power off", 9)
        .stopped(10.1, "web::login", "powered off")
        .console(10.2, "web::login", &cow)
        .passed(10.3, "web::login", 9.8);

    record
        .scenario(0.6, "web::failing", "The page is served.", 1, source)
        .booted(1.1, "web::failing", "machine", [1.5, 4.2, 6.9])
        .step_with((8.3, 8.9), "web::failing", 10, "root: systemctl is-active web", 8, printed("inactive\n", 3))
        .step((9.0, 24.0), "web::failing", 11, "wait for unit web.service", 9)
        .step_with((9.5, 9.9), "web::failing", 12, "root: systemctl status web", 9, printed("web.service - the web\n     Active: failed (Result: exit-code)\n", 3))
        .at(24.01, "web::failing", Event::BodyFinished { took: seconds(17.1) })
        .step_with((24.02, 24.08), "web::failing", 13, "root: journalctl -b --no-pager -q -o short-iso-precise | tail -n 2000", 9, printed("the whole journal\n", 0))
        .file(24.1, "web::failing", FileKind::Journal, "machine.journal", b"2026-11-23T16:40:00.000000+0000 nixos systemd[1]: web.service: Main process exited, code=exited, status=1/FAILURE\n")
        .stopped(24.2, "web::failing", "stopped by the test")
        .console(24.3, "web::failing", &cow)
        .file(24.3, "web::failing", FileKind::Screenshot, "page.png", &PNG)
        .failed(24.4, "web::failing", 23.8, "machine: unit web.service has failed\n  its log:\n    | main: could not bind to port 80: Permission denied\n  line:\n       8 |     assert!(cow.text().contains(\"< hello >\"));\n  >    9 |     machine.wait_for_unit(\"web.service\").await\n  after 15.0 s of 300.0 s\n  likely cause: the service runs as a user who may not bind to ports below 1024\n  next: give it CAP_NET_BIND_SERVICE, or a port above 1023", false);

    record
        .scenario(10.4, "network::ping", "Two machines see each other.", 1, source)
        .booted(10.8, "network::ping", "machine", [1.2, 3.5, 5.9])
        .stopped(18.0, "network::ping", "stopped by the test")
        .failed(18.1, "network::ping", 7.7, "machine: 10.0.0.2 did not answer\n  after 5.0 s of 5.0 s", true)
        .scenario(18.2, "network::ping", "Two machines see each other.", 2, source)
        .at(18.3, "network::ping", Event::MachineStarted { machine: "machine".into(), pid: 4712 })
        .at(
            18.6,
            "network::ping",
            Event::Phase { machine: "machine".into(), phase: "cloned".into(), at: seconds(0.3) },
        )
        .step((19.0, 19.5), "network::ping", 20, "root: ping -c 1 10.0.0.2", 8)
        .stopped(20.0, "network::ping", "stopped by the test")
        .console(20.1, "network::ping", &[(0.1, b"\x1b[1;32m[root@nixos:~]#\x1b[0m ")])
        .passed(20.2, "network::ping", 2.0);

    record.skipped(20.3, "slow::everything", "needs an hour").finished(24.5);
    record
}

/// A picture of 64 by 40 pixels.
const PNG: [u8; 130] = [
    137, 80, 78, 71, 13, 10, 26, 10, 0, 0, 0, 13, 73, 72, 68, 82, 0, 0, 0, 64, 0, 0, 0, 40, 8, 2, 0, 0, 0,
    193, 172, 107, 190, 0, 0, 0, 73, 73, 68, 65, 84, 120, 218, 237, 216, 65, 13, 0, 32, 12, 0, 177, 41, 226,
    133, 128, 201, 155, 44, 36, 32, 9, 25, 100, 89, 147, 51, 208, 239, 69, 157, 219, 186, 0, 0, 0, 0, 0, 152,
    13, 88, 59, 91, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 48, 22, 96, 171, 0, 0, 0, 0, 0, 0, 124, 236, 1,
    171, 214, 69, 68, 114, 19, 83, 254, 0, 0, 0, 0, 73, 69, 78, 68, 174, 66, 96, 130,
];
