//! Writes the steps that worked as a scenario.

use std::fmt::Write as _;
use std::path::Path;

use crate::nix::Source;

use super::step::Step;

/// Returns the text of a scenario file that runs these steps on a machine of `source`. Paths are relative to the file's
/// folder if possible.
pub fn text(file: &Path, source: &Source, user: Option<&(String, String)>, steps: &[Step]) -> String {
    let mut arguments = Vec::new();
    let mut hint = String::new();
    match source {
        Source::Configuration(path) => arguments.push(format!("configuration = {:?}", seen_from(file, path))),
        Source::Committed(_) => arguments.push(format!("configuration = {:?}", source.to_string())),
        Source::Flake(flake) => hint = format!("/// Run it with `--flake {flake}`.\n"),
        other => hint = format!("/// Run it with `--vm {other}`.\n"),
    }
    if let Some((user, password)) = user {
        arguments.push(format!("from = logged_in({user:?}, {password:?})"));
    }
    let arguments = match arguments.is_empty() {
        true => String::new(),
        false => format!("({})", arguments.join(", ")),
    };
    let mut text = format!(
        "use nixvm_test::prelude::*;\n\n/// Typed at `nixvm-test repl`.\n{hint}#[scenario{arguments}]\nasync fn {}(machine: Machine) -> Result {{\n",
        function(file)
    );
    for (number, step) in steps.iter().enumerate() {
        let _ = writeln!(text, "    {}", line(step, &steps[number + 1..]));
    }
    text.push_str("    Ok(())\n}\n\nnixvm_test::main!();\n");
    text
}

fn line(step: &Step, later: &[Step]) -> String {
    match step {
        Step::Run { user: None, how, command } => format!("machine.{}({command:?}).await?;", how.name()),
        Step::Run { user: Some(user), how, command } => {
            format!("machine.as_user({user:?}).{}({command:?}).await?;", how.name())
        }
        Step::Session(command) => {
            format!("machine.session().await.ok_or(\"no user is logged in\")?.succeed({command:?}).await?;")
        }
        Step::Login { user, password } => format!("machine.login({user:?}, {password:?}).await?;"),
        Step::WaitForUnit(unit) => format!("machine.wait_for_unit({unit:?}).await?;"),
        Step::WaitForPort(port) => format!("machine.wait_for_open_port({port}).await?;"),
        Step::WaitForFile(path) => format!("machine.wait_for_file({path:?}).await?;"),
        Step::Snapshot(name) => {
            // Until a snapshot of the same name is taken again.
            let until = later.iter().position(|step| *step == Step::Snapshot(name.clone()));
            let used = later[..until.unwrap_or(later.len())].contains(&Step::Restore(name.clone()));
            format!("let {}snapshot_{name} = machine.snapshot().await?;", if used { "" } else { "_" })
        }
        Step::Restore(name) => format!("machine.restore(&snapshot_{name}).await?;"),
        Step::Screenshot(file) => format!("machine.screenshot({file:?}).await?;"),
        Step::Reboot => "machine.reboot().await?;".to_owned(),
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
            Step::Snapshot("a".to_owned()),
            run("echo \"a\\b\""),
            Step::Restore("a".to_owned()),
            Step::Snapshot("a".to_owned()),
        ];
        let alice = ("alice".to_owned(), "test".to_owned());
        let source = Source::Configuration("/x/web/web.nix".into());
        let text = text(Path::new("/x/recorded.rs"), &source, Some(&alice), &steps);
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
}
