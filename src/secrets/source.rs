//! Passwords in a scenario's source. They are known before they are typed, and are masked when a line of the
//! source is shown.
//!
//! A literal counts as a password if it is the second argument of `login(…)` or `logged_in(…)`, or the value
//! of something with a telling name (`const PASSWORD: &str = "…"`, `password: "…"`).

use std::sync::LazyLock;

use regex::{Captures, Regex};

/// A literal, with its content captured: `"…"` with escapes, `r"…"`, `r#"…"#`.
const LITERAL: &str = r##"(?:r#"(?<raw>.*?)"#|r"(?<plain>[^"]*)"|"(?<quoted>(?:[^"\\]|\\.)*)")"##;

static PLACES: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let argument = r"\b(?:login|logged_in)\s*\(\s*(?:[^,()]|\([^()]*\))*,\s*";
    let named =
        r"(?i:\b\w*(?:password|passwd|passphrase|secret)\w*)\s*(?::\s*&?\s*(?:'static\s+)?str\s*)?[:=]\s*&?";
    Regex::new(&format!("(?s)(?<before>{argument}|{named}){LITERAL}")).ok()
});

/// Returns the passwords in `source`.
pub(crate) fn literals(source: &str) -> Vec<String> {
    let found = PLACES.iter().flat_map(|places| places.captures_iter(source));
    found
        .filter_map(|found| {
            literal(&found).map(|(text, escaped)| if escaped { unescaped(text) } else { text.to_owned() })
        })
        .collect()
}

/// Masks the passwords in `source`, and all other known ones, without changing the number of lines.
pub(crate) fn masked(source: &str) -> String {
    let Some(places) = &*PLACES else { return super::words(source) };
    let in_place = places.replace_all(source, |found: &Captures<'_>| {
        let whole = &found[0];
        match literal(found) {
            Some((text, _)) if !text.is_empty() => {
                let lines = "\n".repeat(text.matches('\n').count());
                let (before, literal) = whole.split_at(found["before"].len());
                format!("{before}{}", literal.replacen(text, &format!("{}{lines}", super::MASK), 1))
            }
            _ => whole.to_owned(),
        }
    });
    super::words(&in_place)
}

/// Returns the text of the literal, and whether it may contain escapes.
fn literal<'a>(found: &Captures<'a>) -> Option<(&'a str, bool)> {
    let of = |name| found.name(name).map(|text| text.as_str());
    of("quoted").map(|text| (text, true)).or(of("raw").or(of("plain")).map(|text| (text, false)))
}

/// Resolves the escapes that occur in passwords.
fn unescaped(text: &str) -> String {
    let (mut plain, mut characters) = (String::new(), text.chars());
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some('n') => plain.push('\n'),
                Some('t') => plain.push('\t'),
                Some(other) => plain.push(other),
                None => {}
            },
            other => plain.push(other),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = r##"
#[scenario(from = logged_in("emma", "Gu3ss-me"))]
async fn works(machine: Machine) -> Result {
    const ROOT_PASSWORD: &str = "t00r\"x";
    let user = User { name: "bob", password: "b0b's" };
    machine.login("alice", "S3cr3tPw").await?;
    machine.login(
        name("x", 1),
        r#"raw "one"#,
    ).await?;
    login ( user , r"back\slash" );
    machine.login("carol", "").await?;
    machine.succeed("echo hello").await?;
    other("alice", "stays");
}
"##;

    #[test]
    fn passwords_are_found_where_they_stand_as_such() {
        assert_eq!(
            literals(SOURCE),
            ["Gu3ss-me", "t00r\"x", "b0b's", "S3cr3tPw", "raw \"one", "back\\slash", ""]
        );
    }

    #[test]
    fn source_is_shown_without_them_and_with_its_lines() {
        let shown = masked(SOURCE);
        for (secret, line) in [
            ("Gu3ss", "#[scenario(from = logged_in(\"emma\", \"****\"))]"),
            ("t00r", "    const ROOT_PASSWORD: &str = \"****\";"),
            ("b0b's", "    let user = User { name: \"bob\", password: \"****\" };"),
            ("S3cr3tPw", "    machine.login(\"alice\", \"****\").await?;"),
            ("raw \"one", "        r#\"****\"#,"),
            ("slash", "    login ( user , r\"****\" );"),
            ("@", "    machine.login(\"carol\", \"\").await?;"),
            ("@", "    other(\"alice\", \"stays\");"),
        ] {
            assert!(!shown.contains(secret) && shown.lines().any(|shown| shown == line), "{line}\n{shown}");
        }
        assert_eq!(shown.lines().count(), SOURCE.lines().count());
    }
}
