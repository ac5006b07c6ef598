//! Converts a path with shell patterns to a bash word in which nothing else is special.

use crate::{Error, ErrorKind, Result};

/// Characters that are not quoted. `^`, `!` and `-` are special only within brackets.
const SIGNS: &str = "*?[]^!-/._+@%,:=";

/// Returns whether a path has a pattern character, or begins with `~`.
pub(super) fn has_signs(path: &str) -> bool {
    path.starts_with('~') || path.contains(['*', '?', '['])
}

/// Returns the word. `~` and `~NAME` are special only at the beginning, as in a shell.
pub(super) fn word(pattern: &str) -> Result<String> {
    if pattern.is_empty() || pattern.contains('\0') {
        return Err(Error::new(
            ErrorKind::Usage,
            format!("{pattern:?} is not a pattern for the path of a file"),
        ));
    }
    let mut word = String::new();
    for (at, character) in pattern.char_indices() {
        match character {
            '~' if at == 0 => word.push('~'),
            // A newline after a backslash would join two lines.
            '\n' => word.push_str(r"$'\n'"),
            plain if plain.is_ascii_alphanumeric() || !plain.is_ascii() || SIGNS.contains(plain) => {
                word.push(plain)
            }
            other => word.extend(['\\', other]),
        }
    }
    Ok(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns what bash expands it to, in a folder with these files.
    fn found(pattern: &str) -> Vec<String> {
        let home = tempfile::tempdir().unwrap();
        for name in ["a.sock", "b.sock", "c d", "$HOME", "{x,y}", "*"] {
            std::fs::write(home.path().join(name), "").unwrap();
        }
        let script = format!(
            "cd; shopt -s nullglob; for f in {}; do printf '%s\\n' \"$f\"; done",
            word(pattern).unwrap()
        );
        let mut bash = std::process::Command::new("bash");
        let output = bash.args(["-euc", &script]).env("HOME", home.path()).output().unwrap();
        assert!(output.status.success(), "{pattern}: {}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8_lossy(&output.stdout).replace(home.path().to_str().unwrap(), "HOME");
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn signs_of_patterns_and_a_home_have_their_meaning_and_all_else_has_none() {
        assert_eq!(found("*.sock"), ["a.sock", "b.sock"]);
        assert_eq!(found("[!a].sock"), ["b.sock"]);
        assert_eq!(found("~/a.*"), ["HOME/a.sock"]);
        assert_eq!(found("c d"), ["c d"]);
        assert_eq!(found("./$HO?E"), ["./$HOME"]);
        assert_eq!(found("{x,y}"), ["{x,y}"]);
        for text in [
            "$(touch x)",
            "`touch x`",
            "a;touch x",
            "a\ntouch x",
            "a'b\"",
            "a|b>c<d&",
            "x~",
            "#a",
            "(a)",
            "a\\b",
        ] {
            assert_eq!(found(text).join("\n"), text, "it is no more than a name");
        }
        assert!(word("").is_err() && word("a\0").is_err());
    }
}
