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
        let path = format!("{}:{}", self.path().join("bin").display(), std::env::var("PATH").unwrap());
        let mut command = Command::new(env!("CARGO_BIN_EXE_nixvm-test"));
        command.args(["--nixpkgs", "./nixpkgs", "a.rs"]).current_dir(self.path()).env("PATH", path);
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
