//! What stands beside the code for CI systems: the action for GitHub, the job for GitLab, the workflows and issue forms. Their
//! shell is run here with nothing in its environment but what those systems set, and with programs that only note how they
//! were called. `./just schemas` compares the files with their schemas.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use yaml_rust2::{Yaml, YamlLoader};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn load(name: &str) -> Yaml {
    YamlLoader::load_from_str(&fs::read_to_string(root().join(name)).unwrap()).unwrap().remove(0)
}

fn steps_of_the_action() -> Vec<Yaml> {
    load("action.yml")["runs"]["steps"].as_vec().unwrap().clone()
}

fn keys(map: &Yaml) -> Vec<String> {
    map.as_hash().unwrap().keys().map(|key| key.as_str().unwrap().to_owned()).collect()
}

/// A new host: a home, a folder of the repository, and programs that note how they were called.
struct Host(tempfile::TempDir);

impl Host {
    fn new(programs: &[&str]) -> Self {
        let host = Self(tempfile::tempdir().unwrap());
        fs::set_permissions(host.0.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for folder in ["home", "repository", "programs"] {
            fs::create_dir(host.path(folder)).unwrap();
        }
        for name in programs {
            let text = format!(
                "#!/bin/sh\necho \"{name} $*\" >>'{log}'\n[ ! -t 0 ] || exit 1\n\
                 env | grep -E '^(NIXVM_|RUSTUP)' | sed 's/^/  /' | sort >>'{log}'\nexit ${{EXIT_OF_STUB-0}}\n",
                log = host.path("log").display()
            );
            nixvm_fake_guest::write_executable(host.path("programs").join(name), text).unwrap();
        }
        // Whoever a step runs as can note something.
        fs::write(host.path("log"), "").unwrap();
        fs::set_permissions(host.path("log"), fs::Permissions::from_mode(0o666)).unwrap();
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A program with an environment of its own.
    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().current_dir(self.path("repository")).stdin(std::process::Stdio::null());
        command.env("HOME", self.path("home"));
        command.env("PATH", format!("{}:/usr/bin:/bin", self.path("programs").display()));
        command
    }

    /// A step of the action, with what GitHub sets.
    fn step(&self, script: &str) -> Command {
        let mut command = self.command(root().join("ci/github").join(script));
        command.env("GITHUB_ACTION_PATH", root()).env("GITHUB_WORKSPACE", self.path("repository"));
        for name in ["GITHUB_OUTPUT", "GITHUB_PATH", "GITHUB_STEP_SUMMARY"] {
            command.env(name, self.path(name));
        }
        command
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap()
    }
}

#[track_caller]
fn ended_with(output: &Output, code: i32) {
    let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(output.status.code(), Some(code), "{}\n{}", shown(&output.stdout), shown(&output.stderr));
}

#[test]
fn every_input_of_the_action_is_described_and_used_and_every_output_is_made() {
    let action = load("action.yml");
    let text = fs::read_to_string(root().join("action.yml")).unwrap();
    for name in keys(&action["inputs"]) {
        let input = &action["inputs"][name.as_str()];
        assert!(input["description"].as_str().is_some_and(|about| about.ends_with('.')), "{name}");
        assert!(input["default"].as_str().is_some(), "{name} has no default");
        assert!(text.contains(&format!("inputs.{name} ")), "{name} is not used");
    }
    let host = Host::new(&["rustc"]);
    ended_with(&host.step("paths.sh").output().unwrap(), 0);
    let made = fs::read_to_string(host.path("GITHUB_OUTPUT")).unwrap();
    for used in text.split("steps.paths.outputs.").skip(1) {
        let name: String = used.chars().take_while(char::is_ascii_alphanumeric).collect();
        let value = made.lines().find_map(|line| line.strip_prefix(&format!("{name}=")));
        assert!(value.is_some_and(|value| !value.is_empty()), "{name} is not made:\n{made}");
    }
    for used in text.split("inputs.").skip(1) {
        let name: String =
            used.chars().take_while(|one| one.is_ascii_alphanumeric() || *one == '-').collect();
        assert!(keys(&action["inputs"]).contains(&name), "there is no input {name}");
    }
}

/// An input in a script's text would be run as shell.
#[test]
fn the_actions_shell_stands_in_files_and_inputs_reach_it_as_variables() {
    let mut files = 0;
    for step in steps_of_the_action() {
        let Some(run) = step["run"].as_str() else { continue };
        assert_eq!(step["shell"].as_str(), Some("bash"));
        let file =
            run.strip_prefix("\"$GITHUB_ACTION_PATH/").and_then(|rest| rest.strip_suffix('"')).unwrap();
        let mode = fs::metadata(root().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o111, 0o111, "{file} is not executable");
        files += 1;
    }
    assert_eq!(files, 4);
}

#[test]
fn every_action_that_is_used_is_pinned_to_a_commit() {
    let mut all: Vec<Yaml> = steps_of_the_action();
    for entry in fs::read_dir(root().join(".github/workflows")).unwrap() {
        let name = format!(".github/workflows/{}", entry.unwrap().file_name().to_str().unwrap());
        for job in load(&name)["jobs"].as_hash().unwrap().values() {
            all.extend(job["steps"].as_vec().unwrap().clone());
        }
    }
    let uses: Vec<&str> = all.iter().filter_map(|step| step["uses"].as_str()).collect();
    assert!(uses.len() > 6, "{uses:?}");
    for action in uses {
        let (_, commit) = action.split_once('@').unwrap();
        assert!(commit.len() == 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit()), "{action}");
    }
}

/// Of nixvm-test's cache, compiled scenarios alone.
#[test]
fn neither_the_action_nor_the_job_keeps_templates() {
    let host = Host::new(&["rustc"]);
    ended_with(&host.step("paths.sh").output().unwrap(), 0);
    let made = fs::read_to_string(host.path("GITHUB_OUTPUT")).unwrap();
    let compiled = format!("compiled={}/.cache/nixvm-test/scenarios\n", host.path("home").display());
    assert!(made.contains(&compiled), "{made}");
    let cached: Vec<Yaml> = steps_of_the_action()
        .into_iter()
        .filter(|step| step["uses"].as_str().is_some_and(|uses| uses.starts_with("actions/cache@")))
        .collect();
    let paths = cached[0]["with"]["path"].as_str().unwrap();
    assert!(!paths.contains(".cache"), "{paths}");
    let kept = &load("ci/gitlab/nixvm-test.yml")[".nixvm-test"]["cache"]["paths"];
    let kept: Vec<&str> = kept.as_vec().unwrap().iter().filter_map(Yaml::as_str).collect();
    let ours: Vec<&&str> = kept.iter().filter(|path| path.contains("nixvm-test")).collect();
    assert_eq!(ours, [&".cache/nixvm-test/scenarios"]);
}

#[test]
fn a_key_of_the_cache_changes_with_the_compiler_and_stays_otherwise() {
    let key = |version: &str| {
        let host = Host::new(&[]);
        let rustc = format!("#!/bin/sh\necho {version}\n");
        nixvm_fake_guest::write_executable(host.path("programs/rustc"), rustc).unwrap();
        ended_with(&host.step("paths.sh").output().unwrap(), 0);
        let made = fs::read_to_string(host.path("GITHUB_OUTPUT")).unwrap();
        made.lines().find_map(|line| line.strip_prefix("key=")).unwrap().to_owned()
    };
    assert_eq!(key("1.89.0"), key("1.89.0"));
    assert_ne!(key("1.89.0"), key("1.95.0"));
}

#[test]
fn the_kvm_step_opens_a_device_that_is_closed_and_leaves_a_runner_without_one_alone() {
    let host = Host::new(&["sudo"]);
    let device = host.path("kvm");
    let run = || {
        let mut command = host.command("/bin/bash");
        if rustix::process::geteuid().is_root() {
            // root may open everything.
            command = host.command("setpriv");
            command.args(["--reuid=65534", "--clear-groups", "/bin/bash"]);
        }
        command.arg(root().join("ci/github/kvm.sh")).arg(&device).output().unwrap()
    };
    let output = run();
    ended_with(&output, 0);
    assert!(String::from_utf8_lossy(&output.stdout).contains("this runner has no"), "{output:?}");
    assert_eq!(host.log(), "");

    fs::write(&device, "").unwrap();
    fs::set_permissions(&device, fs::Permissions::from_mode(0o666)).unwrap();
    ended_with(&run(), 0);
    assert_eq!(host.log(), "", "it can be opened already");

    fs::set_permissions(&device, fs::Permissions::from_mode(0o000)).unwrap();
    ended_with(&run(), 0);
    let chmod = format!("sudo chmod 0666 {}\n", device.display());
    assert!(
        host.log().contains("sudo tee /etc/udev/rules.d/") && host.log().contains(&chmod),
        "{}",
        host.log()
    );
}

#[test]
fn the_program_is_installed_once_and_then_taken_from_the_cache() {
    let host = Host::new(&["sudo", "cargo"]);
    let program = host.path("home/program");
    let install = || host.step("install.sh").env("PROGRAM", &program).output().unwrap();
    ended_with(&install(), 0);
    let expected = format!("cargo install --locked --path {} --root {}", root().display(), program.display());
    assert!(host.log().contains(&expected), "{}", host.log());
    // A target folder within the sources would be one that scenarios are linked from.
    assert!(!host.log().contains(&format!("--target-dir {}", root().display())), "{}", host.log());
    let path = fs::read_to_string(host.path("GITHUB_PATH")).unwrap();
    assert_eq!(path, format!("{}/bin\n", program.display()));

    fs::create_dir_all(program.join("bin")).unwrap();
    nixvm_fake_guest::write_executable(program.join("bin/nixvm-test"), "#!/bin/sh\n").unwrap();
    fs::write(host.path("log"), "").unwrap();
    ended_with(&install(), 0);
    assert!(!host.log().contains("cargo"), "{}", host.log());
}

#[test]
fn inputs_reach_nixvm_test_as_they_are_written() {
    let host = Host::new(&["nixvm-test"]);
    let report = host.path("repository/out/report.html");
    let run = |more: &[(&str, &str)]| {
        fs::write(host.path("log"), "").unwrap();
        let mut command = host.step("run.sh");
        command.env("REPORT", &report).env("JUNIT", host.path("junit.xml")).env("RUNS", host.path("runs"));
        command.env("SCENARIOS", "scenarios/\n$(touch injected) a.rs\n").env("RUN_TIMEOUT", "45m");
        command.env("NIXPKGS", "").env("RETRIES", "").env("KVM", "required").env("ARGUMENTS", "");
        command.env("NIXVM_RETRIES", "3").envs(more.iter().copied());
        command.output().unwrap()
    };
    ended_with(&run(&[]), 0);
    let log = host.log();
    assert!(log.starts_with("nixvm-test scenarios/ $(touch injected) a.rs\n"), "{log}");
    assert!(log.contains("  NIXVM_ACCELERATOR=kvm\n") && log.contains("  NIXVM_RUN_TIMEOUT=45m\n"), "{log}");
    // An empty input leaves the job's own variable.
    assert!(log.contains("  NIXVM_RETRIES=3\n") && !log.contains("NIXVM_NIXPKGS"), "{log}");
    assert!(report.parent().unwrap().is_dir() && host.path("runs").is_dir());
    assert!(!host.path("repository/injected").exists());
    assert!(!host.path("GITHUB_STEP_SUMMARY").exists());

    let arguments = "--fail-fast\n--\nlog in\n--exact";
    let more =
        [("ARGUMENTS", arguments), ("NIXPKGS", "channel:nixos-26.05"), ("RETRIES", "1"), ("KVM", "optional")];
    ended_with(&run(&more), 0);
    let log = host.log();
    assert!(
        log.starts_with("nixvm-test --fail-fast scenarios/ $(touch injected) a.rs -- log in --exact\n"),
        "{log}"
    );
    assert!(log.contains("  NIXVM_NIXPKGS=channel:nixos-26.05\n  NIXVM_REPORT="), "{log}");
    assert!(log.contains("  NIXVM_RETRIES=1\n") && !log.contains("NIXVM_ACCELERATOR"), "{log}");

    ended_with(&run(&[("KVM", "maybe")]), 2);
    assert_eq!(host.log(), "");
    ended_with(&run(&[("EXIT_OF_STUB", "3")]), 3);
    let summary = fs::read_to_string(host.path("GITHUB_STEP_SUMMARY")).unwrap();
    assert!(summary.contains("ended with status 3"), "{summary}");
}

#[test]
fn the_job_for_gitlab_installs_a_branch_or_a_commit_and_runs_the_scenarios() {
    let job = &load("ci/gitlab/nixvm-test.yml")[".nixvm-test"];
    let lines = |part: &str| -> Vec<String> {
        job[part].as_vec().unwrap().iter().map(|line| line.as_str().unwrap().to_owned()).collect()
    };
    let script = [lines("before_script"), lines("script")].concat().join("\n");
    for (revision, chosen) in
        [("main", "--branch main"), ("0a1b2c3d", "--rev 0a1b2c3d"), ("v1.0", "--branch v1.0")]
    {
        let host = Host::new(&["apt-get", "cargo", "nixvm-test"]);
        let mut command = host.command("/bin/bash");
        command.args(["-eo", "pipefail", "-c", &script]);
        command.env("CI_PROJECT_DIR", host.path("repository")).env("CARGO_HOME", host.path("home/.cargo"));
        let repository = job["variables"]["NIXVM_TEST_REPOSITORY"].as_str().unwrap();
        command.env("NIXVM_TEST_REPOSITORY", repository);
        command.env("NIXVM_TEST_REVISION", revision).env("SCENARIOS", "scenarios/ more/a.rs");
        fs::create_dir_all(host.path("home/.cargo/bin")).unwrap();
        fs::copy(host.path("programs/nixvm-test"), host.path("home/.cargo/bin/nixvm-test")).unwrap();
        ended_with(&command.output().unwrap(), 0);
        let log = host.log();
        assert!(log.contains("apt-get install ") && log.contains("nix-bin"), "{log}");
        assert!(log.contains(chosen), "{revision}: {log}");
        assert!(log.contains("nixvm-test scenarios/ more/a.rs\n"), "{log}");
    }
    // What nixvm-test is given as variables it knows.
    let known = fs::read_to_string(root().join("docs/src/reference/settings.md")).unwrap();
    // The job itself reads where nixvm-test comes from.
    for name in keys(&job["variables"])
        .iter()
        .filter(|name| name.starts_with("NIXVM_") && !name.starts_with("NIXVM_TEST_"))
    {
        assert!(known.contains(&format!("`{name}`")), "nothing reads {name}");
    }
    assert_eq!(job["variables"]["NIXVM_REPORT"].as_str(), Some("junit=junit.xml,html=report.html"));
    assert_eq!(job["artifacts"]["reports"]["junit"].as_str(), Some("junit.xml"));
}

#[test]
fn a_report_of_a_fault_has_what_doctor_prints() {
    let form = load(".github/ISSUE_TEMPLATE/bug.yml");
    let asked = form["body"].as_vec().unwrap();
    let doctor = asked.iter().find(|field| field["id"].as_str() == Some("doctor")).unwrap();
    assert!(doctor["attributes"]["label"].as_str().unwrap().contains("`nixvm-test doctor`"));
    assert_eq!(doctor["validations"]["required"].as_bool(), Some(true));
}
