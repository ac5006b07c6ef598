//! Parses the `---` block at the top of a scenario's file, a cargo manifest as in `cargo script`. The stable compiler
//! does not support it yet, so it is removed before compiling.
//!
//! ```text
//! ---
//! [dependencies]
//! serde_json = "1"
//! ---
//! use nixvm_test::prelude::*;
//! ```

use crate::{Error, ErrorKind, Result};

/// A file with frontmatter, split into its parts.
#[derive(Debug)]
pub(super) struct Frontmatter {
    /// The manifest.
    pub manifest: toml::Table,
    /// The file's text with the lines of the block empty, so that line numbers stay the same.
    pub code: String,
}

/// The tables that a scenario's manifest may contain.
const TABLES: [&str; 2] = ["dependencies", "package"];

/// Splits `text`; returns `None` if it has no frontmatter.
///
/// # Errors
/// [`ErrorKind::Usage`] if the block has no end, is not TOML, or contains a key that is not allowed there.
pub(super) fn split(text: &str) -> Result<Option<Frontmatter>> {
    let wrong = |why: String| Error::new(ErrorKind::Usage, format!("the `---` block of the scenario {why}"));
    let mut lines = text.split_inclusive('\n').peekable();
    let mut code = String::with_capacity(text.len());
    // A `#!` line and empty lines may precede it.
    while let Some(line) =
        lines.next_if(|line| line.starts_with("#!") && !line.starts_with("#![") || line.trim().is_empty())
    {
        code.push_str(end_of(line));
    }
    let Some(opening) = lines.next_if(|line| line.starts_with("---")) else { return Ok(None) };
    let fence: &str = &opening[..opening.len() - opening.trim_start_matches('-').len()];
    let kind = opening.trim_start_matches('-').trim();
    if !matches!(kind, "" | "cargo") {
        return Err(wrong(format!("has an unknown kind: `{kind}`")).next_step("write `---` or `---cargo`"));
    }
    code.push_str(end_of(opening));

    let mut manifest = String::new();
    loop {
        let Some(line) = lines.next() else {
            return Err(wrong("has no end".into()).next_step(format!("close it with a line `{fence}`")));
        };
        code.push_str(end_of(line));
        if line.trim_end() == fence {
            break;
        }
        manifest.push_str(line);
    }
    code.extend(lines);

    let manifest: toml::Table = manifest
        .parse()
        .map_err(|error: toml::de::Error| wrong(format!("is not TOML: {}", error.message())))?;
    if let Some(other) = manifest.keys().find(|key| !TABLES.contains(&key.as_str())) {
        return Err(wrong(format!("has `{other}`"))
            .next_step("a scenario may have [dependencies] and [package] edition"));
    }
    if let Some(package) = manifest.get("package") {
        let other = package.as_table().and_then(|package| package.keys().find(|key| *key != "edition"));
        if let Some(other) = other {
            return Err(
                wrong(format!("has `package.{other}`")).next_step("[package] may have only `edition`")
            );
        }
    }
    Ok(Some(Frontmatter { manifest, code }))
}

fn end_of(line: &str) -> &str {
    if line.ends_with('\n') { "\n" } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_block_is_cut_out_and_every_line_keeps_its_number() {
        let text = "#!/usr/bin/env nixvm-test\n---cargo\n[dependencies]\nserde_json = \"1\"\n---\nuse x;\nfn y() {}\n";
        let split = split(text).unwrap().unwrap();
        assert_eq!(split.code, "\n\n\n\n\nuse x;\nfn y() {}\n");
        assert_eq!(split.manifest["dependencies"]["serde_json"].as_str(), Some("1"));
    }

    #[test]
    fn a_file_without_a_block_is_left_alone() {
        for text in ["use x;\n", "", "//! doc\n---\n", "#![allow(dead_code)]\n"] {
            assert!(split(text).unwrap().is_none(), "{text:?}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_block_is_said() {
        let error = |text: &str| split(text).unwrap_err().to_string();
        assert!(error("---\n[dependencies]\n").contains("has no end"));
        assert!(error("---\nnot toml\n---\n").contains("is not TOML"));
        assert!(error("---\n[profile.dev]\nopt-level = 3\n---\n").contains("has `profile`"));
        assert!(error("---\n[package]\nname = \"x\"\n---\n").contains("has `package.name`"));
        assert!(error("---python\n---\n").contains("`python`"));
    }
}
