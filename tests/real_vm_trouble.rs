//! Templates of the real VM whose maker is killed, that are damaged, or for which there is no room: the next
//! machine is right. (Each case of these, at each moment, with a guest that boots fast: `template_trouble`.)

#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers outside of test functions

use std::fs;
use std::io::{BufRead, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use nixvm_test::build::{Builder, Source};
use nixvm_test::machine::MachineOptions;
use nixvm_test::template::{self, Moment};
use nixvm_test::{Event, Events};

/// What runs as a process of its own: alice's machine, tried.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "is started by the test below, to be killed"]
async fn process() {
    if std::env::var_os("PLACE").is_none() {
        return;
    }
    let events = Events::new(|event| match event {
        Event::Note { text } => say(format!("note: {text}")),
        Event::Phase { phase, .. } => say(phase),
        _ => {}
    });
    let configuration = Path::new(env!("CARGO_MANIFEST_DIR")).join("configuration.nix");
    let source = Source::Configuration(configuration);
    let vm = Builder::new().nixpkgs("standin").build(&source, &events).await.unwrap();
    let options = MachineOptions::new("nixos").events(events.clone());
    let moment = Moment::LoggedIn { user: "alice".to_owned(), password: "test".to_owned() };
    let machine = template::machine(&vm, options, &moment, &events).await.unwrap();
    let alice = machine.session().await.unwrap();
    assert_eq!(alice.succeed("id -un; pwd").await.unwrap().text(), "alice\n/home/alice\n");
    say("works");
}

fn say(text: impl std::fmt::Display) {
    println!("\n> {text}");
}

struct Process {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Process {
    /// `before` is what it is started by, if anything.
    fn start(place: &Path, before: &[&str]) -> Self {
        let this = std::env::current_exe().unwrap();
        let this = [this.to_str().unwrap(), "--ignored", "--exact", "process", "--nocapture"];
        let words = [before, &this].concat();
        let mut child = Command::new(words[0])
            .args(&words[1..])
            .env("PLACE", place)
            .env("NIXVM_CACHE_DIR", place)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Self { child, out }
    }

    fn said(&mut self) -> impl Iterator<Item = String> {
        let lines = self.out.by_ref().lines().map(|line| line.unwrap());
        lines
            .filter_map(|line| line.strip_prefix("> ").map(str::to_owned))
            .inspect(|line| eprintln!("{line}"))
    }

    #[track_caller]
    fn until(&mut self, beginning: &str) {
        assert!(self.said().any(|line| line.starts_with(beginning)), "{beginning:?} was not said");
    }

    #[track_caller]
    fn end(mut self) -> Vec<String> {
        let said: Vec<String> = self.said().collect();
        assert!(self.child.wait().unwrap().success(), "{said:#?}");
        said
    }
}

/// The folders of templates, the one that was made last first.
fn templates(place: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(place.join("templates")).unwrap().flatten().map(|entry| entry.path());
    let mut folders: Vec<PathBuf> = entries.filter(|path| path.is_dir()).collect();
    folders.sort_by_key(|folder| std::cmp::Reverse(fs::metadata(folder).unwrap().modified().unwrap()));
    folders
}

fn count(said: &[String], what: &str) -> usize {
    said.iter().filter(|line| line.starts_with(what)).count()
}

#[test]
fn after_a_kill_after_damage_and_on_a_full_disk_the_next_machine_is_right() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path();

    // The one who makes it dies in the middle of the boot; the one who waits makes it.
    let mut maker = Process::start(place, &[]);
    maker.until("services");
    let mut waiting = Process::start(place, &[]);
    waiting.until("note: waiting for the template");
    maker.child.kill().unwrap();
    maker.child.wait().unwrap();
    let said = waiting.end();
    assert_eq!((count(&said, "login prompt"), count(&said, "works")), (1, 1), "{said:#?}");
    let made = templates(place);
    assert_eq!(made.len(), 2, "nothing half made is left: {made:?}");

    // It is damaged: it is made again of the moment before, and that is said.
    let state = made[0].join("state");
    let mut bytes = fs::read(&state).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    fs::write(&state, bytes).unwrap();
    let said = Process::start(place, &[]).end();
    assert_eq!((count(&said, "login prompt"), count(&said, "works")), (0, 1), "{said:#?}");
    assert_eq!(count(&said, "note: a template is made again: state was changed"), 1, "{said:#?}");

    // No room for one: booted cold, in one line, and nothing is left.
    let templates = place.join("templates").display().to_string();
    let script = format!(
        "mount -t tmpfs -o size=300m none '{templates}' && \"$@\" && test -z \"$(ls '{templates}' | grep -v lock)\""
    );
    let mut unshare = vec!["unshare"];
    if !rustix::process::geteuid().is_root() {
        unshare.extend(["--user", "--map-root-user"]);
    }
    unshare.extend(["--mount", "sh", "-c", &script, "sh"]);
    let said = Process::start(place, &unshare).end();
    assert_eq!((count(&said, "login prompt"), count(&said, "works")), (1, 1), "{said:#?}");
    assert_eq!(count(&said, "note: nixos boots cold: a template needs"), 1, "{said:#?}");
}
