//! The guest's side: what a command with much output does to a console.

use std::io::{BufRead, Write};

/// Waits for a line, then writes so many megabytes of lines like those of a build, and a prompt.
pub fn flood(megabytes: usize) {
    let mut lines = String::new();
    let mut number = 0;
    while lines.len() < 60_000 {
        number += 1;
        lines.push_str(&format!(
            "[{number:5}/9999] building 'nixos-system' phase {number:04x}: compiling src/module_{number}.c\n"
        ));
    }
    wait_for_line();
    let mut out = std::io::stdout().lock();
    let mut left = megabytes << 20;
    while left > 0 {
        let count = left.min(lines.len());
        out.write_all(&lines.as_bytes()[..count]).expect("write");
        left -= count;
    }
    out.write_all(format!("\n{}", crate::PROMPT).as_bytes()).expect("write");
    out.flush().expect("write");
    silence();
}

/// Answers every line.
pub fn echo() {
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let Ok(line) = line else { return };
        writeln!(out, "answer to {line}.").expect("write");
        out.flush().expect("write");
    }
}

/// Says nothing until the terminal is gone.
pub fn silence() {
    while wait_for_line() {}
}

fn wait_for_line() -> bool {
    let mut line = String::new();
    matches!(std::io::stdin().read_line(&mut line), Ok(1..))
}
