//! Checks that a suite has all scenarios of its folder: a macro does not notice files that are added after
//! its expansion.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::configuration::located;
use super::walk::files_below;
use crate::{Error, ErrorKind, Result};

/// How much of a new file is examined, in bytes.
const LOOKED_AT: u64 = 1 << 20;

/// The folder of a suite that [`scenarios!`](crate::scenarios!) made.
#[derive(Debug)]
pub struct Folder {
    /// The file with the macro, as `file!()` returns it.
    pub suite: &'static str,
    /// The folder of its package when it was compiled.
    pub manifest_dir: &'static str,
    /// The folder as written in the macro, relative to that file.
    pub folder: &'static str,
    /// The files that it contained, relative to it.
    pub files: &'static [&'static str],
}

impl Folder {
    /// Fails if the folder has a file that may contain scenarios and was not there when the suite was
    /// compiled. If the sources are not present (in an archive that runs on another host), nothing is
    /// compared.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] with the names of the files.
    pub(super) fn check_complete(&self) -> Result {
        let suite = located(self.suite, self.manifest_dir);
        let folder = suite.parent().unwrap_or(Path::new(".")).join(self.folder);
        if !suite.is_file() || !folder.is_dir() {
            return Ok(());
        }
        let found = files_below(&folder).map_err(|error| {
            Error::io(format_args!("compare the suite with {}", folder.display()), &error)
        })?;
        let known: BTreeSet<&Path> = self.files.iter().map(Path::new).collect();
        let is_missing =
            |path: &&PathBuf| !known.contains(path.as_path()) && may_have_scenarios(&folder.join(path));
        let missing: Vec<String> =
            found.iter().filter(is_missing).map(|path| path.display().to_string()).collect();
        let [first, ..] = &missing[..] else { return Ok(()) };
        let summary = format!(
            "the scenarios in {first} are not in this suite: it was compiled before the file was there"
        );
        Err(Error::new(ErrorKind::Usage, summary)
            .section(format!("missing, in {}", folder.display()), missing.join("\n"))
            .next_step(format!("compile the suite again: touch {}", suite.display())))
    }
}

/// Whether a file contains the word that every scenario needs. A file that can't be read may contain it.
fn may_have_scenarios(path: &Path) -> bool {
    let read = || {
        if !fs::metadata(path)?.is_file() {
            return Ok(None);
        }
        let mut text = Vec::new();
        File::open(path)?.take(LOOKED_AT).read_to_end(&mut text)?;
        std::io::Result::Ok(Some(text))
    };
    match read() {
        Ok(Some(text)) => {
            memchr::memmem::find(&text, b"scenario").is_some() || text.len() as u64 == LOOKED_AT
        }
        Ok(None) => false,
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_file_with_scenarios_is_named_and_all_else_is_not() {
        let root = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let root_text: &'static str = Box::leak(root.path().display().to_string().into_boxed_str());
        let suite = Folder {
            suite: "tests/of-this-test.rs",
            manifest_dir: root_text,
            folder: "../scenarios",
            files: &["login.rs", "web/pages.rs", "removed.rs"],
        };
        suite.check_complete().expect("there are no sources here");
        put("tests/of-this-test.rs", "");
        suite.check_complete().expect("the folder is elsewhere");
        put("scenarios/login.rs", "#[scenario]");
        put("scenarios/web/pages.rs", "#[scenario]");
        put("scenarios/helper.rs", "pub fn help() {}");
        put("scenarios/.hidden.rs", "#[scenario]");
        put("scenarios/target/x.rs", "#[scenario]");
        suite.check_complete().unwrap();
        put("scenarios/web/new.rs", "#[nixvm_test::scenario]");
        std::os::unix::fs::symlink("nowhere", root.path().join("scenarios/unreadable.rs")).unwrap();
        let error = suite.check_complete().unwrap_err();
        let text = error.to_string();
        assert_eq!(error.kind(), ErrorKind::Usage);
        for part in ["web/new.rs", "unreadable.rs", "touch ", "tests/of-this-test.rs"] {
            assert!(text.contains(part), "{text}");
        }
        for other in ["login.rs", "helper", "hidden", "target"] {
            assert!(!text.contains(other), "{text}");
        }
    }
}
