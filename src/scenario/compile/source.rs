//! Finds the scenario files that the user means, and checks that they can be scenarios, with clearer errors than the
//! compiler's.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use super::frontmatter;
use super::look::Look;
use crate::scenario::walk;
use crate::{Error, ErrorKind, Result};

/// The last line of a scenario file.
const MAIN: &str = "nixvm_test::main!();";

/// Returns the scenario files that `path` means: the file itself, or all in that folder (not below it), by name. They
/// are absolute.
///
/// # Errors
/// [`ErrorKind::Usage`] if there is no such file or folder, a folder contains no scenarios, the file is not a scenario
/// file, or a scenario or test in a file would never run: the error names file and line. [`ErrorKind::Io`] if a file
/// can't be read.
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
    // The path as given, without following links, since the compiler will show it.
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
    let look = look(&absolute)?;
    if !look.main {
        return Err(
            usage(format!("`{shown}` has no `{MAIN}`")).next_step(format!("add a last line `{MAIN}`"))
        );
    }
    refuse_tests(path, &look)?;
    Ok(vec![absolute])
}

/// Returns the folders below `folder` whose scenarios a run of `folder` leaves out.
pub fn left_out_below(folder: &Path) -> Vec<PathBuf> {
    let mut known = BTreeSet::new();
    for path in files(folder) {
        known.extend(look(&path).unwrap_or_default().modules);
    }
    let mut found = Vec::new();
    let mut waiting = folders_to_look_at(folder);
    while let Some(folder) = waiting.pop() {
        let is_left_out = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let in_folder = folder.file_name().unwrap_or_default().to_string_lossy();
            // A module of one of the files that run.
            !known.contains(&*name)
                && !known.contains(&format!("{in_folder}/{name}"))
                && look(path).is_ok_and(|look| !look.scenarios.is_empty())
        };
        if files(&folder).iter().any(is_left_out) {
            found.push(folder.clone());
        }
        waiting.extend(folders_to_look_at(&folder));
    }
    found.sort();
    found
}

fn folders_to_look_at(folder: &Path) -> Vec<PathBuf> {
    folders(folder).into_iter().filter(|path| walk::may_have_scenarios(path)).collect()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    paths.filter(|path| path.extension() == Some(OsStr::new("rs")) && path.is_file()).collect()
}

/// Returns the text of a file.
pub(super) fn text(file: &Path) -> Result<String> {
    let bytes =
        fs::read(file).map_err(|source| Error::io(format_args!("read {}", file.display()), &source))?;
    String::from_utf8(bytes).map_err(|_| {
        Error::new(ErrorKind::Usage, format!("`{}` is not Rust: it is not UTF-8 text", file.display()))
    })
}

/// Returns the existing scenario whose name is most similar to a missing one: beside it, or in a folder beside it.
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

/// Returns a subfolder that has scenarios.
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
    let failed =
        |source: &std::io::Error| Error::io(format_args!("read the folder {}", folder.display()), source);
    let mut all: Vec<(PathBuf, Look)> = Vec::new();
    for entry in fs::read_dir(folder).map_err(|source| failed(&source))? {
        let path = entry.map_err(|source| failed(&source))?.path();
        if let Some(look) = in_a_folder(&path)? {
            all.push((path, look));
        }
    }
    all.sort_by(|(one, _), (other, _)| one.cmp(other));
    let runs = reached(&all);
    for (path, look) in &all {
        if let Some(line) = look.scenarios.first().filter(|_| !runs.contains(path.as_path())) {
            let summary = format!(
                "{}:{line}: this scenario never runs: the file has no `{MAIN}`, and is not a module of a \
                 file that has one",
                path.display()
            );
            return Err(Error::new(ErrorKind::Usage, summary).next_step(format!(
                "add a last line `{MAIN}`, or name the file as a module where it belongs"
            )));
        }
        refuse_tests(path, look)?;
    }
    // The others are modules of a scenario.
    Ok(all.into_iter().filter(|(_, look)| look.main).map(|(path, _)| path).collect())
}

/// Scans a file in a folder, if it is a Rust file.
fn in_a_folder(path: &Path) -> Result<Option<Look>> {
    let Some(extension) = path.extension().filter(|its| its.eq_ignore_ascii_case("rs")) else {
        return Ok(None);
    };
    let usage = |why: &str| Error::new(ErrorKind::Usage, format!("`{}` {why}", path.display()));
    let is_hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
    match fs::metadata(path) {
        Ok(about) if about.is_dir() => return Ok(None),
        Ok(about) if !about.is_file() => {
            return Err(usage("can't be a scenario: it is not a regular file").next_step("move it elsewhere"));
        }
        Ok(_) => {}
        // An editor's lock file is such a link.
        Err(_) if is_hidden && path.is_symlink() => return Ok(None),
        Err(source) => return Err(Error::io(format_args!("read {}", path.display()), &source)),
    }
    let look = look(path)?;
    if extension == "rs" {
        return Ok(Some(look));
    }
    if look.scenarios.is_empty() {
        return Ok(None);
    }
    Err(usage("has a scenario that never runs: its name does not end in .rs")
        .next_step("write the end of its name in lower case"))
}

/// Returns the files that have a `main`, and their modules.
fn reached(all: &[(PathBuf, Look)]) -> BTreeSet<&Path> {
    let mut reached: BTreeSet<&Path> = BTreeSet::new();
    let mut waiting: Vec<&(PathBuf, Look)> = all.iter().filter(|(_, look)| look.main).collect();
    while let Some((path, look)) = waiting.pop() {
        if reached.insert(path) {
            let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            waiting.extend(all.iter().filter(|(path, _)| look.modules.contains(&name(path))));
        }
    }
    reached
}

/// # Errors
/// [`ErrorKind::Usage`], with file and line, for a test that is not a scenario in a scenario file.
fn refuse_tests(path: &Path, look: &Look) -> Result {
    let is_of_scenarios = look.main || !look.scenarios.is_empty();
    let Some((line, test)) = look.tests.first().filter(|_| is_of_scenarios) else { return Ok(()) };
    let summary = format!(
        "{}:{line}: this `{test}` never runs: the `main` of a scenario file runs only scenarios",
        path.display()
    );
    Err(Error::new(ErrorKind::Usage, summary).next_step(
        "make it a `#[scenario]` (one without parameters boots no machine), or move it to a file of its own in tests/",
    ))
}

/// Scans a file without its frontmatter.
pub(super) fn look(path: &Path) -> Result<Look> {
    let text = text(path)?;
    // Errors in the frontmatter are reported when the file is compiled.
    Ok(match frontmatter::split(&text) {
        Ok(Some(split)) => Look::at(&split.code),
        _ => Look::at(&text),
    })
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
    fn a_scenario_of_a_folder_runs_or_its_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        let remove = |name: &str| fs::remove_file(folder.path().join(name)).unwrap();
        let refused = || find(folder.path()).unwrap_err().to_string();
        put("a.rs", "mod steps;\n#[scenario] fn x() {}\nnixvm_test::main!();\n");
        put("steps.rs", "// nothing\n#[checkpoint] pub async fn y() {}\n");
        assert_eq!(find(folder.path()).unwrap(), [folder.path().join("a.rs")], "a module may have none");
        put("b.rs", "use x::y;\n\n#[nixvm_test::scenario]\nasync fn b() {}\n// nixvm_test::main!();\n");
        let error = refused();
        assert!(
            error.contains("b.rs:3: this scenario never runs") && error.contains("add a last line"),
            "{error}"
        );
        remove("b.rs");
        // A module of a file that runs, and a module of that module.
        put("steps.rs", "#[path = \"deeper.rs\"] mod deep;\n#[scenario] pub async fn y() {}\n");
        put("deeper.rs", "#[scenario] pub async fn z() {}\n");
        assert_eq!(find(folder.path()).unwrap().len(), 1);
        put("c.rs", "#[scenario] async fn c() {}\nfn main() -> X { nixvm_test::scenario::main() }\n");
        assert_eq!(find(folder.path()).unwrap().len(), 2, "a main of its own");
        // Two files that name only each other do not run, like one that no other names.
        put("d.rs", "mod e;\n#[scenario] fn x() {}");
        put("e.rs", "mod d;");
        assert!(refused().contains("d.rs:2"));
        remove("d.rs");
        put("F.RS", "#[scenario] fn x() {}\nnixvm_test::main!();");
        assert!(refused().contains("F.RS` has a scenario that never runs"));
        put("F.RS", "// an old program");
        put("t.rs", "#[scenario] fn x() {}\n#[test]\nfn y() {}\nnixvm_test::main!();");
        let error = refused();
        assert!(
            error.contains("t.rs:2: this `#[test]` never runs") && error.contains("make it a"),
            "{error}"
        );
        assert!(find(&folder.path().join("t.rs")).is_err());
        put(
            "t.rs",
            "---\n[dependencies]\n# '#[test]\n---\n#[tokio::test(x)] async fn x() {}\nnixvm_test::main!();",
        );
        assert!(refused().contains("t.rs:5: this `#[tokio::test]`"), "{}", refused());
        remove("t.rs");
        remove("deeper.rs");
        put("steps.rs", "#[cfg(test)] mod tests { #[test] fn of_another_target() {} }");
        assert_eq!(find(folder.path()).unwrap().len(), 2);
    }

    #[test]
    fn a_file_of_a_folder_that_can_not_be_read_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("a.rs"), "nixvm_test::main!();\n").unwrap();
        fs::create_dir(at("folder.rs")).unwrap();
        std::os::unix::fs::symlink("nothing", at(".#a.rs")).unwrap();
        std::os::unix::fs::symlink("a.rs", at("link.rs")).unwrap();
        assert_eq!(find(folder.path()).unwrap(), [at("a.rs"), at("link.rs")]);
        type Put<'a> = &'a dyn Fn(&Path);
        let put: [(&str, Put<'_>); 4] = [
            ("bytes.rs", &|path| fs::write(path, [0xff, 0xfe]).unwrap()),
            ("dangling.rs", &|path| std::os::unix::fs::symlink("nothing", path).unwrap()),
            ("socket.rs", &|path| drop(std::os::unix::net::UnixListener::bind(path).unwrap())),
            ("circle.rs", &|path| std::os::unix::fs::symlink("circle.rs", path).unwrap()),
        ];
        for (name, put) in put {
            put(&at(name));
            let error = find(folder.path()).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
            fs::remove_file(at(name)).unwrap();
        }
    }

    #[test]
    fn scenarios_below_a_folder_are_left_out_and_their_folders_known() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let scenario = "#[scenario] fn x() {}\nnixvm_test::main!();";
        put("a.rs", "mod common;\nnixvm_test::main!();");
        put("common/mod.rs", "#[scenario] fn x() {}");
        for name in ["target/x.rs", ".git/x.rs", "package/x.rs", "none/x.txt"] {
            put(name, scenario);
        }
        put("package/Cargo.toml", "");
        put("program/main.rs", "fn main() {}");
        assert_eq!(left_out_below(folder.path()), [] as [PathBuf; 0]);
        put("web/deep/x.rs", scenario);
        put("slow/x.rs", "#[scenario] fn x() {}");
        assert_eq!(
            left_out_below(folder.path()),
            [folder.path().join("slow"), folder.path().join("web/deep")]
        );
        assert_eq!(find(folder.path()).unwrap().len(), 1);
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
