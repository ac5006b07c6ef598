//! Writes the steps that worked as a scenario.

use std::fmt::Write as _;
use std::path::Path;

use crate::nix::{Source, relative};

use super::step::Step;

/// A machine of the scenario.
pub struct Parameter<'a> {
    /// Its name; `None` if it has none, since it is alone.
    pub name: Option<&'a str>,
    /// What it was built from.
    pub source: &'a Source,
    /// Who was logged in, with their password.
    pub user: Option<&'a (String, String)>,
}

impl Parameter<'_> {
    fn name(&self) -> &str {
        self.name.unwrap_or("machine")
    }
}

/// Returns the text of a scenario file that runs these steps, each on the machine at its place. Paths are relative to the
/// file's folder if possible.
pub fn text(file: &Path, machines: &[Parameter], steps: &[(usize, Step)]) -> String {
    let mut arguments = Vec::new();
    let (mut hint, mut lines) = (String::new(), String::new());
    for machine in machines {
        let key = machine.name.unwrap_or("configuration");
        match (machine.source, machine.name) {
            (Source::Configuration(path), _) => {
                arguments.push(format!("{key} = {:?}", seen_from(file, path)))
            }
            (Source::Committed(_), _) => arguments.push(format!("{key} = {:?}", machine.source.to_string())),
            (Source::Flake(flake), Some(_)) => {
                let here = std::env::current_dir().unwrap_or_default();
                arguments.push(format!("{key} = {:?}", format!("flake:{}", relative::flake(flake, &here))));
            }
            (Source::Built(vm), Some(_)) => {
                arguments.push(format!("{key} = {:?}", format!("vm:{}", seen_from(file, vm))));
            }
            (Source::Flake(flake), None) => hint = format!("/// Run it with `--flake {flake}`.\n"),
            (other, None) => hint = format!("/// Run it with `--vm {other}`.\n"),
        }
    }
    let user = machines.first().and_then(|machine| machine.user);
    match user.filter(|user| machines.iter().all(|machine| machine.user == Some(user))) {
        Some((user, password)) => arguments.push(format!("from = logged_in({user:?}, {password:?})")),
        None => {
            for machine in machines {
                let Some((user, password)) = machine.user else { continue };
                let _ = writeln!(lines, "    {}.login({user:?}, {password:?}).await?;", machine.name());
            }
        }
    }
    let arguments = match arguments.is_empty() {
        true => String::new(),
        false => format!("({})", arguments.join(", ")),
    };
    for (number, (place, step)) in steps.iter().enumerate() {
        let Some(machine) = machines.get(*place) else { continue };
        let later = steps[number + 1..].iter().filter(|(its, _)| its == place).map(|(_, step)| step);
        let _ = writeln!(lines, "    {}", line(machine, step, &later.collect::<Vec<_>>()));
    }
    let parameters: Vec<String> =
        machines.iter().map(|machine| format!("{}: Machine", machine.name())).collect();
    let parameters = parameters.join(", ");
    // A machine that nothing was asked of is a part of the scenario all the same.
    if machines.iter().any(|machine| !lines.contains(&format!("{}.", machine.name()))) {
        hint.push_str("#[allow(unused_variables)]\n");
    }
    let function = function(file);
    format!(
        "use nixvm_test::prelude::*;\n\n/// Typed at `nixvm-test repl`.\n{hint}#[scenario{arguments}]\n\
         async fn {function}({parameters}) -> Result {{\n{lines}    Ok(())\n}}\n\nnixvm_test::main!();\n"
    )
}

/// Returns the line of a step. `later` are the steps of the same machine after it.
fn line(machine: &Parameter, step: &Step, later: &[&Step]) -> String {
    let of = machine.name();
    // Each machine has its own snapshots.
    let snapshot = |name: &str| match machine.name {
        Some(machine) => format!("snapshot_{name}_of_{machine}"),
        None => format!("snapshot_{name}"),
    };
    match step {
        Step::Run { user: None, how, command } => format!("{of}.{}({command:?}).await?;", how.name()),
        Step::Run { user: Some(user), how, command } => {
            format!("{of}.as_user({user:?}).{}({command:?}).await?;", how.name())
        }
        Step::Session(command) => {
            format!("{of}.session().await.ok_or(\"no user is logged in\")?.succeed({command:?}).await?;")
        }
        Step::Login { user, password } => format!("{of}.login({user:?}, {password:?}).await?;"),
        Step::WaitForUnit(unit) => format!("{of}.wait_for_unit({unit:?}).await?;"),
        Step::WaitForPort(port) => format!("{of}.wait_for_open_port({port}).await?;"),
        Step::WaitForFile(path) => format!("{of}.wait_for_file({path:?}).await?;"),
        Step::Snapshot(name) => {
            // Until a snapshot of the same name is taken again.
            let until = later.iter().position(|step| **step == Step::Snapshot(name.clone()));
            let used = later[..until.unwrap_or(later.len())].contains(&&Step::Restore(name.clone()));
            let unused = if used { "" } else { "_" };
            format!("let {unused}{} = {of}.snapshot().await?;", snapshot(name))
        }
        Step::Restore(name) => format!("{of}.restore(&{}).await?;", snapshot(name)),
        Step::Screenshot(file) => format!("{of}.screenshot({file:?}).await?;"),
        Step::Reboot => format!("{of}.reboot().await?;"),
    }
}

/// Returns the function name that follows from the file's name.
fn function(file: &Path) -> String {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let name: String =
        stem.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).collect();
    // With this suffix it is neither a keyword nor `main`.
    let begins_well = name.starts_with(|c: char| c.is_ascii_alphabetic());
    if begins_well { format!("{name}_works") } else { format!("typed_{name}_works") }
}

/// Returns `path` relative to the folder of `file`, if it is below that folder; else as an absolute path.
fn seen_from(file: &Path, path: &Path) -> String {
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let (file, path) = (absolute(file), absolute(path));
    let folder = file.parent().unwrap_or(Path::new("/"));
    path.strip_prefix(folder).unwrap_or(&path).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::super::step::How;
    use super::*;

    #[test]
    fn every_step_is_a_line_and_nothing_is_left_unused() {
        let run = |command: &str| Step::Run { user: None, how: How::Succeed, command: command.to_owned() };
        let steps = [
            (0, Step::Snapshot("a".to_owned())),
            (0, run("echo \"a\\b\"")),
            (0, Step::Restore("a".to_owned())),
            (0, Step::Snapshot("a".to_owned())),
        ];
        let alice = ("alice".to_owned(), "test".to_owned());
        let source = Source::Configuration("/x/web/web.nix".into());
        let machine = Parameter { name: None, source: &source, user: Some(&alice) };
        let text = text(Path::new("/x/recorded.rs"), &[machine], &steps);
        for part in [
            "#[scenario(configuration = \"web/web.nix\", from = logged_in(\"alice\", \"test\"))]\nasync fn recorded_works(machine",
            "    let snapshot_a = machine.snapshot().await?;\n    machine.succeed(\"echo \\\"a\\\\b\\\"\").await?;\n",
            "    machine.restore(&snapshot_a).await?;\n    let _snapshot_a = machine",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert_eq!(function(Path::new("a/3-b.rs")), "typed_3_b_works");
        assert_eq!(seen_from(Path::new("/x/y/a.rs"), Path::new("/x/web.nix")), "/x/web.nix");
    }
    #[test]
    fn several_machines_are_the_parameters_of_the_scenario() {
        let alice = ("alice".to_owned(), "test".to_owned());
        let (web, vm) = (Source::Configuration("/x/web.nix".into()), Source::Built("/x/result".into()));
        let server = Parameter { name: Some("server"), source: &web, user: Some(&alice) };
        let client = Parameter { name: Some("client"), source: &vm, user: None };
        let snapshot = || Step::Snapshot("a".to_owned());
        let steps = [(0, snapshot()), (1, snapshot()), (1, Step::Restore("a".to_owned())), (0, Step::Reboot)];
        let text = text(Path::new("/x/two.rs"), &[server, client], &steps);
        for part in [
            "#[scenario(server = \"web.nix\", client = \"vm:result\")]\nasync fn two_works(server: Machine, client: Machine)",
            "    server.login(\"alice\", \"test\").await?;\n    let _snapshot_a_of_server = server.snapshot()",
            "    let snapshot_a_of_client = client.snapshot().await?;\n    client.restore(&snapshot_a_of_client)",
            "    server.reboot().await?;",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }
}
