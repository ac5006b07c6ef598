//! Commits of real repositories.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::checkout::{Checkout, prune};
use super::committed::Committed;
use crate::nix::source::Source;
use crate::{Error, ErrorKind, Event, Events, Result, cache, environment};

/// A repository with two commits, in a folder of its own.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::create_dir(place.root()).unwrap();
        place.git(&["init", "--quiet", "--initial-branch=main"]);
        place.git(&["config", "user.name", "Alice"]);
        place.git(&["config", "user.email", "alice@example.org"]);
        place.put("configuration.nix", "first");
        place.put("hosts/web.nix", "web of the first");
        place.put("common.nix", "common of the first");
        place.commit("the first");
        place.git(&["tag", "-a", "v1.0", "-m", "one"]);
        place.put("configuration.nix", "second");
        place.put("common.nix", "common of the second");
        place.commit("the second: more");
        place
    }

    fn root(&self) -> PathBuf {
        self.0.path().canonicalize().unwrap().join("repository")
    }

    fn put(&self, name: &str, text: &str) {
        let path = self.root().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn git(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("git");
        for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
            command.env_remove(name);
        }
        command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
        command
            .env("GIT_COMMITTER_DATE", "2026-11-29T12:00:00Z")
            .env("GIT_AUTHOR_DATE", "2026-11-29T12:00:00Z");
        let output = command.arg("-C").arg(self.root()).args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn commit(&self, subject: &str) -> String {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--message", subject]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// Finds `git:TEXT` for a scenario in a folder of the repository.
    fn find_in(&self, folder: &str, text: &str) -> Result<Committed> {
        let usual = || Ok(Source::Configuration(self.root().join("configuration.nix")));
        Committed::find(&format!("git:{text}"), text, &self.root().join(folder), usual)
    }

    fn find(&self, text: &str) -> Result<Committed> {
        self.find_in("", text)
    }

    fn refused(&self, text: &str) -> String {
        let refused = match self.find(text) {
            Err(error) => error,
            Ok(found) => checked_out(&found).expect_err(text),
        };
        assert_eq!(refused.kind(), ErrorKind::Usage, "{refused}");
        refused.to_string()
    }
}

/// Checks it out, and returns the configuration and what was said.
fn checked_out(committed: &Committed) -> Result<(Checkout, Vec<String>)> {
    let notes = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&notes);
    let events = Events::new(move |event| {
        if let Event::Note { text } = event {
            noted.lock().unwrap().push(text.clone());
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let checkout = runtime.block_on(Checkout::of(committed, &events))?;
    let notes = notes.lock().unwrap().clone();
    Ok((checkout, notes))
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

/// Runs the rest of the test `name` in a process with a cache of its own, and returns whether this is that process.
fn with_a_cache(name: &str) -> bool {
    let cache = tempfile::tempdir().unwrap();
    let cache = cache.path().display().to_string();
    // As in a hook of git's, which names another repository.
    let variables = [
        ("NIXVM_CACHE_DIR", cache.as_bytes()),
        ("GIT_DIR", b"/no/such/repository"),
        ("GIT_INDEX_FILE", b"/no/such/index"),
        ("GIT_WORK_TREE", b"/"),
        ("GIT_CONFIG_GLOBAL", b"/dev/null"),
    ];
    environment::with_variables(&format!("nix::git::tests::{name}"), &variables)
}

#[test]
fn a_revision_is_anything_that_git_accepts() {
    let place = Place::new();
    let (second, first) = (place.git(&["rev-parse", "HEAD"]), place.git(&["rev-parse", "HEAD~1"]));
    for revision in ["HEAD", "main", "@", ":/second", "HEAD^{/second: more}", &second, &second[..8]] {
        assert_eq!(place.find(revision).unwrap().commit, second, "{revision}");
    }
    for revision in ["HEAD~1", "v1.0", "main^", ":/the first"] {
        assert_eq!(place.find(revision).unwrap().commit, first, "{revision}");
    }
    let found = place.find("v1.0:hosts/web.nix").unwrap();
    assert_eq!((found.path.to_str(), found.written()), (Some("hosts/web.nix"), "git:v1.0:hosts/web.nix"));
    let said = found.says();
    assert!(
        said.starts_with("git:v1.0:hosts/web.nix is ") && said.ends_with(" of 2026-11-29 (the first)"),
        "{said}"
    );
}

#[test]
fn what_names_no_commit_is_refused_with_what_may_have_been_meant() {
    let place = Place::new();
    let text = place.refused("mian");
    assert!(text.contains("no revision \"mian\"") && text.contains("did you mean main?"), "{text}");
    let text = place.refused("v1.1~3");
    assert!(text.contains("did you mean v1.0?"), "{text}");
    assert!(place.refused("HEAD..main").contains("no revision"), "a range");
    assert!(place.refused(&"1".repeat(40)).contains("no revision"), "a whole id");
    let blob = place.git(&["rev-parse", "HEAD:common.nix"]);
    assert!(place.refused(&blob).contains("names no commit"));
    for bad in ["--help", "-q", "", ":web.nix", ":0:web.nix", "a\nb"] {
        assert!(place.refused(bad).contains("names no commit"), "{bad:?}");
    }
    let outside = tempfile::tempdir().unwrap();
    let error =
        Committed::find("git:HEAD", "HEAD", outside.path(), || unreachable!()).unwrap_err().to_string();
    assert!(error.contains("is in no git repository"), "{error}");
}

#[test]
fn a_shallow_clone_is_named_as_the_cause() {
    let place = Place::new();
    let clone = place.0.path().join("clone");
    let url = format!("file://{}", place.root().display());
    place.git(&["clone", "--quiet", "--depth=1", &url, clone.to_str().unwrap()]);
    let error = Committed::find("git:HEAD~1", "HEAD~1", &clone, || unreachable!()).unwrap_err().to_string();
    assert!(error.contains("shallow") && error.contains("fetch-depth: 0"), "{error}");
}

#[test]
fn a_path_starts_at_the_root_or_at_the_scenarios_folder() {
    let place = Place::new();
    place.put("hosts/scenarios/a.rs", "");
    for (written, path) in [
        ("HEAD:hosts/web.nix", "hosts/web.nix"),
        ("HEAD:./web.nix", "hosts/web.nix"),
        ("HEAD:../common.nix", "common.nix"),
        ("HEAD:./scenarios/../web.nix", "hosts/web.nix"),
        ("HEAD:hosts/../common.nix", "common.nix"),
        ("HEAD", "configuration.nix"),
        ("HEAD:", ""),
    ] {
        assert_eq!(place.find_in("hosts", written).unwrap().path, Path::new(path), "{written}");
    }
    for written in ["HEAD:/etc/x.nix", "HEAD:../x.nix", "HEAD:a/../../x.nix"] {
        assert!(place.refused(written).contains("leads out of"), "{written}");
    }
    // The usual source is no file of this repository.
    let find = |usual: Source| {
        let found = Committed::find("git:HEAD", "HEAD", &place.root(), || Ok(usual));
        found.unwrap_err().to_string()
    };
    assert!(find(Source::Flake(".#web".to_owned())).contains("flake:.?ref=BRANCH#HOST"));
    assert!(find(Source::Configuration("/etc/passwd".into())).contains("not in the repository"));
    // There is none now, and there was one then.
    fs::remove_file(place.root().join("configuration.nix")).unwrap();
    let none = || Err(Error::new(ErrorKind::Usage, "no configuration.nix"));
    let then = Committed::find("git:HEAD", "HEAD", &place.root().join("hosts"), none).unwrap();
    assert_eq!(then.path, Path::new("configuration.nix"));
}

#[test]
fn what_a_commit_does_not_have_is_named_with_what_it_has() {
    if !with_a_cache("what_a_commit_does_not_have_is_named_with_what_it_has") {
        return;
    }
    let place = Place::new();
    let text = place.refused("HEAD:hosts/wbe.nix");
    assert!(text.contains("has no hosts/wbe.nix") && text.contains("did you mean hosts/web.nix?"), "{text}");
    let text = place.refused("HEAD:host/web.nix");
    assert!(text.contains("in its root are:\n") && text.contains("did you mean hosts?"), "{text}");
    assert!(place.refused("HEAD:common.nix/x").contains("has no common.nix/x"));
    place.put("new.nix", "");
    assert!(place.refused("HEAD:new.nix").contains("in the working tree and was not in that commit"));
    assert!(place.refused("HEAD:hosts").contains("hosts is a folder without a default.nix"));
    assert!(place.refused("HEAD:").contains("its root is a folder without a default.nix"));
    symlink("/etc/passwd", place.root().join("out.nix")).unwrap();
    symlink(place.root().join("common.nix"), place.root().join("here.nix")).unwrap();
    symlink("nowhere.nix", place.root().join("dangling.nix")).unwrap();
    symlink("hosts/web.nix", place.root().join("within.nix")).unwrap();
    symlink("hosts", place.root().join("all")).unwrap();
    place.commit("links");
    assert!(place.refused("HEAD:out.nix").contains("leads out of the commit, to /etc/passwd"));
    assert!(place.refused("HEAD:here.nix").contains("leads out of the commit"), "the working tree");
    assert!(place.refused("HEAD:dangling.nix").contains("is not in the commit"));
    assert!(place.refused("HEAD:all/none.nix").contains("is not in the commit"));
    for within in ["HEAD:within.nix", "HEAD:all/web.nix"] {
        let (checkout, _) = checked_out(&place.find(within).unwrap()).unwrap();
        assert_eq!(text_of(&checkout), "web of the first", "{within}");
    }
}

fn text_of(checkout: &Checkout) -> String {
    text(&checkout.file)
}

#[test]
fn a_checkout_has_the_commit_and_nothing_of_the_working_tree() {
    if !with_a_cache("a_checkout_has_the_commit_and_nothing_of_the_working_tree") {
        return;
    }
    let place = Place::new();
    place.put(".gitattributes", "*.txt text eol=crlf\n");
    place.put("note.txt", "a line\n");
    place.commit("attributes");
    // Changes of three kinds that are not committed, one of them in the index.
    place.put("configuration.nix", "not committed");
    place.put("common.nix", "not committed either");
    place.git(&["add", "common.nix"]);
    place.put(".gitattributes", "*.txt -text\n");
    place.put("new.nix", "new");
    for hook in ["post-checkout", "post-index-change", "post-merge"] {
        let path = place.root().join(".git/hooks").join(hook);
        fs::write(&path, format!("#!/bin/sh\ntouch {}/ran-{hook}\n", place.0.path().display())).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    }
    let monitor = format!("touch {}/ran-fsmonitor", place.0.path().display());
    place.git(&["config", "core.fsmonitor", &monitor]);
    let index = fs::read(place.root().join(".git/index")).unwrap();
    let committed = place.find("HEAD").unwrap();
    let (checkout, notes) = checked_out(&committed).unwrap();
    assert_eq!(text_of(&checkout), "second");
    let folder = checkout.file.parent().unwrap();
    assert_eq!(text(&folder.join("common.nix")), "common of the second");
    assert_eq!(text(&folder.join("note.txt")), "a line\r\n", "the attributes are those of the commit");
    assert!(!folder.join("new.nix").exists() && !folder.join(".git").exists());
    assert_eq!(folder.file_name().unwrap(), "repository", "a copy in the store has this name");
    assert_eq!(fs::read(place.root().join(".git/index")).unwrap(), index, "the user's index");
    assert_eq!(text(&place.root().join("configuration.nix")), "not committed");
    let ran: Vec<_> =
        fs::read_dir(place.0.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(ran, ["repository"], "a hook ran");
    let [note] = notes.as_slice() else { panic!("{notes:?}") };
    assert!(note.starts_with("git:HEAD is ") && note.contains("(attributes)"), "{note}");
    assert!(
        note.ends_with("; the uncommitted changes of configuration.nix and 2 other files are not in it"),
        "{note}"
    );
    for path in [folder.join("hosts"), folder.join("hosts/web.nix"), folder.to_owned()] {
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o222, 0, "{}", path.display());
    }
    // An older commit has another file on purpose: nothing is said of changes.
    let (older, notes) = checked_out(&place.find("HEAD~2").unwrap()).unwrap();
    assert_eq!(text_of(&older), "first");
    assert!(notes.len() == 1 && !notes[0].contains("uncommitted"), "{notes:?}");
    assert_ne!(older.file, checkout.file);
    assert_eq!(checked_out(&committed).unwrap().0.file, checkout.file);
}

#[test]
fn submodules_and_large_files_that_are_not_there_are_named() {
    if !with_a_cache("submodules_and_large_files_that_are_not_there_are_named") {
        return;
    }
    let place = Place::new();
    let head = place.git(&["rev-parse", "HEAD"]);
    place.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{head},lib/other")]);
    place.put(".gitattributes", "*.img filter=lfs\n");
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n";
    place.put("a\u{1b}[31m.img", pointer);
    place.git(&["add", ".gitattributes", "a\u{1b}[31m.img"]);
    place.git(&["commit", "--quiet", "--message", "\u{1b}[2J::error::hostile\u{202e}"]);
    let committed = place.find("HEAD").unwrap();
    for _ in 0..2 {
        let (_, notes) = checked_out(&committed).unwrap();
        let said = notes.join("\n");
        assert!(said.contains("its submodules are empty folders: lib/other"), "{said}");
        assert!(
            said.contains("its large files are pointers, since git-lfs did not bring them: a.img"),
            "{said}"
        );
        assert!(!said.contains('\u{1b}') && !said.contains('\u{202e}'), "{said:?}");
    }
    assert!(place.refused("HEAD:lib/other/x.nix").contains("is in the submodule lib/other"));
    assert!(place.refused("HEAD:lib/other").contains("is in the submodule lib/other"));
}

#[test]
fn a_checkout_in_use_is_kept_and_the_others_are_pruned() {
    if !with_a_cache("a_checkout_in_use_is_kept_and_the_others_are_pruned") {
        return;
    }
    let place = Place::new();
    let (used, old) = (place.find("HEAD").unwrap(), place.find("HEAD~1").unwrap());
    let (checkout, _) = checked_out(&used).unwrap();
    drop(checked_out(&old).unwrap());
    let commits = cache::dir().unwrap().join("commits");
    // Left by a process that was killed.
    fs::create_dir(commits.join(".part-dead")).unwrap();
    fs::write(commits.join(".part-dead/lock"), "").unwrap();
    assert_eq!(prune(Duration::from_secs(60)).unwrap(), 0, "both were used just now");
    assert!(!commits.join(".part-dead").exists());
    assert_eq!(prune(Duration::ZERO).unwrap(), 1);
    assert!(checkout.file.exists() && !old.place().unwrap().exists());
    drop(checkout);
    assert_eq!(prune(Duration::ZERO).unwrap(), 1);
    assert_eq!(fs::read_dir(&commits).unwrap().count(), 0);
    // It is made again at the same place.
    assert_eq!(text_of(&checked_out(&old).unwrap().0), "first");
}

#[test]
fn an_object_that_is_damaged_gives_an_error_and_no_checkout() {
    if !with_a_cache("an_object_that_is_damaged_gives_an_error_and_no_checkout") {
        return;
    }
    let place = Place::new();
    let blob = place.git(&["rev-parse", "HEAD:hosts/web.nix"]);
    let object = place.root().join(".git/objects").join(&blob[..2]).join(&blob[2..]);
    fs::remove_file(object).unwrap();
    let committed = place.find("HEAD").unwrap();
    let error = checked_out(&committed).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Build);
    assert!(error.to_string().contains("can't be checked out"), "{error}");
    let commits = cache::dir().unwrap().join("commits");
    assert_eq!(fs::read_dir(commits).unwrap().count(), 0, "nothing is left");
}

#[test]
fn a_linked_working_tree_has_a_head_of_its_own() {
    if !with_a_cache("a_linked_working_tree_has_a_head_of_its_own") {
        return;
    }
    let place = Place::new();
    let linked = place.0.path().canonicalize().unwrap().join("linked");
    place.git(&["worktree", "add", "--quiet", "--detach", linked.to_str().unwrap(), "HEAD~1"]);
    let usual = || Ok(Source::Configuration(linked.join("configuration.nix")));
    let committed = Committed::find("git:HEAD", "HEAD", &linked, usual).unwrap();
    let (checkout, _) = checked_out(&committed).unwrap();
    assert_eq!(text_of(&checkout), "first");
    assert!(committed.log_of_head().is_file(), "{}", committed.log_of_head().display());
}
