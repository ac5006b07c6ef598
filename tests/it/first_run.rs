//! `./just login` from nothing: what it says, the early build of the VM, and what is left when it ends early. Its
//! programs are shell scripts that note what they are called with.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// What the wrapper and its script take from the host.
const REAL: [&str; 19] = [
    "awk", "cat", "date", "dirname", "env", "grep", "id", "install", "mkdir", "mkfifo", "mktemp", "rm",
    "sed", "setsid", "sh", "sleep", "timeout", "touch", "uname",
];

/// What it looks for, so that nothing is to be installed.
const STUBS: [&str; 8] =
    ["cc", "qemu-system-x86_64", "qemu-img", "mmdebstrap", "mke2fs", "perl", "newuidmap", "nix-instantiate"];

/// Longer than any of this takes on a loaded host.
const LIMIT: Duration = Duration::from_secs(120);

/// cargo, which notes its calls. `build` does what the test says and makes the program; `run` says that it runs.
const CARGO: &str = r#"#!/bin/sh
echo "cargo $*" >>"$NOTES"
case $1 in
build) eval "$COMPILE"; mkdir -p target/debug; printf '#!/bin/sh\n' >target/debug/nixvm-test; chmod +x target/debug/nixvm-test ;;
run) echo "the program runs" ;;
esac
"#;

/// nix-build, with a builder in a session of its own, as Nix has it.
const NIX_BUILD: &str = r#"#!/bin/sh
echo "nix-build $*" >>"$NOTES"
echo "noise"; echo "noise" >&2
mkdir "$TMPDIR/build"
setsid sh -c 'echo $$ >"$NOTES.builder.part"; mv "$NOTES.builder.part" "$NOTES.builder"; eval "$BUILD"' || exit 1
echo "built" >>"$NOTES"
"#;

/// A checkout with the wrapper, and programs around it.
struct Checkout(tempfile::TempDir);

impl Checkout {
    fn new() -> Self {
        let checkout = Self(tempfile::tempdir().unwrap());
        for folder in ["bin", "home", "tmp", "tree/nix"] {
            fs::create_dir_all(checkout.at(folder)).unwrap();
        }
        let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
        for file in ["just", "nix/build-early.sh"] {
            fs::copy(repository.join(file), checkout.at("tree").join(file)).unwrap();
        }
        for name in REAL.iter().chain(&["mv", "chmod", "rmdir"]) {
            let found = ["/usr/bin", "/bin"].iter().map(|folder| Path::new(folder).join(name));
            let found = found.into_iter().find(|file| file.is_file());
            symlink(found.unwrap_or_else(|| panic!("no {name} here")), checkout.at("bin").join(name))
                .unwrap();
        }
        for name in STUBS {
            checkout.program(name, "#!/bin/sh\nexit 1\n");
        }
        checkout.program("python3", "#!/bin/sh\nexit 1\n");
        checkout.program("just", "#!/bin/sh\necho \"just $*\" >>\"$NOTES\"\n");
        checkout.program("cargo", CARGO);
        checkout.program("nix-build", NIX_BUILD);
        checkout
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn program(&self, name: &str, text: &str) {
        let file = self.at("bin").join(name);
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// `./just WORDS`, where compiling is the shell command `compile` and building the VM is `build`.
    fn just(&self, words: &[&str], compile: &str, build: &str) -> Child {
        // Not as a program: while another thread starts one, a file just written can be busy.
        let mut command = Command::new("/bin/sh");
        command.arg(self.at("tree/just")).args(words).env_clear().process_group(0);
        command.env("PATH", self.at("bin")).env("HOME", self.at("home")).env("TMPDIR", self.at("tmp"));
        command.env("NOTES", self.at("notes")).env("COMPILE", compile).env("BUILD", build);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn notes(&self) -> String {
        fs::read_to_string(self.at("notes")).unwrap_or_default()
    }

    /// The builder, once it is there.
    fn builder(&self) -> Pid {
        let file = self.at("notes.builder");
        soon(|| file.exists());
        Pid::from_raw(fs::read_to_string(file).unwrap().trim().parse().unwrap()).unwrap()
    }

    /// That nothing is left of the early build. It may take a moment after `./just` was killed.
    #[track_caller]
    fn is_clean(&self, builder: Pid) {
        soon(|| has_ended(builder) && fs::read_dir(self.at("tmp")).unwrap().next().is_none());
        assert!(!self.notes().contains("built"), "{}", self.notes());
    }
}

/// A command of the shell that sleeps until a file is there.
fn until(file: &Path) -> String {
    format!("while ! [ -e {} ]; do sleep 0.02; done", file.display())
}

#[track_caller]
fn soon(what: impl Fn() -> bool) {
    let begun = Instant::now();
    while !what() {
        assert!(begun.elapsed() < LIMIT, "it has not come");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn has_ended(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    !stat.is_ok_and(|stat| stat.rsplit(')').next().is_some_and(|rest| !rest.starts_with(" Z")))
}

#[track_caller]
fn ended(child: Child) -> Output {
    let pid = Pid::from_child(&child);
    let waiting = std::thread::spawn(move || child.wait_with_output().unwrap());
    let begun = Instant::now();
    while !waiting.is_finished() {
        if begun.elapsed() > LIMIT {
            let _ = kill_process_group(pid, Signal::KILL);
            panic!("./just does not end");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    waiting.join().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_first_run_builds_the_vm_while_it_compiles_and_later_ones_say_nothing() {
    let checkout = Checkout::new();
    let compiled = checkout.at("compiled");
    // Neither ends unless the other one is under way.
    let compile = format!("{}; touch {}", until(&checkout.at("notes.builder")), compiled.display());
    let first = ended(checkout.just(&["login"], &compile, &until(&compiled)));
    assert!(first.status.success(), "{first:?}");
    assert_eq!(text(&first.stdout), "the program runs\n");
    let said = text(&first.stderr);
    let lines: Vec<&str> = said.lines().collect();
    let stages =
        ["compiling nixvm-test", "building the VM", "is compiled", "waiting", "the VM", "the scenario"];
    assert_eq!(lines.len(), stages.len(), "{said}");
    for (line, stage) in lines.iter().zip(stages) {
        assert!(line.starts_with("just: ") && line.contains(stage), "{said}");
    }
    let notes = checkout.notes();
    let (built, runs) = (notes.find("\nbuilt\n").unwrap(), notes.find("\ncargo run").unwrap());
    assert!(built < runs, "the program finds the VM built: {notes}");
    assert!(notes.contains("nix-build <nixpkgs/nixos> -A vm -I nixos-config="), "{notes}");
    assert!(notes.ends_with("cargo run --quiet --bin nixvm-test -- scenarios/login.rs\n"), "{notes}");
    assert!(!notes.contains("just "), "no just is needed: {notes}");
    assert_eq!(fs::read_dir(checkout.at("tmp")).unwrap().count(), 0);

    fs::remove_file(checkout.at("notes")).unwrap();
    let later = ended(checkout.just(&["login", "-v"], "", ""));
    assert_eq!((text(&later.stdout).as_str(), text(&later.stderr).as_str()), ("the program runs\n", ""));
    assert_eq!(checkout.notes(), "cargo run --quiet --bin nixvm-test -- -v scenarios/login.rs\n");
}

#[test]
fn a_compilation_that_fails_leaves_nothing_of_the_build() {
    let checkout = Checkout::new();
    let compile = format!("{}; echo 'error: no' >&2; exit 101", until(&checkout.at("notes.builder")));
    let failed = ended(checkout.just(&["login"], &compile, "sleep 600"));
    assert_eq!(failed.status.code(), Some(101));
    assert!(text(&failed.stderr).ends_with("error: no\n"), "{failed:?}");
    assert!(has_ended(checkout.builder()), "it is gone before ./just is");
    checkout.is_clean(checkout.builder());
}

#[test]
fn ctrl_c_leaves_nothing_of_the_build() {
    let checkout = Checkout::new();
    let child = checkout.just(&["login"], "sleep 600", "trap '' TERM; sleep 600; sleep 600");
    let builder = checkout.builder();
    kill_process_group(Pid::from_child(&child), Signal::INT).unwrap();
    let ended = ended(child);
    assert_eq!(ended.status.signal(), Some(Signal::INT.as_raw()), "{ended:?}");
    assert!(has_ended(builder), "it is gone before ./just is");
    checkout.is_clean(builder);
    assert!(!checkout.notes().contains("cargo run"));
}

#[test]
fn a_signal_to_the_wrapper_alone_ends_compilers_and_the_build() {
    for signal in [Signal::TERM, Signal::HUP, Signal::INT] {
        let checkout = Checkout::new();
        let compiler = checkout.at("compiler");
        // cargo starts compilers, and does not end them when it is ended.
        let compile =
            format!("sh -c 'echo $$ >{0}.part; mv {0}.part {0}; sleep 600'; true", compiler.display());
        let child = checkout.just(&["login"], &compile, "sleep 600");
        let builder = checkout.builder();
        soon(|| compiler.exists());
        let compiler = Pid::from_raw(fs::read_to_string(compiler).unwrap().trim().parse().unwrap()).unwrap();
        kill_process(Pid::from_child(&child), signal).unwrap();
        let ended = ended(child);
        assert_eq!(ended.status.signal(), Some(signal.as_raw()), "{ended:?}");
        // Its parent is not there to wait for it.
        soon(|| has_ended(compiler));
        assert!(has_ended(builder), "it is gone before ./just is");
        checkout.is_clean(builder);
        assert!(!checkout.notes().contains("cargo run"));
    }
}

#[test]
fn a_build_ends_with_a_wrapper_that_is_killed() {
    let checkout = Checkout::new();
    let child = checkout.just(&["login"], &until(&checkout.at("end")), "sleep 600");
    let builder = checkout.builder();
    kill_process(Pid::from_child(&child), Signal::KILL).unwrap();
    checkout.is_clean(builder);
    // cargo has its output, and goes on.
    fs::write(checkout.at("end"), "").unwrap();
    ended(child);
}

#[test]
fn a_build_that_fails_early_is_left_to_the_program() {
    let checkout = Checkout::new();
    let ran = ended(checkout.just(&["login"], &until(&checkout.at("notes.builder")), "exit 1"));
    assert!(ran.status.success(), "{ran:?}");
    assert!(!text(&ran.stderr).contains("noise") && !text(&ran.stderr).contains("is built"), "{ran:?}");
    assert!(checkout.notes().ends_with("cargo run --quiet --bin nixvm-test -- scenarios/login.rs\n"));
    assert_eq!(fs::read_dir(checkout.at("tmp")).unwrap().count(), 0);
}

#[test]
fn another_vm_than_that_of_the_repository_is_not_built_early() {
    for words in [&["login", "--vm", "./result"][..], &["login", "--flake=.#x"], &["login", "--nixpkgs", "y"]]
    {
        let checkout = Checkout::new();
        let ran = ended(checkout.just(words, "", ""));
        assert!(ran.status.success(), "{ran:?}");
        assert!(!checkout.notes().contains("nix-build"), "{}", checkout.notes());
    }
}

#[test]
fn just_comes_as_a_binary_with_the_sum_that_is_pinned() {
    let checkout = Checkout::new();
    fs::remove_file(checkout.at("bin/just")).unwrap();
    let pip = r#"#!/bin/sh
echo "python3 $*" >>"$NOTES"
case $* in
*" download "*) for last; do :; done; touch "${last%/*}/x.whl"; cat "$last" >>"$NOTES" ;;
*zipfile*) for last; do :; done; mkdir -p "$last/x.data/scripts"
    printf '#!/bin/sh\necho "just $*" >>"$NOTES"\n' >"$last/x.data/scripts/just" ;;
esac
"#;
    checkout.program("python3", pip);
    let ran = ended(checkout.just(&["fmt"], "", ""));
    assert!(ran.status.success(), "{ran:?}");
    let notes = checkout.notes();
    assert!(
        notes.contains("--require-hashes") && notes.contains("rust-just==1.59.0 --hash=sha256:3ee47f26"),
        "{notes}"
    );
    assert!(
        notes.lines().last().unwrap().starts_with("just --justfile ") && !notes.contains("cargo"),
        "{notes}"
    );
    // It is there the next time.
    let again = ended(checkout.just(&["fmt"], "", ""));
    assert_eq!(text(&again.stderr), "");

    // Without it, it is compiled.
    fs::remove_dir_all(checkout.at("tree/target")).unwrap();
    checkout.program("python3", "#!/bin/sh\nexit 1\n");
    ended(checkout.just(&["fmt"], "", ""));
    assert!(checkout.notes().contains("cargo install --quiet --locked"), "{}", checkout.notes());
}
