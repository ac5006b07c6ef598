//! Removes a shell's messages about jobs from a command's output: `[1]+  Done                    sleep 1`.
//!
//! bash prints such a message at the next command that it waits for, which may not be the job's own command. Other
//! shells print it at a prompt, which the serving loop does not have (zsh is told to wait for one, with `unsetopt
//! notify`). So the loop lists the existing jobs before a command runs, and bash's messages about these jobs are not
//! part of the command's output.

use std::sync::LazyLock;

use regex::bytes::Regex;

use crate::machine::session::noise::without_records;

/// A shell's jobs, as bash's builtin `jobs` lists them.
#[derive(Debug, Default)]
pub(crate) struct Jobs(Vec<u8>);

/// Maximum size of a list.
const LONGEST: usize = 64 << 10;

/// Maximum number of jobs whose messages are removed.
const JOBS: usize = 64;
/// How many bytes are searched at each end of an output: bash prints its messages before or after a command's output.
const ENDS: usize = 1 << 20;

/// A job in a list, which may continue on the following lines: `[1]+  Running                 sleep 1 &`.
#[allow(clippy::expect_used)] // a constant, and a test compiles it
static LISTED: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?m)^\[(\d{1,9})\][-+ ]  \S[^\n]*? {2,}(\S[^\n]*(?:\n[^\[\n][^\n]*)*)")
        .expect("a constant pattern")
});
/// What `jobs` adds to a command: that it is in the background, and its working directory.
#[allow(clippy::expect_used)]
static ADDED: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?: &)?(?:  \(wd: [^\n]*\))?\s*\z").expect("a constant pattern"));
/// The builtin that prints messages about jobs on request.
#[allow(clippy::expect_used)]
static ASKS: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\bjobs\b").expect("a constant pattern"));

impl Jobs {
    /// Appends to the list.
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        let room = LONGEST.saturating_sub(self.0.len()).min(bytes.len());
        self.0.extend_from_slice(&bytes[..room]);
    }

    /// Removes bash's messages about these jobs from the output of `command` (with the terminal's line ends).
    pub(crate) fn remove_notices(&self, command: &str, printed: &mut Vec<u8>) {
        if printed.len() <= 2 * ENDS {
            return self.remove_from(command, printed);
        }
        let mut last = printed.split_off(printed.len() - ENDS);
        let middle = printed.split_off(ENDS);
        self.remove_from(command, printed);
        self.remove_from(command, &mut last);
        printed.extend(middle);
        printed.extend(last);
    }

    fn remove_from(&self, command: &str, printed: &mut Vec<u8>) {
        if self.0.is_empty() || ASKS.is_match(command.as_bytes()) {
            return;
        }
        let mut list = without_records(&self.0);
        list.retain(|byte| *byte != b'\r');
        // The list is inside a sequence that terminals do not show.
        let begin = memchr::memmem::find(&list, b"\x1b_").map_or(0, |at| at + 2);
        let list = &list[begin..];
        let list = &list[..memchr::memmem::find(list, b"\x1b\\").unwrap_or(list.len())];
        for job in LISTED.captures_iter(list).take(JOBS) {
            let text = ADDED.replace(&job[2], b"".as_slice());
            let number = String::from_utf8_lossy(&job[1]);
            if text.is_empty() || memchr::memmem::find(printed, format!("[{number}]").as_bytes()).is_none() {
                continue;
            }
            let text = regex::escape(&String::from_utf8_lossy(&text)).replace('\n', r"\r?\n");
            let notice = format!(
                r"(?-u)\[{number}\][-+ ]  [^\n\[]{{1,64}} (?u:{text})(?:  \(wd: [^\n]*\))?\r?\n(?:\(wd now: [^\n]*\)\r?\n)?"
            );
            // A text that is not a valid pattern can't be searched for.
            if let Ok(notice) = Regex::new(&notice) {
                *printed = notice.replace_all(printed, b"".as_slice()).into_owned();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(list: &str, command: &str, printed: &str) -> String {
        let mut jobs = Jobs::default();
        jobs.add(format!("\x1b_{list}\x1b\\\n$ {command}\n").replace('\n', "\r\n").as_bytes());
        let mut printed = printed.replace('\n', "\r\n").into_bytes();
        jobs.remove_notices(command, &mut printed);
        String::from_utf8_lossy(&printed).replace("\r\n", "\n")
    }

    const LIST: &str =
        "[1]-  Running                 sleep 100 &\n[2]+  Stopped                 cat  (wd: ~/x)\n";

    #[test]
    fn what_is_said_of_a_job_of_before_is_no_output() {
        for (printed, expected) in [
            ("a\n[1]-  Done                    sleep 100\nb\n", "a\nb\n"),
            ("no newline[1]+  Killed                  sleep 100  (wd: /tmp)\n(wd now: /)\n", "no newline"),
            ("[1]   Segmentation fault      (core dumped) sleep 100\n", ""),
            ("[2]+  Exit 3                  cat\n[1]-  Done                    sleep 100\n", ""),
            // A job that is not in the list.
            ("[3]+  Done                    sleep 100\n", "[3]+  Done                    sleep 100\n"),
            ("[1]+  Done                    sleep 1000\n", "[1]+  Done                    sleep 1000\n"),
            ("[1] 4321\n", "[1] 4321\n"),
        ] {
            assert_eq!(left(LIST, "true", printed), expected, "{printed}");
        }
    }

    #[test]
    fn of_a_large_output_only_the_ends_are_looked_at_and_of_many_jobs_only_the_first() {
        let notice = "[1]-  Done                    sleep 100\n";
        let lines = "x\n".repeat(ENDS);
        let printed = format!("{notice}{lines}{notice}{lines}{notice}");
        assert!(left(LIST, "true", &printed) == format!("{lines}{notice}{lines}"));
        let job = |number: usize, state: &str| format!("[{number}]   {state:23} sleep 1{number:03}");
        let list: String = (1..=JOBS + 1).map(|number| job(number, "Running") + " &\n").collect();
        let said = |number| job(number, "Done") + "\n";
        assert_eq!(left(&list, "true", &said(JOBS)), "");
        assert_eq!(left(&list, "true", &said(JOBS + 1)), said(JOBS + 1));
    }

    #[test]
    fn who_asks_for_jobs_is_told() {
        let said = "[1]-  Done                    sleep 100\n";
        assert_eq!(left(LIST, "sleep 1; jobs", said), said);
        assert_eq!(left("", "true", said), said);
    }

    #[test]
    fn a_job_of_several_lines_and_one_with_signs_of_patterns_are_known() {
        let list = "[1]+  Running                 while true; do\n    sleep 1;\ndone &\n[2]-  Running                 (a*b|c) &\n";
        assert_eq!(
            left(list, "true", "[1]+  Done                    while true; do\n    sleep 1;\ndone\nx\n"),
            "x\n"
        );
        assert_eq!(left(list, "true", "[2]-  Done                    (a*b|c)\n"), "");
    }
}
