//! Which files were meant, and whether they can be scenarios at all: said before the compiler says it
//! less kindly.

use std::fs;
use std::path::{Path, PathBuf};

use crate::{Error, ErrorKind, Result};

/// What the last line of a scenario's file is.
const MAIN: &str = "nixvm_test::main!();";

/// The scenario files that `path` means: itself, or all in that folder (not below it), by name.
/// They are absolute.
///
/// # Errors
/// [`ErrorKind::Usage`] if there is no such file or folder, a folder holds no scenarios, or the file
/// is not a scenario's.
pub fn find(path: &Path) -> Result<Vec<PathBuf>> {
    let usage = |summary: String| Error::new(ErrorKind::Usage, summary);
    let shown = path.display();
    let about = fs::metadata(path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => {
            let error = usage(format!("there is no file or folder `{shown}`"));
            match meant(path) {
                Some(near) => error.next_step(format!("did you mean `{}`?", near.display())),
                None => error,
            }
        }
        _ => Error::io(format_args!("read {shown}"), &source),
    })?;
    // The path as given, not with its links followed: it is what the compiler will show.
    let absolute =
        std::path::absolute(path).map_err(|source| Error::io(format_args!("find {shown}"), &source))?;
    if about.is_dir() {
        let found = in_folder(&absolute)?;
        if found.is_empty() {
            let error = usage(format!("no scenarios in the folder {shown}"));
            return Err(error.next_step(match below(path) {
                Some(folder) => format!("there are some in {0}: name that folder", folder.display()),
                None => format!("a scenario is a file NAME.rs that ends in `{MAIN}`"),
            }));
        }
        return Ok(found);
    }
    if absolute.extension().is_none_or(|extension| extension != "rs") {
        return Err(usage(format!("`{shown}` is not a scenario: its name does not end in .rs")));
    }
    if !has_main(&text(&absolute)?) {
        return Err(
            usage(format!("`{shown}` has no `{MAIN}`")).next_step(format!("add a last line `{MAIN}`"))
        );
    }
    Ok(vec![absolute])
}

/// The text of a file.
pub(super) fn text(file: &Path) -> Result<String> {
    let bytes =
        fs::read(file).map_err(|source| Error::io(format_args!("read {}", file.display()), &source))?;
    String::from_utf8(bytes).map_err(|_| {
        Error::new(ErrorKind::Usage, format!("`{}` is not Rust: it is not even text (UTF-8)", file.display()))
    })
}

/// The scenario that is most like one that is not there: beside it, or in a folder beside it.
fn meant(path: &Path) -> Option<PathBuf> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let here = folder.unwrap_or(Path::new("."));
    let below = folders(here).into_iter().flat_map(|folder| in_folder(&folder).unwrap_or_default());
    let all: Vec<PathBuf> = in_folder(here).unwrap_or_default().into_iter().chain(below).collect();
    let name = |path: &Path| path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let names: Vec<String> = all.iter().map(|path| name(path)).collect();
    let near = crate::nearest(&name(path), names.iter().map(String::as_str))?;
    let found = all.get(names.iter().position(|name| name == near)?)?;
    Some(if folder.is_none() { found.strip_prefix("./").unwrap_or(found).to_owned() } else { found.clone() })
}

/// A folder in this one that has scenarios.
fn below(folder: &Path) -> Option<PathBuf> {
    folders(folder).into_iter().find(|folder| in_folder(folder).is_ok_and(|found| !found.is_empty()))
}

fn folders(of: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(of).into_iter().flatten().flatten();
    let mut all: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    all.sort();
    all
}

fn in_folder(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder)
        .map_err(|source| Error::io(format_args!("read the folder {}", folder.display()), &source))?;
    let mut files: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs") && path.is_file())
        // Others may be modules of a scenario.
        .filter(|path| text(path).is_ok_and(|text| has_main(&text)))
        .collect();
    files.sort();
    Ok(files)
}

/// Whether there is a `main` in the code, by its look: comments don't count.
fn has_main(text: &str) -> bool {
    let mut code = text.lines().map(|line| line.split("//").next().unwrap_or(line));
    code.any(|line| line.contains("main!") || line.contains("fn main("))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_means_its_scenarios_but_not_their_modules() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        put("b.rs", "nixvm_test::main!();\n");
        put("a.rs", "nixvm_test::main!();\n");
        put("helpers.rs", "// nixvm_test::main!() is in a.rs\npub fn help() {}\n");
        put("notes.txt", "nixvm_test::main!();\n");
        let names: Vec<PathBuf> = find(folder.path()).unwrap();
        assert_eq!(names, [folder.path().join("a.rs"), folder.path().join("b.rs")]);
    }

    #[test]
    fn what_can_not_be_a_scenario_is_refused_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let refused = |name: &str| find(&folder.path().join(name)).unwrap_err().to_string();
        fs::write(folder.path().join("notes.txt"), "").unwrap();
        fs::write(folder.path().join("binary.rs"), [0x7f, b'E', b'L', b'F', 0xff]).unwrap();
        fs::write(folder.path().join("lib.rs"), "pub fn x() {}\n").unwrap();
        assert!(refused("none.rs").contains("there is no file or folder"));
        assert!(refused("notes.txt").contains("does not end in .rs"));
        assert!(refused("binary.rs").contains("is not Rust"));
        assert!(refused("lib.rs").contains("has no `nixvm_test::main!();`"));
        fs::create_dir(folder.path().join("empty")).unwrap();
        assert!(refused("empty").contains("no scenarios in the folder"));
    }

    #[test]
    fn what_was_meant_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let refused = |name: &str| find(&at(name)).unwrap_err().to_string();
        fs::create_dir_all(at("a/scenarios")).unwrap();
        fs::write(at("a/scenarios/login.rs"), "nixvm_test::main!();\n").unwrap();
        let login = format!("did you mean `{}`?", at("a/scenarios/login.rs").display());
        assert!(refused("a/scenarios/lgin.rs").contains(&login));
        assert!(refused("a/login.rs").contains(&login));
        assert!(!refused("a/other.rs").contains("did you mean"));
        let folder = format!("there are some in {}: name that folder", at("a/scenarios").display());
        assert!(refused("a").contains(&folder));
    }
}
