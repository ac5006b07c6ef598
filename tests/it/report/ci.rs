//! The workflows in examples/ci, and that of this repository: they are what GitHub and GitLab read, and every command in them is
//! one.

use std::path::Path;
use std::process::Command;

use yaml_rust2::{Yaml, YamlLoader};

fn load(name: &str) -> Yaml {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    let text = std::fs::read_to_string(path).unwrap();
    YamlLoader::load_from_str(&text).unwrap().remove(0)
}

fn lines(yaml: &Yaml) -> Vec<String> {
    let texts = match yaml {
        Yaml::Array(all) => all.iter().filter_map(Yaml::as_str).collect(),
        one => one.as_str().into_iter().collect::<Vec<_>>(),
    };
    texts.into_iter().flat_map(str::lines).map(str::to_owned).collect()
}

/// Every command is a program of this host or of every runner, and what nixvm-test is given it takes.
fn check(line: &str) {
    for command in line.split(" | ") {
        let mut words = command.split_whitespace().skip_while(|word| *word == "sudo");
        let program = words.next().unwrap();
        if program.ends_with("nixvm-test") {
            let arguments: Vec<&str> = words.collect();
            // A command line that makes no sense is told from one that can't be carried out here by its text.
            let mut nixvm = Command::new(env!("CARGO_BIN_EXE_nixvm-test"));
            let ran = nixvm.args(&arguments).current_dir("/").env_remove("NIXVM_REPORT").output().unwrap();
            let said = String::from_utf8(ran.stderr).unwrap();
            assert!(said.contains("scenarios") && !said.contains("Usage:"), "{line}\n{said}");
            continue;
        }
        let of_runners = ["udevadm", "apt-get", "echo"];
        let path = std::env::var_os("PATH").unwrap();
        let here = std::env::split_paths(&path).any(|folder| folder.join(program).exists());
        assert!(here || of_runners.contains(&program), "there is no `{program}`: {line}");
    }
}

/// Of nixvm-test's own cache, scenarios alone: a template is of no use on another runner, and has passwords in it.
fn holds_for_other_runners(paths: &[String]) {
    let own: Vec<&str> =
        paths.iter().filter_map(|path| path.split_once(".cache/nixvm-test")).map(|(_, rest)| rest).collect();
    assert_eq!(own, ["/scenarios"], "{paths:?}");
}

#[test]
fn githubs_workflow_is_sound() {
    let workflow = load("examples/ci/github.yml");
    let steps = workflow["jobs"]["scenarios"]["steps"].as_vec().unwrap();
    let commands: Vec<String> = steps.iter().flat_map(|step| lines(&step["run"])).collect();
    assert!(commands.len() >= 6, "{commands:?}");
    commands.iter().for_each(|line| check(line));
    for step in steps {
        let does = [&step["run"], &step["uses"]].into_iter().filter(|one| one.as_str().is_some()).count();
        assert_eq!(does, 1, "{step:?}");
    }
    // What is kept is what is made.
    let kept = lines(&steps.last().unwrap()["with"]["path"]);
    let run = commands.iter().find(|line| line.starts_with("nixvm-test")).unwrap();
    assert!(run.contains("html=report.html") && kept.contains(&"report.html".to_owned()));
    let environment = &workflow["jobs"]["scenarios"]["env"];
    assert!(environment["NIXVM_RUNS"].as_str().unwrap().ends_with("/runs"));
    assert_eq!(environment["NIXVM_ACCELERATOR"].as_str(), Some("kvm"));
    let cached = steps
        .iter()
        .find(|step| step["uses"].as_str().is_some_and(|uses| uses.starts_with("actions/cache@")));
    holds_for_other_runners(&lines(&cached.unwrap()["with"]["path"]));
}

#[test]
fn gitlabs_pipeline_is_sound() {
    let job = &load("examples/ci/gitlab.yml")["scenarios"];
    let commands = [lines(&job["before_script"]), lines(&job["script"])].concat();
    assert_eq!(commands.len(), 4);
    commands.iter().for_each(|line| check(line));
    assert_eq!(job["artifacts"]["reports"]["junit"].as_str(), Some("junit.xml"));
    assert!(commands[3].contains("junit=junit.xml"));
    assert_eq!(job["variables"]["NIXVM_ACCELERATOR"].as_str(), Some("kvm"));
    holds_for_other_runners(&lines(&job["cache"]["paths"]));
}

#[test]
fn the_workflow_of_this_repository_pins_its_actions_and_runs_recipes() {
    let workflow = load(".github/workflows/ci.yml");
    let recipes = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("justfile")).unwrap();
    let is_recipe = |name: &str| recipes.lines().any(|line| line.split([' ', ':']).next() == Some(name));
    let (mut actions, mut commands) = (Vec::new(), Vec::new());
    for job in workflow["jobs"].as_hash().unwrap().values() {
        assert!(job["timeout-minutes"].as_i64().is_some(), "{job:?}");
        for step in job["steps"].as_vec().unwrap() {
            actions.extend(step["uses"].as_str());
            commands.extend(lines(&step["run"]));
        }
    }
    for action in &actions {
        let (_, commit) = action.split_once('@').unwrap();
        // A tag can be moved to another commit.
        assert!(commit.len() == 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit()), "{action}");
    }
    for command in commands.iter().filter(|command| *command != ".ci/run") {
        assert!(command.strip_prefix("./just ").is_some_and(is_recipe), "{command}");
    }
    assert!(commands.iter().any(|command| command == ".ci/run"), "{commands:?}");
    assert!(
        actions.iter().any(|action| action.starts_with("EmbarkStudios/cargo-deny-action@")),
        "{actions:?}"
    );
}
