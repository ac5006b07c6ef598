//! Finds the faulty line of the user's configuration where Nix names only an option or a file.

use std::path::Path;

use super::error_text::Excerpt;
use super::line::{clean, cut};

/// Maximum file size in bytes. Larger files are not written by hand.
const LARGEST: u64 = 1 << 20;

/// Words that occur in many options and identify none of them alone.
const COMMON: [&str; 8] =
    ["config", "enable", "extraConfig", "package", "packages", "services", "settings", "users"];

/// Finds the line of `file` that appears to set `option`: `services.nginx.enable`, or the longest part of that on one
/// line.
pub(super) fn line_of_option(file: &Path, option: &str) -> Option<Excerpt> {
    let text = read(file)?;
    let parts: Vec<&str> = option.split('.').map(|part| part.trim_matches('"')).collect();
    let count = parts.len();
    // The end of an option identifies it best: `{ users.users.alice = { isNormalUser = 1; }; }`.
    let ends = (0..count).map(|start| (start, count));
    let others =
        (1..count).rev().flat_map(|length| (0..count - length).map(move |start| (start, start + length)));
    ends.chain(others).find_map(|(start, end)| {
        let words = parts.get(start..end)?;
        let (name, alone) = (words.join("."), words.len() == 1);
        if alone && COMMON.contains(&name.as_str()) {
            return None;
        }
        let mut found = lines(&text).filter(|(_, line)| word_in(line, &name).is_some());
        let (number, line) = found.next()?;
        let unique = !alone || found.next().is_none();
        unique.then(|| place(file, &text, number, word_in(line, &name).unwrap_or_default()))
    })
}

/// Finds the line of `file` that names `other` by its last path component.
pub(super) fn line_of_file(file: &Path, other: &Path) -> Option<Excerpt> {
    let text = read(file)?;
    let name = other.file_name()?.to_str()?;
    let (number, line) = lines(&text).find(|(_, line)| line.contains(name))?;
    Some(place(file, &text, number, line.find(name).unwrap_or_default()))
}

/// Finds the line of `file` that defines an option in terms of itself: `x.y = config.x.y + 1`.
pub(super) fn line_of_recursion(file: &Path) -> Option<Excerpt> {
    let text = read(file)?;
    let found = lines(&text).find_map(|(number, line)| {
        let (left, right) = line.split_once('=')?;
        let own = format!("config.{}", left.trim());
        word_in(right, &own).map(|at| (number, left.len() + 1 + at))
    });
    let imports = || {
        let (number, line) = lines(&text).find(|(_, line)| {
            word_in(line, "imports").is_some() && (line.contains("config.") || line.contains("pkgs."))
        })?;
        Some((number, line.find("imports").unwrap_or_default()))
    };
    let (number, column) = found.or_else(imports)?;
    Some(place(file, &text, number, column))
}

fn read(file: &Path) -> Option<String> {
    let small = std::fs::metadata(file).ok().is_some_and(|about| about.is_file() && about.len() <= LARGEST);
    small.then(|| std::fs::read_to_string(file).ok())?
}

/// Returns the lines with their numbers from 1, without comments.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(index, line)| (index + 1, line.split('#').next().unwrap_or(line)))
}

/// Returns the position of `word` in `line` as a whole word.
fn word_in(line: &str, word: &str) -> Option<usize> {
    let part = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-' | '\'');
    line.match_indices(word).map(|(at, _)| at).find(|&at| {
        let before = line.get(..at).and_then(|text| text.chars().next_back());
        let after = line.get(at + word.len()..).and_then(|text| text.chars().next());
        !before.is_some_and(part) && !after.is_some_and(part)
    })
}

/// Formats the place as Nix does: the line, the lines around it, and a mark below.
fn place(file: &Path, text: &str, number: usize, column: usize) -> Excerpt {
    let mut snippet = Vec::new();
    for (index, line) in text.lines().enumerate().skip(number.saturating_sub(2)).take(3) {
        snippet.push(format!("{:6}| {}", index + 1, cut(&clean(line.as_bytes()), 160)));
        if index + 1 == number {
            let before = line.get(..column).map_or(0, |text| text.chars().count());
            snippet.push(format!("      | {}^", " ".repeat(before)));
        }
    }
    Excerpt { at: format!("{}:{number}:{}", file.display(), column + 1), snippet }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    fn at(place: Option<Excerpt>) -> String {
        let at = place.map(|place| place.at).unwrap_or_default();
        at.rsplit(':').nth(1).unwrap_or_default().to_owned()
    }

    #[test]
    fn an_option_is_found_whole_or_in_parts() {
        let file = file(
            "{\n  # services.ngnix.enable is a comment\n  services.ngnix.enable = true;\n  users.users.alice = {\n    isNormalUser = 1;\n  };\n\
             \x20 boot = { enable = true; kernelParams = 7; };\n  time.timeZones = 1;\n  my-time.timeZone = 2;\n  time.timeZone = 3;\n}\n",
        );
        let line = |option: &str| at(line_of_option(file.path(), option));
        assert_eq!(line("services.ngnix.enable"), "3");
        assert_eq!(line("users.users.alice.isNormalUser"), "5");
        assert_eq!(line("boot.kernelParams"), "7");
        assert_eq!(line("time.timeZone"), "10", "and not a part of another word");
        assert_eq!(line("services.nothing.enable"), "", "no word of it is there alone");
        let place = line_of_option(file.path(), "services.ngnix.enable").unwrap();
        assert_eq!(place.snippet[1..3], ["     3|   services.ngnix.enable = true;", "      |   ^"]);
    }

    #[test]
    fn a_file_and_a_recursion_are_found_by_their_look() {
        let file = file(
            "{ config, ... }:\n{\n  imports = [ ./hardware.nix ];\n  networking.hostName = config.networking.hostName + \"x\";\n}\n",
        );
        assert_eq!(at(line_of_file(file.path(), Path::new("/p/hardware.nix"))), "3");
        assert_eq!(at(line_of_recursion(file.path())), "4");
        assert_eq!(line_of_recursion(Path::new("/nowhere")), None);
    }
}
