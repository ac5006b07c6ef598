//! The pages of the reference that are made from the code, so that nothing is missing on them and nothing is out of date.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use nixvm_test::internals::EXIT_CODES;
use nixvm_test::machine::console_checks;

use crate::book::pages::{files, is_made_from_the_code, root};
use crate::book::source::{Item, items, plain};

/// How such a page begins.
pub fn head(title: &str, from: &str) -> String {
    format!("<!-- Made from the code ({from}) by: ./just book-write -->\n# {title}\n\n")
}

/// The items of rooms of the library, by file and place.
pub fn room(folders: &[&str]) -> Vec<Item> {
    let mut sources: Vec<PathBuf> = Vec::new();
    for folder in folders {
        let path = root().join(folder);
        if path.is_dir() { sources.extend(files(&path, "rs")) } else { sources.push(path) }
    }
    sources.retain(|path| !path.components().any(|part| part.as_os_str() == "tests"));
    sources.sort();
    sources.iter().flat_map(|path| items(path)).collect()
}

/// The names that a module shows to users: those of its `pub use` lines, and the types in it.
fn shown_by(module: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(root().join(module)).unwrap();
    let mut names = BTreeSet::new();
    let parts: Vec<&str> = text.split("\npub use ").collect();
    for (before, uses) in parts.iter().zip(parts.iter().skip(1)) {
        if before.ends_with("#[doc(hidden)]") {
            continue;
        }
        let uses = uses.split(';').next().unwrap_or_default();
        let list = uses.rsplit_once("::").map_or(uses, |(_, list)| list);
        names.extend(list.trim_matches(['{', '}']).split(',').map(|name| name.trim().to_owned()));
    }
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("pub struct ").or(line.strip_prefix("pub enum ")) {
            names.insert(name.chars().take_while(|letter| letter.is_alphanumeric()).collect());
        }
    }
    names.remove("");
    names
}

/// The types of a page, in this order, with all that is public of them.
fn page_of(title: &str, from: &str, intro: &str, types: &[String], all: &[Item]) -> String {
    let mut page = head(title, from);
    page.push_str(intro);
    page.push('\n');
    for name in types {
        let Some(own) = all.iter().find(|item| item.of == *name && item.name == *name) else {
            panic!("{name} is public and not found in {from}");
        };
        page.push_str(&format!("\n## {name}\n\n"));
        if !own.is_type() {
            page.push_str(&format!("```rust,ignore\n{}\n```\n\n", own.declaration));
        }
        page.push_str(&own.about);
        let mut parts: Vec<&Item> =
            all.iter().filter(|item| item.of == *name && item.name != *name).collect();
        if parts.is_empty() {
            continue;
        }
        if !parts.iter().any(|part| part.declaration.contains("fn ")) {
            page.push_str("\n| | |\n|---|---|\n");
            for part in parts {
                let about = part.about.split("\n\n").next().unwrap_or_default().replace('\n', " ");
                page.push_str(&format!("| `{}` | {} |\n", part.name, about.trim().replace('|', "\\|")));
            }
            continue;
        }
        // Those of the type's own file first.
        parts.sort_by_key(|part| part.topic != own.topic);
        let mut topic = &own.topic;
        for part in parts {
            let its = part.heading.as_ref().unwrap_or(&part.topic);
            if its != topic {
                topic = its;
                page.push_str(&format!("\n### {}\n", plain(topic).trim()));
            }
            page.push_str(&format!(
                "\n#### {name}::{}\n\n```rust,ignore\n{}\n```\n\n{}",
                part.name, part.declaration, part.about
            ));
        }
    }
    page
}

/// The types that users' own pages have; the page of the machine has all others.
const USERS: [&str; 6] = ["Session", "User", "Invocation", "Output", "Stream", "Commands"];

#[test]
fn every_method_of_a_machine_and_its_users_is_in_the_book() {
    let all = room(&["src/machine", "src/qemu/qmp.rs"]);
    let mut rest = shown_by("src/machine/mod.rs");
    USERS.iter().for_each(|name| assert!(rest.remove(*name), "{name}"));
    let users: Vec<String> = USERS.iter().map(|name| (*name).to_owned()).collect();
    let made = page_of(
        "Sessions, users, commands",
        "src/machine",
        "A `Session` is a user at the console, and a `User` runs commands over the control channel. The methods of a \
         [machine](machine.md) itself run commands as root. Each command returns an `Output`.",
        &users,
        &all,
    );
    assert!(made.contains("#### User::succeed") && made.contains("#### Session::log_out"));
    is_made_from_the_code("reference/users.md", &made);

    assert!(rest.remove("Machine"));
    let types: Vec<String> = std::iter::once("Machine".to_owned()).chain(rest).collect();
    let intro = "A scenario gets a `Machine` for each of its parameters of this type. Time limits are given for a fast host, and are longer \
                 on a slower one. A method that fails returns an [error](errors.md).";
    let made = page_of("Machine", "src/machine", intro, &types, &all);
    assert!(made.contains("#### Machine::wait_for_unit") && made.contains("#### Machine::crash"));
    is_made_from_the_code("reference/machine.md", &made);
}

#[test]
fn every_method_of_a_machine_stands_below_a_heading_of_its_own_block() {
    let all = room(&["src/machine"]);
    let methods = all.iter().filter(|item| item.of == "Machine" && !item.is_type());
    let mut blocks: Vec<&str> = Vec::new();
    for method in methods {
        let heading = method.heading.as_deref().unwrap_or_else(|| panic!("{} has no heading", method.name));
        if blocks.last() != Some(&heading) {
            assert!(!blocks.contains(&heading), "two blocks are called {heading}");
            blocks.push(heading);
        }
    }
    for (heading, method) in [("Commands", "succeed"), ("Files", "copy_to"), ("Network", "block")] {
        assert!(blocks.contains(&heading));
        let its = all.iter().find(|item| item.of == "Machine" && item.name == method).unwrap();
        assert_eq!(its.heading.as_deref(), Some(heading));
    }
}

#[test]
fn every_method_of_the_console_is_in_the_book() {
    let types: Vec<String> = shown_by("src/console/mod.rs").into_iter().collect();
    let all = room(&["src/console"]);
    let intro = "The serial console of a machine, from `Machine::console`. Use it for programs that ask questions, and for output before \
                 a login.";
    let made = page_of("Console", "src/console", intro, &types, &all);
    assert!(made.contains("#### Console::expect") && made.contains("#### Pattern::regex"));
    is_made_from_the_code("reference/console.md", &made);
}

#[test]
fn every_error_is_in_the_book() {
    let all = room(&["src/error.rs", "src/limits.rs"]);
    let types = ["Error", "ErrorKind", "Speed"].map(str::to_owned);
    let intro = "The error that a failed call returns, and the speed by which time limits are scaled.";
    let made = page_of("Errors and limits", "src/error.rs, src/limits.rs", intro, &types, &all);
    assert!(made.contains("| `LoginRefused` |"));
    is_made_from_the_code("reference/errors.md", &made);
}

/// The documentation of a macro.
fn of_a_macro(file: &str, item: &str) -> String {
    let text = fs::read_to_string(root().join(file)).unwrap();
    let at = text.find(item).unwrap();
    let above: Vec<&str> = text[..at]
        .lines()
        .rev()
        .take_while(|line| line.starts_with("//") || line.starts_with("#["))
        .collect();
    let about: Vec<&str> = above.into_iter().rev().filter_map(|line| line.strip_prefix("///")).collect();
    let about: String =
        about.iter().map(|line| format!("{}\n", line.strip_prefix(' ').unwrap_or(line))).collect();
    // Its examples are tested as those of the page.
    let about =
        about.replace("```no_run", "```rust,no_run").replace("```compile_fail", "```rust,compile_fail");
    plain(&about)
}

#[test]
fn the_attributes_and_what_a_scenario_may_allow_are_in_the_book() {
    let mut made = head(
        "Attributes: scenario, checkpoint, scenarios, main",
        "macros/src/lib.rs, src/lib.rs, src/machine/checks/console_checks/mod.rs",
    );
    let macros = "macros/src/lib.rs";
    for (name, file, item) in [
        ("#\\[scenario\\]", macros, "pub fn scenario("),
        ("#\\[checkpoint\\]", macros, "pub fn checkpoint("),
        ("nixvm_test::scenarios!(\"FOLDER\")", macros, "pub fn scenarios("),
        ("nixvm_test::main!()", "src/lib.rs", "macro_rules! main {"),
    ] {
        made.push_str(&format!("## {name}\n\n{}\n", of_a_macro(file, item)));
    }
    made.push_str("## What a scenario may allow\n\nThe names for `allow(\"…\")`:\n\n| name | what it means |\n|---|---|\n");
    for check in console_checks() {
        made.push_str(&format!("| `{}` | {} |\n", check.name(), check.meaning()));
    }
    // The words that the macro takes are all explained.
    let words = fs::read_to_string(root().join("macros/src/arguments.rs")).unwrap();
    let words = words.split("KEYWORDS").nth(1).unwrap().split(';').nth(1).unwrap();
    let words: Vec<&str> = words.split('"').skip(1).step_by(2).collect();
    assert!(words.len() > 7, "{words:?}");
    for word in words {
        assert!(
            made.contains(&format!("| `{word}")) || made.contains(&format!(", `{word}")),
            "`{word}` is not explained"
        );
    }
    is_made_from_the_code("reference/attributes.md", &made);
}

/// What the program says of itself.
fn help(words: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nixvm-test"));
    let output =
        command.args(words).arg("--help").env("COLUMNS", "100").env("NO_COLOR", "1").output().unwrap();
    assert!(output.status.success(), "{words:?}");
    String::from_utf8(output.stdout).unwrap().lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// The subcommands that a help text names; what is typed at a prompt (`repl`) is called commands there, too.
fn subcommands(help: &str) -> Vec<String> {
    if !help.contains(" <COMMAND>\n") {
        return Vec::new();
    }
    let list = help.split("\nCommands:\n").nth(1).unwrap_or_default();
    let list = list.split("\n\n").next().unwrap_or_default().lines();
    // What a line goes on with stands further in.
    let names = list.filter_map(|line| line.strip_prefix("  ").filter(|line| !line.starts_with(' ')));
    names
        .filter_map(|line| line.split(' ').next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_subcommand_flag_and_exit_code_is_in_the_book() {
    let mut made = head("Command line", "nixvm-test --help");
    made.push_str(
        "Most flags are settings, which a variable or `nixvm.toml` can set, too: [settings](settings.md).\n",
    );
    let main = help(&[]);
    made.push_str(&format!("\n## nixvm-test\n\n```text\n{main}```\n"));
    for name in subcommands(&main) {
        let its = help(&[&name]);
        made.push_str(&format!("\n## nixvm-test {name}\n\n```text\n{}```\n", its));
        for inner in subcommands(&its) {
            let inner_help = help(&[&name, &inner]);
            made.push_str(&format!("\n### nixvm-test {name} {inner}\n\n```text\n{}```\n", inner_help));
        }
    }
    assert!(made.contains("\n## nixvm-test build\n") && made.contains("\n### nixvm-test cache list\n"));
    assert!(!made.contains("\n### nixvm-test repl "), "its commands are typed at its prompt");
    is_made_from_the_code("reference/command-line.md", &made);

    let mut made = head("Exit codes", "src/scenario/exit.rs");
    made.push_str(
        "`nixvm-test` and each suite end with one of these codes:\n\n| code | meaning |\n|---:|---|\n",
    );
    for line in EXIT_CODES.lines() {
        if let Some((code, meaning)) = line.trim().split_once("  ") {
            made.push_str(&format!("| {code} | {} |\n", meaning.trim()));
        }
    }
    made.push_str("| 128 + n | signal n ended the run: 130 after ctrl-C |\n\n");
    made.push_str("Failures of different kinds in one run give 1.\n");
    assert_eq!(
        made.matches("\n| ").count(),
        1 + EXIT_CODES.lines().filter(|line| line.starts_with("  ")).count() + 1
    );
    is_made_from_the_code("reference/exit-codes.md", &made);
}
