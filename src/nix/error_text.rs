//! Parses Nix's error text: finds the most useful message and the place in the user's files.
//!
//! Nix up to about 2.17 prints the message first and the trace below it. Newer versions print the trace first. Both are
//! parsed here.

use std::collections::VecDeque;
use std::path::Path;

use super::line::cut;

/// The last lines of a build's output.
#[derive(Debug, Default)]
pub(super) struct Tail {
    pub(super) lines: VecDeque<String>,
}

impl Tail {
    /// A trace of real NixOS has some hundred lines; the log before it doesn't matter.
    const MOST: usize = 4000;

    pub(super) fn push(&mut self, line: &str) {
        if self.lines.len() == Self::MOST {
            self.lines.pop_front();
        }
        self.lines.push_back(line.to_owned());
    }

    /// Returns the last line that contains one of `words`.
    pub(super) fn line_with(&self, words: &[&str]) -> Option<&str> {
        let holds = |line: &&str| words.iter().any(|word| line.contains(word));
        self.lines.iter().rev().map(String::as_str).find(holds)
    }

    /// Returns the same, from the output after the first builder started.
    pub(super) fn builder_line_with(&self, words: &[&str]) -> Option<&str> {
        let holds = |line: &&str| words.iter().any(|word| line.contains(word));
        let lines = self.lines.iter().map(String::as_str);
        lines.skip_while(|line| !line.starts_with("building '")).filter(holds).last()
    }
}

/// The parts of Nix's error text.
#[derive(Debug, Default, PartialEq)]
pub(super) struct ErrorText {
    /// The most useful message, line by line.
    pub(super) message: Vec<String>,
    /// The closest place in the user's own files, else the closest place.
    pub(super) place: Option<Excerpt>,
    /// What Nix was doing, innermost first.
    pub(super) trace: Vec<String>,
    /// The last output of a failed builder, if the message doesn't contain it.
    pub(super) builder_log: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Excerpt {
    /// FILE:LINE:COLUMN
    pub(super) at: String,
    pub(super) snippet: Vec<String>,
}

const MESSAGE_LINES: usize = 20;
const TRACE_LINES: usize = 6;

impl ErrorText {
    pub(super) fn read(tail: &Tail, home: Option<&Path>) -> Self {
        let lines: Vec<&str> = tail.lines.iter().map(String::as_str).collect();
        let Some(at) = message_line(&lines) else { return Self::default() };
        let message = message_from(&lines, at);
        let places = places(&lines);
        let home = home.map(|home| format!("{}/", home.display()));
        let own = |place: &(usize, Excerpt)| {
            home.as_ref().is_some_and(|home| place.1.at.starts_with(home.as_str()))
        };
        // The fault is at the place closest to the message; the outer frames only led there.
        let nearest = |found: Vec<&(usize, Excerpt)>| {
            found.into_iter().min_by_key(|(index, _)| index.abs_diff(at)).map(|(_, place)| place.clone())
        };
        let place = nearest(places.iter().filter(|place| own(place)).collect())
            .or_else(|| nearest(places.iter().collect()));
        // Frames inside Nix's own library don't help the reader. They are in the log.
        let telling = |index: usize, line: &str| {
            let near =
                places.iter().find(|(place, _)| *place > index).filter(|(place, _)| place - index <= 3);
            line.contains("option `") || line.contains("definitions from") || near.is_some_and(own)
        };
        let mut trace: Vec<(usize, String)> = lines
            .iter()
            .enumerate()
            .filter(|(index, line)| telling(*index, line))
            .filter_map(|(index, line)| Some((index, cut(line.trim().strip_prefix("… ")?, 160))))
            .collect();
        // Innermost first, in either of Nix's orders.
        trace.sort_by_key(|(index, _)| index.abs_diff(at));
        let more = trace.len().saturating_sub(TRACE_LINES);
        let mut trace: Vec<String> = trace.into_iter().take(TRACE_LINES).map(|(_, line)| line).collect();
        if more > 0 {
            trace.push(format!("and {more} more"));
        }
        let builder_log = if message.first().is_some_and(|line| is_builder(line)) && message.len() < 3 {
            builder_log(&lines, at)
        } else {
            Vec::new()
        };
        Self { message, place, trace, builder_log }
    }
}

/// Returns the line with the most useful message, not one that only says that a dependency failed.
fn message_line(lines: &[&str]) -> Option<usize> {
    let messages: Vec<usize> = (0..lines.len())
        .filter(|&index| {
            let next = lines.get(index + 1).map_or("", |line| line.trim());
            // A message of several lines may begin on the next line, but so may the trace.
            let below = !next.is_empty()
                && !next.starts_with("… ")
                && position(next).is_none()
                && after_error(next).is_none();
            lines
                .get(index)
                .is_some_and(|line| after_error(line).is_some_and(|text| !text.is_empty() || below))
        })
        .collect();
    let text = |index: usize| lines.get(index).copied().unwrap_or_default();
    let follows = |index: usize| {
        let line = text(index);
        line.contains("dependencies of derivation") || line.contains("dependency of")
    };
    messages
        .iter()
        .copied()
        .find(|&index| is_builder(text(index)))
        .or_else(|| messages.iter().copied().rev().find(|&index| !follows(index)))
        .or_else(|| messages.last().copied())
}

fn after_error(line: &str) -> Option<&str> {
    line.trim_start().strip_prefix("error:").map(str::trim)
}

/// Returns whether a line reports that a builder failed.
pub(super) fn is_builder(line: &str) -> bool {
    line.contains("builder for '") && line.contains("failed")
}

/// Returns the message that starts at line `start`, without its indentation.
fn message_from(lines: &[&str], start: usize) -> Vec<String> {
    let ends = |line: &str| {
        let line = line.trim();
        line.starts_with("… ")
            || position(line).is_some()
            || line.starts_with("(use '--show-trace'")
            || line.starts_with("(stack trace truncated")
            || after_error(line).is_some()
    };
    let first = lines.get(start).and_then(|line| after_error(line)).filter(|line| !line.is_empty());
    let mut message: Vec<String> = first.map(|line| cut(line, 300)).into_iter().collect();
    for line in lines.iter().skip(start + 1).take_while(|line| !ends(line)) {
        message.push(cut(line.strip_prefix("       ").unwrap_or(line), 300));
    }
    while message.last().is_some_and(|line| line.trim().is_empty()) {
        message.pop();
    }
    if message.len() > MESSAGE_LINES {
        message.truncate(MESSAGE_LINES);
        message.push("…".to_owned());
    }
    message
}

/// The name of a file for an expression on the command line, which is ours.
const OURS: &str = "«string»:";

/// Returns every `at FILE:LINE:COLUMN:` with the source lines below it, and its line index.
fn places(lines: &[&str]) -> Vec<(usize, Excerpt)> {
    let found = lines.iter().enumerate().filter_map(|(index, line)| {
        let at = position(line.trim()).filter(|at| !at.starts_with(OURS))?.to_owned();
        let is_source = |line: &&&str| {
            line.trim_start().trim_start_matches(|c: char| c.is_ascii_digit()).starts_with('|')
        };
        let below = lines.iter().skip(index + 1).skip_while(|line| line.trim().is_empty());
        let snippet = below
            .take_while(is_source)
            .take(6)
            .map(|line| cut(line.strip_prefix("       ").unwrap_or(line), 160));
        Some((index, Excerpt { at, snippet: snippet.collect() }))
    });
    found.collect()
}

/// Returns FILE:LINE:COLUMN of a line `at FILE:LINE:COLUMN:` (or `at FILE:LINE:COLUMN`).
fn position(line: &str) -> Option<&str> {
    let at = line.strip_prefix("at ").or_else(|| Some(line.split_once(", at ")?.1))?.trim_end_matches(':');
    let (rest, column) = at.rsplit_once(':')?;
    let (file, number) = rest.rsplit_once(':')?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (digits(column) && digits(number) && (file.starts_with('/') || file.starts_with('«'))).then_some(at)
}

/// Returns the builder's output before it failed, where Nix doesn't repeat it.
fn builder_log(lines: &[&str], end: usize) -> Vec<String> {
    const SHOWN: usize = 10;
    let start =
        lines.iter().take(end).rposition(|line| line.starts_with("building '")).map_or(0, |at| at + 1);
    let log = lines.get(start..end).unwrap_or_default();
    log.iter().skip(log.len().saturating_sub(SHOWN)).map(|line| cut(line, 200)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "\
this derivation will be built:
error: The option `foo.bar' does not exist. Definition values:
       - In `/home/u/configuration.nix': 1

       … while evaluating the attribute 'script'

       at /home/u/configuration.nix:3:5:

            2| {
            3|   foo.bar = 1
             |     ^
            4| }

       … while evaluating the attribute 'args'

       at /nix/store/x/nixos/default.nix:3:24:

            2| let
             |                        ^";

    const NEW: &str = "\
error:
       … while evaluating the attribute 'config.system.build.vm'
         at /nix/store/x/nixos/default.nix:17:3:
           16|   inherit (eval) pkgs config options;
             |   ^
       … while evaluating definitions from `/home/u/configuration.nix':
         at /home/u/configuration.nix:8:5:
            7|     isNormalUser = true;
            8|     extraGroups = wheel;
             |     ^
       (stack trace truncated; use '--show-trace' to show the full, detailed trace)

       error: undefined variable 'wheel'
       at /home/u/configuration.nix:8:19:
            7|     isNormalUser = true;
            8|     extraGroups = wheel;
             |                   ^
            9|   };";

    fn tail(text: &str) -> Tail {
        let mut tail = Tail::default();
        text.lines().for_each(|line| tail.push(line));
        tail
    }

    #[test]
    fn the_message_and_the_users_own_line_come_first_with_an_old_nix() {
        let said = ErrorText::read(&tail(OLD), Some(Path::new("/home/u")));
        assert_eq!(said.message[0], "The option `foo.bar' does not exist. Definition values:");
        assert_eq!(said.message[1], "- In `/home/u/configuration.nix': 1");
        assert_eq!(said.message.len(), 2);
        let place = said.place.unwrap();
        assert_eq!(place.at, "/home/u/configuration.nix:3:5");
        assert_eq!(place.snippet.len(), 4);
        assert_eq!(said.trace[0], "while evaluating the attribute 'script'");
    }

    #[test]
    fn the_message_and_the_users_own_line_come_first_with_a_new_nix() {
        let said = ErrorText::read(&tail(NEW), Some(Path::new("/home/u")));
        assert_eq!(said.message, ["undefined variable 'wheel'"]);
        assert_eq!(said.place.unwrap().at, "/home/u/configuration.nix:8:19");
        assert_eq!(said.trace[0], "while evaluating definitions from `/home/u/configuration.nix':");
    }

    #[test]
    fn a_fault_in_nixpkgs_is_shown_at_the_users_line_that_led_there() {
        let text = "error: attempt to call something which is not a function but a set\n\n       \
                    at /nix/store/x/lib/types.nix:9:7:\n\n            9| call\n\n       \
                    … while evaluating the option `users.users.alice'\n\n       \
                    at /home/u/users/alice.nix:3:5:\n\n            3| uid = { };";
        let own = ErrorText::read(&tail(text), Some(Path::new("/home/u"))).place.unwrap();
        assert_eq!(own.at, "/home/u/users/alice.nix:3:5");
        assert_eq!(own.snippet, ["     3| uid = { };"]);
        let elsewhere = ErrorText::read(&tail(text), Some(Path::new("/home/other"))).place.unwrap();
        assert_eq!(elsewhere.at, "/nix/store/x/lib/types.nix:9:7");
    }

    #[test]
    fn a_place_in_an_expression_of_ours_is_not_shown() {
        let text = "error: builder for '/nix/store/a.drv' failed with exit code 3\n\n       \
                    … while realising the context of path '/nix/store/a'\n\n       \
                    at «string»:1:21:\n\n            1| host: builtins.seq\n             |       ^";
        assert_eq!(ErrorText::read(&tail(text), None).place, None);
    }

    #[test]
    fn what_failed_only_because_of_something_else_is_not_the_message() {
        let text = "error: hash mismatch in fixed-output derivation '/nix/store/a-src.drv'\n\
                    error: 1 dependencies of derivation '/nix/store/b.drv' failed to build\n\
                    error: 1 dependencies of derivation '/nix/store/c-vm.drv' failed to build";
        let said = ErrorText::read(&tail(text), None);
        assert_eq!(said.message, ["hash mismatch in fixed-output derivation '/nix/store/a-src.drv'"]);
    }
}
