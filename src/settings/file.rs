//! Finds nixvm.toml in a folder or above it, and reads it with the line of each key.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use toml::Spanned;

use super::table::{Setting, TABLE};
use crate::{Error, ErrorKind, Result, above, environment, nearest};

/// The name of the file that is searched for.
pub const NAME: &str = "nixvm.toml";

/// A parsed nixvm.toml. Every key is known and has the right type.
#[derive(Debug, Default)]
pub(super) struct File {
    pub(super) path: PathBuf,
    /// Its settings as text, each with its line.
    pub(super) given: Vec<(&'static Setting, OsString, usize)>,
}

/// Returns the nixvm.toml to use: the one that the variable `NIXVM_TOML` names, else the one in or above the
/// first of `folders` that has one.
pub fn find_file(folders: &[PathBuf]) -> Option<PathBuf> {
    environment::path(super::FILE_VARIABLE)
        .or_else(|| folders.iter().find_map(|folder| above::nearest(folder, NAME).ok()))
}

impl File {
    /// Reads the file. Relative paths in it are relative to its folder.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] with file and line if it is not TOML, has an unknown key, or a value of the wrong
    /// type.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let path = std::path::absolute(path)
            .map_err(|source| Error::io(format_args!("find {}", path.display()), &source))?;
        let text = fs::read_to_string(&path).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => {
                Error::new(ErrorKind::Usage, format!("there is no file {}", path.display()))
            }
            std::io::ErrorKind::InvalidData => {
                Error::new(ErrorKind::Usage, format!("{} is not UTF-8", path.display()))
            }
            _ => Error::io(format_args!("read {}", path.display()), &source),
        })?;
        Self::parse(path, &text)
    }

    fn parse(path: PathBuf, text: &str) -> Result<Self> {
        let table: BTreeMap<Spanned<String>, Spanned<toml::Value>> =
            toml::from_str(text).map_err(|error| {
                let line = error.span().map_or(1, |span| line_of(text, span.start));
                wrong(&path, text, line, error.message().lines().next().unwrap_or("it is not TOML"))
            })?;
        let folder = path.parent().unwrap_or(Path::new("/"));
        let mut given = Vec::new();
        for (key, value) in &table {
            let (name, line) = (key.get_ref().as_str(), line_of(text, key.span().start));
            let Some(setting) = Setting::by_key(name) else {
                let error = wrong(&path, text, line, &format!("there is no key `{name}`"));
                let keys = TABLE.iter().map(|setting| setting.key);
                if let toml::Value::Table(inside) = value.get_ref() {
                    let known = inside.keys().any(|key| Setting::by_key(key).is_some());
                    return Err(error.next_step(match known {
                        true => format!("the keys stand at the top of the file: remove the line `[{name}]`"),
                        false => "there are no tables; `nixvm-test config` shows every key".to_owned(),
                    }));
                }
                return Err(error.next_step(match nearest(name, keys) {
                    Some(near) => format!("did you mean `{near}`? `nixvm-test config` shows every key"),
                    None => "`nixvm-test config` shows every key".to_owned(),
                }));
            };
            let read = setting.form.text_of(value.get_ref()).map(OsString::from);
            let read = read.filter(|text| setting.accepts(text)).ok_or_else(|| {
                let takes = setting.form.takes_in_toml();
                wrong(&path, text, line, &format!("`{name}` has an invalid value"))
                    .next_step(format!("write {takes}"))
            })?;
            given.push((setting, setting.form.resolved(read, folder), line));
        }
        Ok(Self { path, given })
    }
}

fn wrong(path: &Path, text: &str, line: usize, why: &str) -> Error {
    let quoted = text.lines().nth(line - 1).unwrap_or_default().trim_end();
    Error::new(ErrorKind::Usage, format!("{}:{line}: {why}", path.display()))
        .section(format!("line {line}"), quoted)
}

/// Returns the line number of the byte at `at`, starting at 1.
fn line_of(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        let error = File::parse("/p/nixvm.toml".into(), text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        error.to_string()
    }

    #[test]
    fn every_form_of_value_is_read_as_toml_has_it() {
        let text = "configuration = \"web.nix\"\nkeep-state = \"strict\"\nfail-fast = true\n\n# seconds\nrun-timeout = 90\n\
                    build-timeout = \"2h\"\njobs = 2\nhost-memory = \"4G\"\nnixpkgs = \"../nixpkgs\"\n";
        let file = File::parse("/p/a/nixvm.toml".into(), text).unwrap();
        let given = |key: &str| {
            let (_, text, line) = file.given.iter().find(|(setting, ..)| setting.key == key).unwrap();
            (text.to_str().unwrap(), *line)
        };
        assert_eq!(given("configuration"), ("/p/a/web.nix", 1));
        assert_eq!(given("keep-state"), ("strict", 2));
        assert_eq!(given("fail-fast"), ("1", 3));
        assert_eq!(given("run-timeout"), ("90", 6));
        assert_eq!(given("jobs"), ("2", 8));
        assert_eq!(given("nixpkgs").0, "/p/a/../nixpkgs");
    }

    #[test]
    fn a_key_that_is_not_known_is_an_error_with_its_line_and_the_nearest_key() {
        let text = error("jobs = 1\n\n  nixpkg = \"standin\"\n");
        assert!(text.starts_with("/p/nixvm.toml:3: there is no key `nixpkg`"), "{text}");
        assert!(text.contains("| nixpkg = \"standin\"") || text.contains("nixpkg = \"standin\""), "{text}");
        assert!(text.contains("did you mean `nixpkgs`?"), "{text}");
        let text = error("[settings]\njobs = 2\n");
        assert!(text.starts_with("/p/nixvm.toml:1: there is no key `settings`"), "{text}");
        assert!(text.contains("remove the line `[settings]`"), "{text}");
        let text = error("[colours]\nerror = \"red\"\n");
        assert!(text.starts_with("/p/nixvm.toml:1: there is no key `colours`"), "{text}");
        assert!(!text.contains("did you mean"), "{text}");
    }

    #[test]
    fn a_value_of_another_type_and_one_that_makes_no_sense_are_refused_with_what_to_write() {
        for (line, takes) in [
            ("jobs = \"2\"", "a number from 1, without quotes"),
            ("jobs = 0", "a number from 1, without quotes"),
            ("jobs = -1", "a number from 1"),
            ("fail-fast = \"yes\"", "true or false"),
            ("keep-state = \"on\"", "true, \"strict\" or false"),
            ("run-timeout = \"soon\"", "such as 90s"),
            ("partition = \"hash:3/2\"", "hash:1/3"),
            ("configuration = 7", "in quotes"),
            ("nixpkgs = \"\"", "in quotes"),
        ] {
            let text = error(&format!("# first\n{line}\n"));
            assert!(text.starts_with("/p/nixvm.toml:2: ") && text.contains(takes), "{line}:\n{text}");
        }
    }

    #[test]
    fn what_is_not_toml_is_refused_with_its_line() {
        let text = error("jobs = 1\nconfiguration = web.nix\n");
        assert!(text.starts_with("/p/nixvm.toml:2: ") && text.contains("configuration = web.nix"), "{text}");
        assert!(error("jobs = 1\njobs = 2\n").starts_with("/p/nixvm.toml:2: "));
    }
}
