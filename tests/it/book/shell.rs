//! The shell examples: blocks of kind `console` are run, line by line.
//!
//! A line that begins with `$ ` is a command; what follows is what it prints, in which `...` as a line stands for any lines
//! and `[..]` for any part of a line. It has to succeed. `nixvm-test` on PATH is the one that is tested; machines are
//! fake ones, so that a boot takes no time. A block below a line `<!-- not run: WHY -->` is left out.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nixvm_fake_guest::FakeVm;

use crate::book::blocks::{Block, blocks};
use crate::book::pages::{book, pages, root, shown};
use crate::folder::{Folder, Ran, take_over};

/// So many blocks may be left out, for their reasons.
const LEFT_OUT: usize = 12;

const NOT_RUN: &str = "<!-- not run: ";

/// A command, and what it prints.
#[derive(Debug, Default)]
struct Step {
    command: String,
    prints: String,
}

fn steps(block: &Block) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for line in block.text.lines() {
        match (line.strip_prefix("$ "), steps.last_mut()) {
            (Some(command), _) => steps.push(Step { command: command.to_owned(), prints: String::new() }),
            (None, Some(step)) if step.prints.is_empty() && step.command.ends_with('\\') => {
                step.command.push('\n');
                step.command.push_str(line);
            }
            (None, Some(step)) => {
                step.prints.push_str(line);
                step.prints.push('\n');
            }
            (None, None) => panic!("line {}: a block begins with a command: {line}", block.line),
        }
    }
    steps
}

/// Whether a line is as it was said: `[..]` is anything.
fn is_line(said: &str, line: &str) -> bool {
    let mut parts = said.split("[..]");
    let Some(mut rest) = line.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut parts = parts.peekable();
    while let Some(part) = parts.next() {
        let found = if parts.peek().is_none() {
            rest.ends_with(part).then(|| rest.len() - part.len())
        } else {
            rest.find(part)
        };
        let Some(at) = found else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.is_empty()
}

/// Whether a command printed what was said: `...` is any lines.
fn is_output(said: &[&str], lines: &[&str]) -> bool {
    match (said.split_first(), lines.split_first()) {
        (None, None) => true,
        (Some((&"...", rest)), _) => (0..=lines.len()).any(|skipped| is_output(rest, &lines[skipped..])),
        (Some((first, said)), Some((line, lines))) => is_line(first, line) && is_output(said, lines),
        _ => false,
    }
}

/// A user's folder, with the fake machine that everything is run on.
struct Desk {
    folder: Folder,
    /// Where the reader is, by `cd`.
    here: PathBuf,
    besides: tempfile::TempDir,
}

impl Desk {
    fn new() -> Self {
        let besides = tempfile::tempdir().unwrap();
        FakeVm::new().write_to(besides.path());
        let bin = besides.path().join("bin");
        fs::create_dir(&bin).unwrap();
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_nixvm-test"), bin.join("nixvm-test")).unwrap();
        let folder = Folder::new();
        Self { here: folder.path(), folder, besides }
    }

    fn run(&mut self, command: &str) -> Ran {
        let command = match command.strip_prefix("cd ") {
            Some(folder) => {
                self.here.push(folder);
                "true"
            }
            None => command,
        };
        // The settings of `Folder::command`, for a shell.
        let given = self.folder.command(&[]);
        let mut shell = Command::new("bash");
        shell.args(["-euo", "pipefail", "-c", &format!("exec 2>&1\n{command}")]).current_dir(&self.here);
        take_over(&mut shell, &given);
        let path = std::env::var("PATH").unwrap();
        shell.env("PATH", format!("{}:{path}", self.besides.path().join("bin").display()));
        shell.env("NIXVM_VM", self.besides.path().join("result")).env("NO_COLOR", "1").env("CI", "1");
        Ran::of(&mut shell)
    }
}

/// Runs the blocks of a page; says how many.
fn run_page(page: &Path, desk: &mut Desk) -> usize {
    let blocks = blocks(page).into_iter().filter(|block| block.kind == "console");
    let blocks: Vec<Block> = blocks.filter(|block| !block.above.starts_with(NOT_RUN)).collect();
    desk.here = desk.folder.path();
    for block in &blocks {
        for step in steps(block) {
            let place = format!("{}:{}: $ {}", shown(page), block.line, step.command);
            let ran = desk.run(&step.command);
            assert_eq!(ran.code, Some(0), "{place}\n{}", ran.out);
            let said: Vec<&str> = step.prints.lines().collect();
            let lines: Vec<&str> = ran.out.lines().map(str::trim_end).collect();
            let as_said = said.is_empty() || is_output(&said, &lines);
            assert!(as_said, "{place}\nprints\n{}\nand not\n{}", ran.out, step.prints);
        }
    }
    blocks.len()
}

/// It begins with an empty folder.
#[test]
fn every_step_of_the_tutorial_does_what_it_says() {
    let tutorial = book().join("tutorial.md");
    assert!(run_page(&tutorial, &mut Desk::new()) > 4);
}

/// They are for those who have done the tutorial.
#[test]
fn every_shell_example_of_the_other_pages_does_what_they_say() {
    let mut desk = Desk::new();
    for name in ["configuration.nix", "scenarios"] {
        let copied = Command::new("cp").arg("-r").arg(root().join(name)).arg(desk.folder.path()).status();
        assert!(copied.unwrap().success(), "{name}");
    }
    let others = pages().into_iter().filter(|page| !page.ends_with("tutorial.md"));
    let ran: usize = others.map(|page| run_page(&page, &mut desk)).sum();
    assert!(ran > 4, "{ran} blocks were run");
}

#[test]
fn what_is_not_run_is_little_and_says_why() {
    let mut left_out = 0;
    for page in pages() {
        for block in blocks(&page).iter().filter(|block| block.kind == "console") {
            assert!(!steps(block).is_empty(), "{}:{}", shown(&page), block.line);
            if let Some(why) = block.above.strip_prefix(NOT_RUN) {
                assert!(
                    why.trim_end_matches("-->").trim().len() > 5,
                    "{}:{}: why?",
                    shown(&page),
                    block.line
                );
                left_out += 1;
            }
        }
    }
    assert!(left_out <= LEFT_OUT, "{left_out} blocks are not run");
}

#[test]
fn what_a_command_prints_is_compared() {
    assert!(is_line("took [..] s", "took 1.2 s") && is_line("same", "same") && is_line("[..]", ""));
    assert!(!is_line("took [..] s", "took 1.2 m") && !is_line("a", "ab") && !is_line("a[..]b[..]c", "abb"));
    assert!(is_output(&["a", "...", "c"], &["a", "b", "b", "c"]) && is_output(&["...", "c"], &["c"]));
    assert!(!is_output(&["a", "..."], &["b"]) && !is_output(&["a"], &["a", "b"]));
}
