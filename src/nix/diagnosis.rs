//! Writes the report of a failed build: the message, the place in the user's own file, part of the trace, the likely
//! cause and the next step.

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::ExitStatus;

use super::advice;
use super::error_text::{ErrorText, Tail};
use super::line::cut;
use crate::{Error, ErrorKind};

/// The start of the list that the stand-in adds to a message about an option. It is a page long, so it is only in the
/// log.
const ALL_OPTIONS: &str = "All the options there are:";

/// Returns the report of a failed command: `doing` (building, evaluating) `what` ended with `status`. Files in `home`,
/// the folder of the configuration, are the user's own.
pub(super) fn explain(
    doing: &str,
    what: &str,
    home: Option<&Path>,
    status: ExitStatus,
    tail: &Tail,
) -> Error {
    let mut said = ErrorText::read(tail, home);
    if !said.place.as_ref().is_some_and(|place| is_in(home, &place.at)) {
        let file = home.and_then(|home| Some(home.join(Path::new(what).file_name()?)));
        said.place = advice::own_place(&said, file.as_deref()).or(said.place);
    }
    if said.message.first().is_some_and(|line| line == "Failed assertions:") {
        // NixOS checks all of them at this place, so it does not show which one failed.
        said.place = None;
    }
    let first = said.message.first().map(|line| cut(line.trim_end_matches(" Definition values:"), 300));
    let mut error = match (&first, status.signal()) {
        (_, Some(signal)) => {
            return killed(doing, what, signal, tail).because_of_words(&last_lines(tail, LAST));
        }
        (Some(message), None) => build_error(format!("{doing} {what} failed: {message}")),
        (None, None) => build_error(format!("{doing} {what} failed: nix ended with {status}"))
            .section("its last lines", last_lines(tail, 12)),
    };
    let rest = said.message.iter().skip(1).map(String::as_str).take_while(|line| *line != ALL_OPTIONS);
    error = error.section("more of nix's output", rest.collect::<Vec<_>>().join("\n"));
    if let Some(place) = &said.place {
        error = match place.snippet.as_slice() {
            [] => error.section("in", place.at.clone()),
            snippet => error.section(format!("at {}", place.at), snippet.join("\n")),
        };
    }
    error = error.section("the builder's last lines", said.builder_log.join("\n"));
    error = error.section("trace", said.trace.join("\n"));
    advice::advise(error, &said, tail).because_of_words(&last_lines(tail, LAST))
}

/// How many of the last lines can tell that a limit of this host ended it.
const LAST: usize = 40;

/// Returns whether a place is in one of the user's files.
fn is_in(home: Option<&Path>, at: &str) -> bool {
    home.is_some_and(|home| Path::new(at).starts_with(home))
}

/// Returns the report of a command that exceeded its time limit.
pub(super) fn too_long(doing: &str, what: &str, limit: std::time::Duration, tail: &Tail) -> Error {
    build_error(format!("{doing} {what} did not finish within its limit, and was stopped"))
        .took(limit, limit)
        .section("its last lines", last_lines(tail, 12))
        .next_step("raise the limit with NIXVM_BUILD_TIMEOUT (for example 3h)")
}

fn killed(doing: &str, what: &str, signal: i32, tail: &Tail) -> Error {
    let error = build_error(format!("{doing} {what} failed: nix was killed by signal {signal}"))
        .section("its last lines", last_lines(tail, 6));
    if signal == 9 {
        return error
            .likely_cause(
                "the host ran out of memory (evaluating NixOS takes up to 2 GB), or another program killed it",
            )
            .next_step("see `dmesg`; give the host more memory or swap, or end other programs");
    }
    error
}

fn build_error(summary: String) -> Error {
    Error::new(ErrorKind::Build, summary)
}

fn last_lines(tail: &Tail, count: usize) -> String {
    let skip = tail.lines.len().saturating_sub(count);
    tail.lines.iter().skip(skip).map(|line| cut(line, 240)).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail(text: &str) -> Tail {
        let mut tail = Tail::default();
        text.lines().for_each(|line| tail.push(line));
        tail
    }

    fn report(text: &str) -> String {
        explain(
            "building",
            "configuration.nix",
            Some(Path::new("/home/u")),
            ExitStatus::from_raw(1 << 8),
            &tail(text),
        )
        .to_string()
    }

    #[test]
    fn the_message_is_the_first_thing_and_the_source_line_is_shown() {
        let report = report(
            "error: undefined variable 'wheel'\n\n       at /home/u/configuration.nix:8:19:\n\n            8|     extraGroups = wheel;\n",
        );
        assert!(
            report.starts_with("building configuration.nix failed: undefined variable 'wheel'\n"),
            "{report}"
        );
        assert!(
            report.contains("at /home/u/configuration.nix:8:19:\n    |      8|     extraGroups = wheel;"),
            "{report}"
        );
    }

    #[test]
    fn the_failed_builder_is_named_and_not_what_failed_because_of_it() {
        let report = report(
            "building '/nix/store/a-root.drv'...\nfetching\nE: no such package\n\
             error: builder for '/nix/store/a-root.drv' failed with exit code 3\n\
             error: 1 dependencies of derivation '/nix/store/b-vm.drv' failed to build",
        );
        assert!(
            report.contains("failed: builder for '/nix/store/a-root.drv' failed with exit code 3"),
            "{report}"
        );
        assert!(report.contains("| E: no such package"), "{report}");
        assert!(!report.contains("| building"), "{report}");
    }

    #[test]
    fn known_reasons_come_with_what_to_do() {
        let full = report(
            "cp: write error: No space left on device\nerror: builder for '/nix/store/a.drv' failed with exit code 1",
        );
        assert!(full.contains("the disk is full") && full.contains("nix-collect-garbage"), "{full}");
        let offline = report(
            "warning: error: unable to download 'https://nixos.org/x': Couldn't resolve host name (6); retrying\n\
             error: file 'nixpkgs/nixos' was not found in the Nix search path (add it using $NIX_PATH or -I)",
        );
        assert!(offline.contains("no network") && offline.contains("--nixpkgs"), "{offline}");
        let lost = report("error: file 'nixpkgs/nixos' was not found in the Nix search path");
        assert!(lost.contains("channel:nixos-26.05") && !lost.contains("network"), "{lost}");
        let host =
            report("error: flake 'git+file:///x' does not provide attribute 'nixosConfigurations.web'");
        assert!(host.contains("nix flake show"), "{host}");
    }

    #[test]
    fn a_warning_about_a_mirror_does_not_hide_a_fault_in_the_configuration() {
        let warning = "warning: error: unable to download 'https://cache/x': timed out\n";
        let undefined = report(&format!("{warning}error: undefined variable 'x'"));
        assert!(!undefined.contains("network"), "{undefined}");
        let failed = "building '/nix/store/a.drv'...\ncc: error\nerror: builder for '/nix/store/a.drv' failed with exit code 1";
        let builder = report(&format!("{warning}{failed}"));
        assert!(!builder.contains("network"), "{builder}");
        let offline = report(&failed.replace("cc: error", "E: Could not resolve 'deb.debian.org'"));
        assert!(offline.contains("no network"), "{offline}");
    }

    #[test]
    fn a_killed_nix_is_told_from_a_failed_one() {
        let killed =
            explain("building", "c.nix", None, ExitStatus::from_raw(9), &tail("evaluating")).to_string();
        assert!(killed.contains("killed by signal 9") && killed.contains("memory"), "{killed}");
        let silent = report("something else");
        assert!(silent.contains("exit status: 1") && silent.contains("something else"), "{silent}");
    }

    #[test]
    fn a_message_and_a_trace_without_end_are_bounded() {
        let long = format!("error: {}\n{}", "x".repeat(9999), "       line\n".repeat(500));
        let trace = "       … while calling\n".repeat(500);
        let report = report(&format!("{long}{trace}"));
        assert!(report.lines().count() < 60, "{}", report.lines().count());
        assert!(report.len() < 8000, "{}", report.len());
    }
}
