//! Building, as a user meets it: environment variables in, a built VM or a report out.
//!
//! Each test runs this same test binary again as a process of its own (`probe`), with its own
//! environment, PATH and folder. Nix is a shell script where the test is about what this library
//! does, and the real one where it is about what Nix says.

mod flakes;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nixvm_fake_guest::write_executable;
use nixvm_test::internals::nix::Source;
use nixvm_test::internals::settings::Settings;
use nixvm_test::internals::{Event, Events};
use serde_json::{Value, json};

use crate::hang::HANG;

/// Where the helper process leaves its report.
const REPORT: &str = "NIXVM_PROBE_REPORT";

/// Not a test: what the others run. Builds as the environment says, on several threads if
/// NIXVM_PROBE_THREADS says so, and writes what it saw.
#[test]
#[ignore = "a helper process of the other tests"]
fn probe() {
    let Some(report) = std::env::var_os(REPORT) else { return };
    let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let events = Events::new({
        let seen = seen.clone();
        move |event| {
            let line = match event {
                Event::Note { text } => format!("note: {text}"),
                Event::BuildStarted { what } => format!("started: {what}"),
                Event::BuildLine { text: line } => format!("line: {line}"),
                Event::BuildFinished { result, .. } => format!("finished: {}", result.display()),
                _ => return,
            };
            seen.lock().unwrap().push(line);
        }
    });
    let results: Vec<Value> = match Settings::from_env() {
        Err(error) => vec![json!({ "kind": format!("{:?}", error.kind()), "error": error.to_string() })],
        Ok(settings) => {
            let mut builder = settings.builder();
            if let Some(link) = std::env::var_os("NIXVM_PROBE_OUT_LINK") {
                builder = builder.out_link(PathBuf::from(link));
            }
            let source = settings.source.unwrap_or(Source::Configuration("configuration.nix".into()));
            let threads = std::env::var("NIXVM_PROBE_THREADS").map_or(1, |count| count.parse().unwrap());
            let build = || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                match runtime.block_on(builder.build(&source, &events)) {
                    Ok(vm) => json!({ "script": vm.script(), "name": vm.name(), "key": vm.key() }),
                    Err(error) => {
                        json!({ "kind": format!("{:?}", error.kind()), "error": error.to_string() })
                    }
                }
            };
            std::thread::scope(|scope| {
                let threads: Vec<_> = (0..threads).map(|_| scope.spawn(build)).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            })
        }
    };
    let seen = seen.lock().unwrap().clone();
    std::fs::write(report, json!({ "results": results, "events": seen }).to_string()).unwrap();
}

/// A folder of a user with a configuration, a cache, and a Nix of the test's choice.
struct Place {
    folder: tempfile::TempDir,
    variables: Vec<(String, String)>,
    path: String,
}

/// The report of a probe.
struct Seen(Value);

impl Place {
    /// With the host's own Nix.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["work", "home", "bin", "nixpkgs/nixos"] {
            std::fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        let mut place = Self { folder, variables: Vec::new(), path: std::env::var("PATH").unwrap() };
        place.set("HOME", place.at("home"));
        // No sandbox, since the small derivations below use the host's shell; and no binary cache.
        place.set("NIX_CONFIG", "sandbox = false\nsubstitute = false\n");
        place.set("NIXVM_CACHE_DIR", place.at("cache"));
        place
    }

    /// With a `nix-build` that is this shell script. `$config` is the configuration and `$link`
    /// the link to leave; the VM in `$vm` is ready to be named.
    fn with_nix_build(script: &str) -> Self {
        let mut place = Self::new();
        let vm = place.at("store-vm");
        std::fs::create_dir_all(vm.join("bin")).unwrap();
        write_executable(vm.join("bin/run-web-1-vm"), "#!/bin/sh\n").unwrap();
        let head = format!(
            "#!/bin/sh\nvm={}\necho \"$@\" >>{}\nfor word; do case $word in nixos-config=*) config=${{word#*=}};; esac\n\
             [ \"$last\" = --out-link ] && link=$word; last=$word; done\n",
            vm.display(),
            place.at("calls").display(),
        );
        write_executable(place.at("bin/nix-build"), format!("{head}{script}\n")).unwrap();
        std::fs::write(place.at("nixpkgs/nixos/default.nix"), "").unwrap();
        place.path = format!("{}:{}", place.at("bin").display(), place.path);
        place.set("NIXVM_NIXPKGS", place.at("nixpkgs"));
        place.configuration("{ }");
        place
    }

    /// With the host's own Nix, and a nixpkgs whose `vm` is this expression; `c` is the
    /// configuration.
    fn with_real_nix(vm: &str) -> Self {
        let mut place = Self::new();
        let nixpkgs = format!(
            "let c = import <nixos-config> {{ pkgs = {{ }}; lib = {{ }}; config = {{ }}; }};\n\
             build = script: derivation {{ name = \"nixos-vm\"; system = builtins.currentSystem; builder = \"/bin/sh\";\n\
             PATH = \"/bin:/usr/bin\"; args = [ \"-c\" script ]; }};\n\
             good = ''mkdir -p $out/bin; echo '#!/bin/sh' >$out/bin/run-nixos-vm; chmod +x $out/bin/run-nixos-vm'';\n\
             in {{ vm = {vm}; }}"
        );
        std::fs::write(place.at("nixpkgs/nixos/default.nix"), nixpkgs).unwrap();
        place.set("NIXVM_NIXPKGS", place.at("nixpkgs"));
        place
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn set(&mut self, name: &str, value: impl AsRef<Path>) {
        self.variables.retain(|(known, _)| known != name);
        self.variables.push((name.to_owned(), value.as_ref().to_str().unwrap().to_owned()));
    }

    fn unset(&mut self, name: &str) {
        self.variables.retain(|(known, _)| known != name);
    }

    fn configuration(&self, text: &str) {
        std::fs::write(self.at("work/configuration.nix"), text).unwrap();
    }

    fn start(&self) -> Child {
        let mut command = self.command(&std::env::current_exe().unwrap());
        command.args(crate::again::words("build::probe")).env(REPORT, self.at("report"));
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.at("work"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("NIX") {
                command.env_remove(name);
            }
        }
        command.env("PATH", &self.path).envs(self.variables.iter().cloned()).stdin(Stdio::null());
        command
    }

    fn build(&self) -> Seen {
        let Output { status, stdout, stderr } = self.start().wait_with_output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        assert!(status.success(), "{said}");
        Seen(serde_json::from_slice(&std::fs::read(self.at("report")).unwrap()).unwrap())
    }

    fn calls(&self) -> String {
        std::fs::read_to_string(self.at("calls")).unwrap_or_default()
    }
}

impl Seen {
    fn results(&self) -> &Vec<Value> {
        self.0["results"].as_array().unwrap()
    }

    fn events(&self) -> Vec<&str> {
        self.0["events"].as_array().unwrap().iter().map(|event| event.as_str().unwrap()).collect()
    }

    fn script(&self) -> &str {
        self.results()[0]["script"].as_str().unwrap_or_else(|| panic!("{}", self.0))
    }

    /// The report, after a check of its kind.
    fn error(&self, kind: &str) -> &str {
        assert_eq!(self.results()[0]["kind"], kind, "{}", self.0);
        self.results()[0]["error"].as_str().unwrap()
    }
}

/// Asserts that `report` holds all of `parts`.
#[track_caller]
fn says(report: &str, parts: &[&str]) {
    for part in parts {
        assert!(report.contains(part), "no {part:?} in:\n{report}");
    }
}

fn alive(pid: &str) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
    state.is_ok_and(|stat| stat.rsplit(')').next().is_some_and(|rest| !rest.starts_with(" Z")))
}

#[track_caller]
fn soon(what: &str, check: impl Fn() -> bool) {
    let until = Instant::now() + HANG;
    while !check() {
        assert!(Instant::now() < until, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

const GOOD: &str = "ln -sfn $vm $link; echo $vm";

#[test]
fn a_configuration_becomes_a_vm_and_nothing_lands_in_the_users_folder() {
    let place = Place::with_nix_build(&format!(
        "echo \"building '/nix/store/x-web.drv'...\" >&2; printf 'a\\033[1mb\\n' >&2; {GOOD}"
    ));
    let seen = place.build();
    assert_eq!(seen.script(), place.at("store-vm/bin/run-web-1-vm").to_str().unwrap());
    assert_eq!(seen.results()[0]["name"], "web-1");
    let file = place.at("work/configuration.nix");
    let result = place.at("store-vm");
    assert_eq!(
        seen.events(),
        [
            "started: configuration.nix",
            "line: building '/nix/store/x-web.drv'...",
            "line: ab",
            &format!("finished: {}", result.display())
        ]
    );
    says(&place.calls(), &["<nixpkgs/nixos> -A vm", &format!("nixos-config={}", file.display())]);
    assert_eq!(std::fs::read_dir(place.at("work")).unwrap().count(), 1, "only the configuration");
    let roots: Vec<_> = std::fs::read_dir(place.at("cache/roots")).unwrap().collect();
    assert_eq!(roots.len(), 1, "one link keeps it from the garbage collector");
    assert_eq!(
        std::fs::read_dir(place.at("cache/logs")).unwrap().count(),
        0,
        "a build that passed leaves no log"
    );
}

#[test]
fn an_out_link_is_made_where_it_was_asked_for() {
    let mut place = Place::with_nix_build(GOOD);
    place.set("NIXVM_PROBE_OUT_LINK", "result");
    place.build();
    assert_eq!(std::fs::read_link(place.at("work/result")).unwrap(), place.at("store-vm"));
    assert_eq!(std::fs::read_dir(place.at("cache/roots")).unwrap().count(), 0);
}

#[test]
fn eight_threads_that_want_the_same_vm_build_it_once() {
    let mut place = Place::with_nix_build(&format!("sleep 0.3; {GOOD}"));
    place.set("NIXVM_PROBE_THREADS", "8");
    let seen = place.build();
    assert_eq!(seen.results().len(), 8);
    assert!(seen.results().iter().all(|result| result == &seen.results()[0]), "{}", seen.0);
    assert_eq!(place.calls().lines().count(), 1, "{}", place.calls());
}

#[test]
fn a_failed_build_is_told_to_every_thread_and_not_tried_again() {
    let mut place = Place::with_nix_build("sleep 0.3; echo 'error: no luck' >&2; exit 1");
    place.set("NIXVM_PROBE_THREADS", "4");
    let seen = place.build();
    assert!(
        seen.results().iter().all(|result| result["error"].as_str().unwrap().contains("no luck")),
        "{}",
        seen.0
    );
    assert_eq!(place.calls().lines().count(), 1, "{}", place.calls());
}

#[test]
fn the_whole_output_of_a_failed_build_is_in_the_log_that_the_error_names() {
    let place = Place::with_nix_build(
        "echo the very first line >&2; for i in 1 2 3; do echo more >&2; done; echo 'error: boom' >&2; exit 1",
    );
    let seen = place.build();
    let error = seen.error("Build");
    says(error, &["building configuration.nix failed: boom"]);
    assert!(!error.contains("very first"), "{error}");
    let log = error
        .lines()
        .find_map(|line| line.trim().strip_prefix("| ").filter(|path| path.ends_with(".log")))
        .unwrap();
    assert!(std::fs::read_to_string(log).unwrap().starts_with("the very first line\n"));
}

#[test]
fn a_build_that_takes_too_long_is_ended_with_its_builder() {
    // As Nix does, the builder is in a session of its own.
    let mut place = Place::with_nix_build(
        "echo $$ >../nix; setsid sh -c 'echo $$ >new; mv new ../builder; sleep 1000'; :",
    );
    // On a busy host the builder has not begun after a second.
    for limit in ["1s", "10s", "100s"] {
        place.set("NIXVM_BUILD_TIMEOUT", limit);
        let seen = place.build();
        says(seen.error("Build"), &["did not finish within its limit", "NIXVM_BUILD_TIMEOUT"]);
        if place.at("builder").exists() {
            break;
        }
    }
    for pid in ["nix", "builder"] {
        let pid = std::fs::read_to_string(place.at(pid)).unwrap();
        soon("nix and its builder are gone", || !alive(&pid));
    }
}

#[test]
fn a_runner_that_is_killed_takes_its_build_with_it() {
    let place = Place::with_nix_build("echo $$ >../nix.new; mv ../nix.new ../nix; exec sleep 1000");
    let mut runner = place.start();
    soon("nix runs", || place.at("nix").exists());
    let pid = std::fs::read_to_string(place.at("nix")).unwrap();
    assert!(alive(&pid));
    runner.kill().unwrap(); // SIGKILL
    runner.wait().unwrap();
    soon("nix is gone", || !alive(&pid));
}

#[test]
fn ctrl_c_in_a_build_of_real_nix_leaves_no_process_and_no_folder() {
    let mut place = Place::with_real_nix("build c.script");
    // Two processes that go on writing, one of them in a session of its own, as package managers have them.
    let script = format!(
        "echo $$ >{0}/builder; write='i=0; while [ $i -lt 200000 ]; do i=$((i + 1)); echo >$0$i; done'; \
         setsid sh -c \"$write\" a & echo $! >{0}/writer.new; mv {0}/writer.new {0}/writer; sh -c \"$write\" b",
        place.folder.path().display()
    );
    place.configuration(&format!("{{ ... }}: {{ script = {script:?}; }}"));
    std::fs::create_dir(place.at("tmp")).unwrap();
    place.set("TMPDIR", place.at("tmp"));
    let mut runner = place.command(Path::new(env!("CARGO_BIN_EXE_nixvm-test"))).arg("build").spawn().unwrap();
    soon("the builder is at work", || place.at("writer").exists());
    rustix::process::kill_process(rustix::process::Pid::from_child(&runner), rustix::process::Signal::INT)
        .unwrap();
    assert_eq!(runner.wait().unwrap().code(), Some(130));
    // As soon as the runner has ended, not some time after it.
    for pid in ["builder", "writer"] {
        assert!(!alive(&std::fs::read_to_string(place.at(pid)).unwrap()), "the {pid} runs on");
    }
    let left: Vec<_> = std::fs::read_dir(place.at("tmp")).unwrap().flatten().map(|its| its.path()).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_killed_nix_is_named_with_the_likely_cause() {
    let seen = Place::with_nix_build("kill -9 $$").build();
    says(seen.error("Build"), &["killed by signal 9", "memory"]);
}

#[test]
fn all_that_the_host_lacks_is_said_in_one_error() {
    let mut place = Place::with_nix_build("");
    place.path = place.at("home").display().to_string(); // an empty folder
    let standin = place.at("nixpkgs");
    place.set("NIXVM_STANDIN", &standin);
    place.unset("NIXVM_NIXPKGS");
    let seen = place.build();
    says(seen.error("Host"), &["nix-build", "mmdebstrap", "qemu-system-x86_64", "qemu-img", "next: "]);
}

#[test]
fn without_a_nixpkgs_the_stand_in_is_taken_and_said_in_one_line() {
    let mut place = Place::with_nix_build(GOOD);
    let standin = place.at("nixpkgs");
    place.set("NIXVM_STANDIN", &standin);
    place.unset("NIXVM_NIXPKGS");
    let seen = place.build();
    let notes: Vec<_> = seen.events().into_iter().filter(|event| event.starts_with("note: ")).collect();
    assert_eq!(notes.len(), 1, "{notes:?}");
    says(notes[0], &["stand-in", "not NixOS", "--nixpkgs"]);
    says(&place.calls(), &[&format!("nixpkgs={}", standin.display()), "--option sandbox false"]);

    place.set("NIXVM_NIXPKGS", "standin");
    let seen = place.build();
    assert!(seen.events().iter().all(|event| !event.starts_with("note: ")), "asked for by name: no surprise");
}

#[test]
fn a_nixpkgs_in_nix_path_or_a_channel_goes_before_the_stand_in() {
    let mut place = Place::with_nix_build(GOOD);
    place.unset("NIXVM_NIXPKGS");
    place.set("NIXVM_STANDIN", "/nowhere");
    let nixpkgs = format!("nixpkgs={}", place.at("nixpkgs").display());
    place.set("NIX_PATH", &nixpkgs);
    let seen = place.build();
    seen.script();
    assert!(!place.calls().contains("nixpkgs="), "Nix looks it up by itself: {}", place.calls());

    place.unset("NIX_PATH");
    std::fs::create_dir_all(place.at("home/.nix-defexpr/channels")).unwrap();
    std::os::unix::fs::symlink(place.at("nixpkgs"), place.at("home/.nix-defexpr/channels/nixpkgs")).unwrap();
    place.build().script();
}

#[test]
fn a_stand_in_that_is_gone_is_an_error_that_says_so() {
    let mut place = Place::with_nix_build(GOOD);
    place.unset("NIXVM_NIXPKGS");
    place.set("NIXVM_STANDIN", "/gone/standin");
    says(place.build().error("Host"), &["/gone/standin", "--nixpkgs"]);
}

#[test]
fn a_vm_that_is_built_already_needs_no_nix() {
    let mut place = Place::with_nix_build("exit 1");
    place.unset("NIXVM_NIXPKGS");
    place.path = "/usr/bin:/bin".to_owned();
    let result = place.at("store-vm");
    place.set("NIXVM_VM", &result);
    assert!(place.build().script().ends_with("bin/run-web-1-vm"));
    assert_eq!(place.calls(), "");

    // The stand-in's script takes QEMU from the path; one of NixOS would have its own.
    write_executable(result.join("bin/run-web-1-vm"), "#!/bin/sh\nexec qemu-system-x86_64 \"$@\"\n").unwrap();
    place.path = place.at("home").display().to_string();
    says(place.build().error("Host"), &["lacks qemu-system-x86_64"]);
}

#[test]
fn contradicting_settings_are_refused() {
    let mut place = Place::with_nix_build(GOOD);
    place.set("NIXVM_VM", "result");
    place.set("NIXVM_FLAKE", ".#web");
    says(place.build().error("Usage"), &["NIXVM_VM", "NIXVM_FLAKE"]);
}

#[test]
fn a_missing_configuration_is_named_before_nix_runs() {
    let mut place = Place::with_nix_build(GOOD);
    place.set("NIXVM_CONFIGURATION", "server.nix");
    let seen = place.build();
    says(seen.error("Usage"), &["there is no configuration", "work/server.nix"]);
    assert_eq!(place.calls(), "");
}

#[test]
fn real_nix_builds_and_an_unchanged_configuration_is_not_built_again() {
    // The store has not built it before.
    let word = tempfile::tempdir().unwrap().path().display().to_string();
    let place = Place::with_real_nix(&format!("build (\"echo {word} >/dev/null;\" + good)"));
    place.configuration("{ ... }: { }");
    let is_built = |seen: &Seen| seen.events().iter().any(|event| event.contains("building '"));
    let first = place.build();
    assert!(first.script().ends_with("-nixos-vm/bin/run-nixos-vm"), "{}", first.script());
    assert!(is_built(&first), "{:?}", first.events());
    let second = place.build();
    assert_eq!(second.script(), first.script());
    assert!(!is_built(&second), "{:?}", second.events());
}

#[test]
fn what_real_nix_says_of_a_bad_configuration_comes_with_the_users_own_line() {
    let place = Place::with_real_nix("build c.script");
    let file = place.at("work/configuration.nix").display().to_string();
    for (configuration, message, line) in [
        ("{ ... }:\n{\n  script = 1\n}\n", "syntax error", "4:1"),
        ("{ ... }:\n{\n  script = hello;\n}\n", "undefined variable 'hello'", "3:12"),
        (
            "{ ... }:\n{\n  script = throw ''The option `a.b' does not exist.'';\n}\n",
            "The option `a.b' does not exist.",
            "3:",
        ),
        ("{ ... }:\n{\n  script = 1 + \"a\";\n}\n", "cannot add a string to an integer", "3:"),
    ] {
        place.configuration(configuration);
        let seen = place.build();
        says(
            seen.error("Build"),
            &["building configuration.nix failed: ", message, &format!("at {file}:{line}")],
        );
        assert!(seen.error("Build").lines().count() < 25, "{}", seen.error("Build"));
    }
}

#[test]
fn what_a_failed_builder_of_real_nix_printed_is_shown() {
    let place = Place::with_real_nix("build c.script");
    place.configuration("{ ... }: { script = ''echo compiling >&2; echo E: out of luck >&2; exit 3''; }");
    says(
        place.build().error("Build"),
        &["builder for", "-nixos-vm.drv' failed with exit code 3", "E: out of luck"],
    );
}

#[test]
fn a_build_that_is_no_vm_is_named() {
    let place = Place::with_real_nix("build ''mkdir -p $out; echo 23.11 >$out/nixos-version''");
    place.configuration("{ ... }: { }");
    says(place.build().error("Usage"), &["is not a built VM", "a NixOS system, not a VM"]);
}

/// The repository's own stand-in, with a configuration of the user's.
fn with_stand_in() -> Place {
    let mut place = Place::new();
    place.set("NIXVM_NIXPKGS", "standin");
    // Where these tests were compiled, whatever folder they run in.
    place.set("NIXVM_STANDIN", Path::new(env!("CARGO_MANIFEST_DIR")).join("standin/nixpkgs"));
    place.unset("NIX_CONFIG");
    place
}

#[test]
fn the_tutorials_configuration_is_built_with_the_stand_in_and_an_unchanged_one_is_not_built_again() {
    let place = with_stand_in();
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("configuration.nix");
    place.configuration(&std::fs::read_to_string(sample).unwrap());
    let first = place.build(); // minutes, where nothing of it is built yet
    assert!(first.script().ends_with("bin/run-nixos-vm"), "{}", first.script());
    let second = place.build();
    assert_eq!(second.results(), first.results());
    assert!(!second.events().iter().any(|event| event.contains("building '")), "{:?}", second.events());
}

#[test]
fn what_the_stand_in_does_not_know_is_named_with_the_users_file() {
    let place = with_stand_in();
    place.configuration("{ ... }:\n{\n  services.nothing.enable = true;\n}\n");
    let seen = place.build();
    says(
        seen.error("Build"),
        &["building configuration.nix failed: ", "services.nothing", "configuration.nix"],
    );
    place.configuration("{ ... }:\n{\n  networking.hostName = 7;\n}\n");
    says(place.build().error("Build"), &["networking.hostName", "configuration.nix"]);
}
