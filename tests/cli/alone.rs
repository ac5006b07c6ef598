//! Machines whose network leads to other machines: one scenario at a time has them, over all processes of a user.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nixvm_fake_guest::FakeVm;

use crate::folder::{Folder, Ran};

/// They note in `log` when they have their machines and when they are done.
const NOTED: &str = r#"
fn note(what: &str) -> Result {
    use std::io::Write as _;
    let log = std::fs::File::options().append(true).create(true).open("log");
    Ok(log.and_then(|mut log| writeln!(log, "{what}"))?)
}
async fn takes(machine: Machine) -> Result {
    note("1")?;
    machine.login("alice", "test").await?.succeed("sleep 0.3").await?;
    note("-1")
}
#[scenario] async fn one(machine: Machine) -> Result { takes(machine).await }
#[scenario] async fn another(machine: Machine) -> Result { takes(machine).await }
#[scenario] async fn pair(server: Machine, client: Machine) -> Result {
    takes(server).await?;
    drop(client);
    Ok(())
}
#[scenario(timeout = "10m")] async fn holds(machine: Machine) -> Result {
    note("held")?;
    std::future::pending::<()>().await;
    drop(machine);
    Ok(())
}
async fn until_told(machine: Machine) -> Result {
    note("has it")?;
    let alice = machine.login("alice", "test").await?;
    while !std::path::Path::new("told").exists() {
        alice.succeed("sleep 0.1").await?;
    }
    Ok(())
}
#[scenario(timeout = "10m")] async fn holds_until_told(machine: Machine) -> Result { until_told(machine).await }
#[scenario(timeout = "10m")] async fn holds_until_told_too(machine: Machine) -> Result { until_told(machine).await }
"#;

struct Case {
    folder: Folder,
}

impl Case {
    fn new(options: &str) -> Self {
        let folder = Folder::with("a.rs", NOTED);
        FakeVm::new().qemu_options(options).write_to(folder.path());
        folder.run(&["a.rs", "--", "--list"]).ended_with(0);
        Self { folder }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.file(name)).unwrap_or_default()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.folder.command(&[&["--vm", "result", "a.rs", "--"], arguments].concat());
        command.env("NIXVM_ADMISSION_DIR", self.file("admission"));
        command.env("NIXVM_HOST_CORES", "8").env("NIXVM_HOST_MEMORY", "64G");
        command.env("CARD", "-netdev socket,id=n,mcast=230.0.0.1:1234");
        command
    }

    fn process(&self, arguments: &[&str], said: &str) -> Process {
        let mut command = self.command(arguments);
        command.stdout(Stdio::null()).stderr(File::create(self.file(said)).unwrap());
        Process(command.spawn().unwrap())
    }

    #[track_caller]
    fn wait_for(&self, file: &str, text: &str) {
        let deadline = Instant::now() + Duration::from_secs(120);
        while !self.read(file).contains(text) {
            assert!(Instant::now() < deadline, "{text:?} is not in {file}\n{}", self.read(file));
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Killed when the test is over, however.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn one_scenario_at_a_time_has_machines_that_reach_others() {
    let case = Case::new("-netdev socket,id=n,mcast=230.0.0.1:1234 -device virtio-net-pci,netdev=n");
    let others = ["--skip", "holds", "--test-threads", "3"];
    let processes: Vec<Process> =
        (0..2).map(|number| case.process(&others, &format!("said{number}"))).collect();
    for mut process in processes {
        assert!(process.0.wait().unwrap().success(), "{}\n{}", case.read("said0"), case.read("said1"));
    }
    assert_eq!(case.read("log"), "1\n-1\n".repeat(6), "two at once");
    let said = case.read("said0") + &case.read("said1");
    assert!(said.contains("is done: one scenario at a time runs such a machine (-netdev socket,"), "{said}");
    // Also a person's machine, and one that is no template's clone: it waits for whoever has it, and gets it.
    std::fs::remove_file(case.file("log")).unwrap();
    let holder = case.process(&["--exact", "holds"], "said holder");
    case.wait_for("log", "held");
    let mut person = case.folder.command(&["repl", "result", "--user", "none", "--no-template"]);
    person.env("NIXVM_ADMISSION_DIR", case.file("admission")).stdin(Stdio::null()).stdout(Stdio::null());
    person.stderr(File::create(case.file("said person")).unwrap());
    let mut person = Process(person.spawn().unwrap());
    case.wait_for("said person", &format!("waiting until process {}", holder.0.id()));
    drop(holder);
    assert!(person.0.wait().unwrap().success(), "{}", case.read("said person"));

    // The text of the run script does not show the card: the second is an error that names the first.
    let case = Case::new("$CARD -device virtio-net-pci,netdev=n");
    let holder = case.process(&["--exact", "holds"], "said holder");
    case.wait_for("log", "held");
    let ran = Ran::of(&mut case.command(&["--exact", "one"]));
    assert_ne!(ran.code, Some(0));
    ran.printed("reaches other machines, and process ").printed("mcast=230.0.0.1:1234").printed("--jobs 1");
    assert!(
        ran.out.contains(&holder.0.id().to_string()) || ran.err.contains(&holder.0.id().to_string()),
        "{ran:?}"
    );
    drop(holder);
    Ran::of(&mut case.command(&["--exact", "one"])).ended_with(0);

    // Two scenarios of one process are no exception.
    std::fs::remove_file(case.file("log")).unwrap();
    let mut both = case.command(&["holds_until_told", "--test-threads", "3"]);
    both.stdout(File::create(case.file("said")).unwrap()).stderr(Stdio::null());
    let mut both = Process(both.spawn().unwrap());
    let deadline = Instant::now() + Duration::from_secs(120);
    while !case.read("said").contains("FAILED") && case.read("log") != "has it\nhas it\n" {
        assert!(Instant::now() < deadline, "{}", case.read("said"));
        std::thread::sleep(Duration::from_millis(20));
    }
    File::create(case.file("told")).unwrap();
    assert!(!both.0.wait().unwrap().success(), "two scenarios of one process have such a machine at once");
    let said = case.read("said");
    assert!(said.contains("reaches other machines, and this process ("), "{said}");
    assert!(said.contains("1 passed; 1 failed"), "{said}");
    assert_eq!(case.read("log"), "has it\n");
}
