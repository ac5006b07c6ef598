//! Pages show files of this repository as copies, so that a page can be read wherever it is opened. `./just book-write`
//! writes the copies again.
//!
//! A copy begins below a line `<!-- copied: scenarios/login.rs -->`. It is the block of code that follows; where none
//! does, it is all text up to `<!-- end of the copy -->`, and the file's title is left out.

use std::fs;
use std::path::{Path, PathBuf};

use crate::book::pages::{pages, root, shown};

const BEGIN: &str = "<!-- copied: ";
const END: &str = "<!-- end of the copy -->";

/// The file that is copied below a line, if the line says so.
pub fn copied(line: &str) -> Option<PathBuf> {
    let name = line.strip_prefix(BEGIN)?.strip_suffix(" -->")?;
    Some(root().join(name))
}

/// A page whose copies are those of the files as they are now.
fn with_copies(page: &str, read: impl Fn(&Path) -> String) -> Result<String, String> {
    let mut made = String::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        made.push_str(line);
        made.push('\n');
        let Some(file) = copied(line) else { continue };
        let text = read(&file);
        let text = text.trim_end();
        let first = lines.next().unwrap_or_default();
        let end = if first.starts_with("```") {
            made.push_str(first);
            made.push('\n');
            made.push_str(text);
            "```"
        } else {
            // The page has a title of its own.
            made.push_str(text.trim_start_matches(|letter| letter != '\n').trim_start());
            END
        };
        made.push('\n');
        if first != END && !lines.any(|line| line == end) {
            return Err(format!("a copy of {} has no end: {end}", shown(&file)));
        }
        made.push_str(end);
        made.push('\n');
    }
    Ok(made)
}

#[test]
fn every_copy_is_as_its_file() {
    let overwrite = std::env::var_os("SNAPSHOTS").is_some_and(|how| how == "overwrite");
    let mut pages = pages();
    pages.push(root().join("README.md"));
    let mut copies = 0;
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        assert!(!text.contains("{{#"), "{}: plain Markdown viewers do not know `{{{{#`", shown(&page));
        copies += text.lines().filter_map(copied).count();
        let made = with_copies(&text, |file| fs::read_to_string(file).unwrap())
            .unwrap_or_else(|error| panic!("{}: {error}", shown(&page)));
        if overwrite {
            if made != text {
                fs::write(&page, made).unwrap();
            }
            continue;
        }
        let differs = text.lines().zip(made.lines()).find(|(there, made)| there != made);
        assert!(text == made, "{}: run ./just book-write\nfirst: {differs:?}", shown(&page));
    }
    assert!(copies > 15, "{copies}");
}

#[test]
fn a_copy_that_is_stale_is_written_again() {
    let read = |_: &Path| "# Title\n\nnew\n".to_owned();
    let block = |text: &str| format!("a\n<!-- copied: x -->\n```rust,ignore\n{text}\n```\nb\n");
    assert_eq!(with_copies(&block("old\nlines"), read).unwrap(), block("# Title\n\nnew"));
    let text = |text: &str| format!("a\n<!-- copied: x -->\n{text}{END}\nb\n");
    assert_eq!(with_copies(&text("old\nlines\n"), read).unwrap(), text("new\n"));
    assert_eq!(with_copies(&text(""), read).unwrap(), text("new\n"));
    assert!(with_copies("<!-- copied: x -->\n```\nold\n", read).is_err());
}
