//! The oracle: a command does what `bash -euo pipefail -c TEXT` does, whatever the text is.

mod table;

use std::path::Path;
use std::process::{Command, Stdio};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use crate::channel_guest::guest::{Guest, Way, inherits};
use table::TABLE;

/// Closes what a test inherits by mistake, as the helper does, and is bash then, with the environment that it was given.
const CLOSING: &str = r#"
for f in /proc/$$/fd/*; do f=${f##*/}; [ "$f" -le 2 ] || eval "exec $f<&-"; done
exec env ${1:+"_=$1"} bash -euo pipefail -c "$0""#;

/// What a bash of its own does in the same environment.
fn reference(text: &str, folder: &Path) -> (i32, Vec<u8>, Vec<u8>) {
    use std::os::unix::process::ExitStatusExt;
    // A session of its own, as the guest's commands have no terminal: on that of this test an interactive bash would stop.
    let mut command = Command::new("setsid");
    command
        .args(["--wait", crate::channel_guest::guest::bash(), "-c", CLOSING, text])
        .args(std::env::var_os("_"))
        .stdin(Stdio::null());
    inherits(&mut command);
    command.current_dir(folder);
    let output = command.output().unwrap();
    let status = output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap());
    (status, output.stdout, output.stderr)
}

/// Numbers of processes differ, and bash pads them to a width.
fn without_pids(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut out = String::new();
    let mut digits = String::new();
    for c in text.chars().chain(['\0']) {
        if c.is_ascii_digit() {
            digits.push(c);
            continue;
        }
        if digits.len() > 2 {
            out.truncate(out.trim_end_matches(' ').len());
            out.push('N');
        } else {
            out.push_str(&digits);
        }
        digits.clear();
        out.push(c);
    }
    out
}

/// Whether both do the same in this folder, where the guest's commands begin.
fn same(guest: &mut Guest, text: &str, folder: &Path) -> Result<(), String> {
    let outcome = guest.run(text);
    let ours = (outcome.status.unwrap_or(-1), without_pids(&outcome.stdout), without_pids(&outcome.stderr));
    let (status, stdout, stderr) = reference(text, folder);
    let theirs = (status, without_pids(&stdout), without_pids(&stderr));
    // The parts of a pipeline complain in any order.
    if (ours.0, &ours.1, lines(&ours.2)) == (theirs.0, &theirs.1, lines(&theirs.2)) {
        return Ok(());
    }
    Err(format!("{text:?}\n  ours {ours:?}\nbash's {theirs:?}"))
}

fn lines(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

#[test]
fn a_table_of_commands() {
    let mut guest = Guest::start(Way::Helper);
    guest.wait_until_ready();
    let here = std::env::current_dir().unwrap();
    let wrong: Vec<String> = TABLE.iter().filter_map(|text| same(&mut guest, text, &here).err()).collect();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), TABLE.len(), wrong.join("\n"));
}

/// Pieces of which commands are made.
const PIECES: &[&str] = &[
    "true",
    "false",
    "echo",
    "a",
    "b",
    "$x",
    "${x-d}",
    "$?",
    "$#",
    "\"$@\"",
    "$_",
    "$-",
    "$$",
    "$(",
    ")",
    "(",
    "{",
    "}",
    ";",
    "&&",
    "||",
    // What reads to the end: whether a writer meets a closed pipe would depend on time.
    "| { tr a b; }",
    "!",
    "\n",
    "'",
    "\"",
    "`",
    "\\",
    "#",
    "<<E",
    "E",
    "<",
    ">",
    ">&2",
    "2>&1",
    "/dev/null",
    "if",
    "then",
    "else",
    "fi",
    "for",
    "x",
    "in",
    "do",
    "done",
    "while",
    "case",
    "esac",
    ";;",
    "[[",
    "]]",
    "((",
    "))",
    "[",
    "]",
    "=",
    "x=1",
    "x+=2",
    "x=(1 2)",
    "${x[@]}",
    "set",
    "-e",
    "+e",
    "-x",
    "+u",
    "--",
    "exit",
    "3",
    "return",
    "break",
    "eval",
    "exec",
    "printf",
    "%s\\n",
    "%d",
    "test",
    "-n",
    "-v",
    "cd",
    "/",
    "pwd",
    "trap",
    "EXIT",
    "ERR",
    "local",
    "f()",
    "f",
    "shift",
    "unset",
    "read",
    "wait",
    ":",
    "function",
    "é",
    "*",
    "~",
    "{1..3}",
    "$((1+",
    "1/0",
    "PATH",
    "IFS",
];

/// Where nobody can make files, as `>` would, and where there are always the same.
const FOLDER: &str = "/proc/sys/fs";

#[test]
fn generated_commands() {
    let mut guest = Guest::start_in(Way::Helper, Path::new(FOLDER));
    guest.wait_until_ready();
    let cases = std::env::var_os("PROPTEST_CASES").map_or(400, |_| Config::default().cases);
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let guest = std::cell::RefCell::new(&mut guest);
    let words = proptest::collection::vec((proptest::sample::select(PIECES), any::<bool>()), 0..12);
    let outcome = TestRunner::new(config).run(&words, |words| {
        let text: String =
            words.iter().map(|(piece, apart)| format!("{piece}{}", if *apart { " " } else { "" })).collect();
        // What runs on after the shell prints in time, or too late.
        let words =
            [r"\\", r"\&", "&&", ">&", "<&"].iter().fold(text.clone(), |left, word| left.replace(word, ""));
        if words.contains('&') {
            return Ok(());
        }
        same(*guest.borrow_mut(), &text, Path::new(FOLDER)).map_err(TestCaseError::fail)
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}
