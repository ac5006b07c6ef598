//! A clone that starts before Nix has said what the configuration is: it is used if that is the same VM, and
//! thrown away if not.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use nixvm_fake_guest::write_executable;
use nixvm_test::internals::BuiltVm;

use super::{built, events, root, sample};

const SCENARIO: &str = r#"use nixvm_test::prelude::*;
#[scenario]
async fn parameters(alice: Session) -> Result {
    Err(alice.succeed("cat /proc/cmdline").await?.text().to_owned())?
}
nixvm_test::main!();
"#;

/// A folder with a configuration, and a nix-build of its own that gives what the link `now` leads to.
struct Folder(tempfile::TempDir);

impl Folder {
    fn path(&self) -> PathBuf {
        self.0.path().canonicalize().unwrap()
    }

    fn put(&self, name: &str, text: &str) {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        write_executable(&path, text).unwrap();
    }

    /// What `nix-build` gives from now on.
    fn built(&self, vm: &BuiltVm) {
        let _ = std::fs::remove_file(self.path().join("now"));
        symlink(vm.script().parent().unwrap().parent().unwrap(), self.path().join("now")).unwrap();
    }

    /// Runs the scenario; what was said, and what it printed.
    fn run(&self) -> (String, String) {
        self.run_with(&[])
    }

    fn run_with(&self, arguments: &[&str]) -> (String, String) {
        let path = format!("{}:{}", self.path().join("bin").display(), std::env::var("PATH").unwrap());
        let mut command = Command::new(env!("CARGO_BIN_EXE_nixvm-test"));
        command.args(["--nixpkgs", "./nixpkgs", "a.rs"]).args(arguments);
        command.current_dir(self.path()).env("PATH", path);
        // A clone that waits for the machines of other tests is not there before Nix is done.
        command.env("NIXVM_ADMISSION_DIR", self.path().join("admission"));
        let output = command.env_remove("CARGO_MANIFEST_DIR").output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (text(output.stderr), text(output.stdout))
    }
}

/// The path in the store by which a VM's kernel knows its system.
fn system(vm: &BuiltVm) -> String {
    format!("init={}/init", vm.system().unwrap().display())
}

#[tokio::test]
async fn a_clone_that_nix_does_not_confirm_is_never_seen() {
    // VMs whose templates other tests need too.
    let one = sample(&events()).await;
    let other = built(root("scenarios/services.nix"), &events()).await;
    let folder = Folder(tempfile::tempdir().unwrap());
    folder.put("a.rs", SCENARIO);
    folder.put("configuration.nix", "{ }");
    folder.put("nixpkgs/nixos/default.nix", "{ }");
    // It takes as long as a small evaluation does, so that the clone is there before.
    folder.put("bin/nix-build", &format!("#!/bin/sh\nsleep 3\nreadlink {}/now\n", folder.path().display()));

    folder.built(&one);
    let (said, printed) = folder.run();
    assert!(printed.contains(&system(&one)), "{said}\n{printed}");

    let (said, printed) = folder.run();
    assert!(printed.contains(&system(&one)), "{said}\n{printed}");
    let (started, built) = (said.find("alice: cloned after"), said.find(": built "));
    assert!(started.is_some() && started < built, "the clone waited for Nix\n{said}");

    folder.built(&other);
    let (said, printed) = folder.run();
    assert!(said.contains("alice: cloned after") && said.contains("discarded"), "{said}");
    assert!(printed.contains(&system(&other)) && !printed.contains(&system(&one)), "{printed}");

    // A build that fails is told as ever.
    folder.put("bin/nix-build", "#!/bin/sh\nsleep 3\necho 'error: no such thing' >&2\nexit 1\n");
    let (said, printed) = folder.run();
    assert!(printed.contains("no such thing"), "{said}\n{printed}");
    let pids = said.lines().filter_map(|line| line.split_once("(QEMU is process ")?.1.strip_suffix(')'));
    for pid in pids {
        assert!(!Path::new("/proc").join(pid).exists(), "QEMU {pid} is left over\n{said}");
    }
}

const CHECKPOINT: &str = r#"use nixvm_test::prelude::*;
#[checkpoint(from = logged_in("alice", "test"))]
async fn seeded(machine: &mut Machine) -> Result {
    println!("the checkpoint runs");
    machine.succeed("echo seeded >/root/seeded").await.map(drop)
}
#[scenario(machine = "today.nix", next = "tomorrow.nix", from = seeded)]
async fn is_seeded(machine: Machine, next: System) -> Result {
    println!("{}", next.path()?.display());
    machine.succeed("grep seeded /root/seeded").await.map(drop)
}
nixvm_test::main!();
"#;

/// Each edit of tomorrow's configuration would otherwise cost a boot.
#[tokio::test]
async fn a_checkpoint_depends_on_the_machine_and_not_on_the_system_that_it_is_to_be_switched_to() {
    let one = sample(&events()).await;
    let other = built(root("scenarios/services.nix"), &events()).await;
    let folder = Folder(tempfile::tempdir().unwrap());
    folder.put("a.rs", CHECKPOINT);
    folder.put("today.nix", "{ }");
    folder.put("tomorrow.nix", "{ }");
    folder.put("nixpkgs/nixos/default.nix", "{ }");
    let vm = one.script().parent().unwrap().parent().unwrap().display();
    let here = folder.path();
    folder.put(
        "bin/nix-build",
        &format!(
            "#!/bin/sh\ncase \"$*\" in *today.nix*) echo {vm};; *) readlink {}/now;; esac\n",
            here.display()
        ),
    );
    folder.built(&one);
    let (said, printed) = folder.run_with(&["--", "--nocapture"]);
    assert!(printed.contains("the checkpoint runs") && printed.contains("1 passed"), "{said}\n{printed}");
    folder.built(&other);
    let (said, printed) = folder.run_with(&["--", "--nocapture"]);
    let system = other.system().unwrap().display().to_string();
    assert!(printed.contains(&system) && printed.contains("1 passed"), "{said}\n{printed}");
    assert!(!printed.contains("the checkpoint runs"), "it ran again\n{said}\n{printed}");
}
