//! Texts that a guest prints in any case, and that do not show what went wrong.

/// Returns the lines without sudo's lecture, in any language. The lecture is a paragraph, three numbered
/// rules, and a paragraph of one line.
pub(crate) fn without_lecture(mut lines: Vec<String>) -> Vec<String> {
    let begins = |line: &String, rule: &str| line.trim_start().starts_with(rule);
    while let Some(rules) = lines
        .windows(3)
        .position(|three| begins(&three[0], "#1) ") && begins(&three[1], "#2) ") && begins(&three[2], "#3) "))
    {
        let blank = |line: &String| line.trim().is_empty();
        let (mut from, mut to) = (rules, rules + 3);
        while from > 0 && blank(&lines[from - 1]) {
            from -= 1;
        }
        let most = from.saturating_sub(PARAGRAPH);
        while from > most && !blank(&lines[from - 1]) {
            from -= 1;
        }
        // The paragraph belongs to the lecture if its beginning is there.
        if from > 0 && !blank(&lines[from - 1]) {
            from = rules;
        }
        while from > 0 && blank(&lines[from - 1]) {
            from -= 1;
        }
        while lines.get(to).is_some_and(blank) {
            to += 1;
        }
        // "For security reasons, the password you type will not be visible."
        if lines.get(to).is_some_and(|line| line.ends_with(['.', '。']))
            && lines.get(to + 1).is_some_and(blank)
        {
            to += 1;
        }
        while lines.get(to).is_some_and(blank) {
            to += 1;
        }
        lines.drain(from..to);
    }
    lines
}

/// The maximum number of lines of the paragraph before the rules.
const PARAGRAPH: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    const LECTURE: &str = "\nWe trust you have received the usual lecture from the local System\nAdministrator. It usually boils down to these three things:\n\n    #1) Respect the privacy of others.\n    #2) Think before you type.\n    #3) With great power comes great responsibility.\n";

    fn of(text: &str) -> Vec<String> {
        without_lecture(text.split('\n').map(str::to_owned).collect())
    }

    #[test]
    fn the_lecture_is_left_out_and_nothing_else() {
        for last in ["", "\nFor security reasons, the password you type will not be visible.\n"] {
            let text = format!("$ sudo true\n{LECTURE}{last}\n[sudo] password for alice:\nroot");
            assert_eq!(of(&text), ["$ sudo true", "[sudo] password for alice:", "root"], "{last:?}");
        }
        let german = "x\n\nWir gehen davon aus, dass der lokale Systemadministrator Ihnen die Regeln\nerklärt hat.\n\n    #1) A\n    #2) B\n    #3) C\n\n[sudo] Passwort für alice:";
        assert_eq!(of(german), ["x", "[sudo] Passwort für alice:"]);
        for text in ["#1) one\n#2) two", "a\nb\nc\nd", ""] {
            assert_eq!(of(text).join("\n"), text);
        }
    }
}
