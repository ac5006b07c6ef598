//! Colours the report of a failure for a terminal.

/// Returns `report`, which is plain text, with the important parts highlighted: what failed, the titles, the
/// line of the scenario.
///
/// Output of a guest or a build follows `    | ` in a report, so it can't look like anything else.
pub(crate) fn paint(report: &str) -> String {
    let mut painted = String::with_capacity(report.len() + 256);
    for (number, line) in report.lines().enumerate() {
        if number > 0 {
            painted.push('\n');
        }
        let title = |line: &str| line.strip_prefix("  ").is_some_and(|rest| !rest.starts_with([' ', '>']));
        if number == 0 {
            painted.push_str(&format!("\x1b[1;31m{line}\x1b[0m"));
        } else if line.starts_with("  > ") {
            painted.push_str(&format!("\x1b[1m{line}\x1b[0m"));
        } else if let Some((name, rest)) = line.split_once(": ").filter(|_| title(line)) {
            painted.push_str(&format!("\x1b[36m{name}:\x1b[0m {rest}"));
        } else if title(line) {
            painted.push_str(&format!("\x1b[36m{line}\x1b[0m"));
        } else if let Some(said) = line.strip_prefix("    | ") {
            painted.push_str(&format!("\x1b[2m    |\x1b[0m {said}"));
        } else {
            painted.push_str(&format!("\x1b[2m{line}\x1b[0m"));
        }
    }
    painted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn painting_changes_no_word() {
        let report = "expected a cow\n  what came:\n    | a: dog\n  scenario: login, a.rs:3\n  >    3 | cow()\n       4 | }\n  after 1.0 s of 2.0 s";
        let plain = String::from_utf8(crate::text::strip_escapes(paint(report).as_bytes())).unwrap();
        assert_eq!(plain, report);
        assert!(paint(report).starts_with("\x1b[1;31mexpected a cow\x1b[0m\n\x1b[36m  what came:\x1b[0m\n"));
    }
}
