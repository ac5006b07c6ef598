//! The packages of two systems, by the names of the store paths in their closures, as `nix store diff-closures` has them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::text;

/// Beginnings of the names of store paths that a system has for itself, and that have programs like a package.
const NO_PACKAGES: [&str; 4] = ["unit-script-", "nixos-system-", "system-path", "user-environment"];

/// A package that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct PackageChange {
    pub(super) name: String,
    /// Its versions in the old system, sorted. A version is empty if the store path has none.
    pub(super) before: Vec<String>,
    pub(super) after: Vec<String>,
}

impl fmt::Display for PackageChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let versions = |versions: &[String]| {
            let shown: Vec<_> =
                versions.iter().filter(|version| !version.is_empty()).map(|it| text::line(it)).collect();
            shown.join(", ")
        };
        let (name, before, after) = (text::line(&self.name), versions(&self.before), versions(&self.after));
        match (self.before.is_empty(), self.after.is_empty()) {
            (true, _) => f.write_str(format!("+ {name} {after}").trim_end()),
            (_, true) => f.write_str(format!("- {name} {before}").trim_end()),
            _ => write!(f, "{name}: {before} → {after}"),
        }
    }
}

/// Compares two closures. `is_package` tells whether a store path without a version is one.
pub(super) fn compare(
    old: &[PathBuf],
    new: &[PathBuf],
    is_package: impl Fn(&Path) -> bool,
) -> Vec<PackageChange> {
    let (before, after) = (versions(old), versions(new));
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let mut changes = Vec::new();
    for name in names {
        let none = BTreeMap::new();
        let (old, new) = (before.get(name).unwrap_or(&none), after.get(name).unwrap_or(&none));
        if old.keys().eq(new.keys()) {
            continue;
        }
        let own = |versions: &BTreeMap<String, PathBuf>, path: &PathBuf| {
            versions.keys().any(|version| !version.is_empty()) || is_package(path)
        };
        let is_one = old.values().any(|path| own(old, path)) || new.values().any(|path| own(new, path));
        if is_one && !NO_PACKAGES.iter().any(|start| name.starts_with(start)) {
            let list = |versions: &BTreeMap<String, PathBuf>| versions.keys().cloned().collect();
            changes.push(PackageChange { name: name.clone(), before: list(old), after: list(new) });
        }
    }
    changes
}

/// Returns the versions of each name, with a store path of each.
fn versions(closure: &[PathBuf]) -> BTreeMap<String, BTreeMap<String, PathBuf>> {
    let mut all: BTreeMap<String, BTreeMap<String, PathBuf>> = BTreeMap::new();
    for path in closure {
        if let Some((name, version)) = named(path) {
            all.entry(name).or_default().insert(version, path.clone());
        }
    }
    all
}

/// Returns name and version of a store path, as Nix takes them apart: the version begins at the first dash before
/// something that is no letter, and the name of an output behind it (`-bin`, `-man`) does not count.
fn named(path: &Path) -> Option<(String, String)> {
    let base = path.file_name()?.to_str()?;
    let (_, name) = base.split_once('-')?;
    let dash = name.match_indices('-').map(|(at, _)| at);
    let at = dash.into_iter().find(|at| {
        name.get(at + 1..)
            .and_then(|rest| rest.chars().next())
            .is_some_and(|first| !first.is_ascii_alphabetic())
    });
    let Some(at) = at else { return Some((name.to_owned(), String::new())) };
    let (name, version) = (name.get(..at)?, name.get(at + 1..)?);
    let version = match version.rsplit_once('-') {
        Some((before, output)) if is_output(output) => before,
        _ => version,
    };
    Some((name.to_owned(), version.to_owned()))
}

fn is_output(word: &str) -> bool {
    ["lib32", "lib64"].contains(&word)
        || (!word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closure(names: &[&str]) -> Vec<PathBuf> {
        let hash = "0123456789abcdfghijklmnpqrsvwxyz";
        names.iter().map(|name| PathBuf::from(format!("/nix/store/{hash}-{name}"))).collect()
    }

    #[test]
    fn a_store_path_is_taken_apart_as_nix_does() {
        for (base, name, version) in [
            ("hello-2.12.1", "hello", "2.12.1"),
            ("glibc-2.40-66-bin", "glibc", "2.40-66"),
            ("linux-6.12.117+deb13-amd64", "linux", "6.12.117+deb13-amd64"),
            ("gcc-wrapper-13.3.0", "gcc-wrapper", "13.3.0"),
            ("deploy", "deploy", ""),
            ("e2fsprogs-1.47-lib32", "e2fsprogs", "1.47"),
            ("x-", "x-", ""),
        ] {
            let path = PathBuf::from(format!("/nix/store/0123456789abcdfghijklmnpqrsvwxyz-{base}"));
            let found = named(&path).unwrap();
            assert_eq!((found.0.as_str(), found.1.as_str()), (name, version), "{base}");
        }
        assert_eq!(named(Path::new("/nix/store/nothing")), None);
    }

    #[test]
    fn versions_that_differ_and_what_came_and_went_are_told_and_rebuilds_are_not() {
        let old =
            closure(&["nginx-1.26.0", "php-8.2.1", "zlib-1.3", "zlib-1.3-dev", "unit-nginx.service", "cow"]);
        let new = closure(&[
            "nginx-1.26.2",
            "zlib-1.3",
            "etc-hosts",
            "jq-1.7",
            "python3-3.11",
            "python3-3.12",
            "deploy",
        ]);
        let changes = compare(&old, &new, |path| path.ends_with("0123456789abcdfghijklmnpqrsvwxyz-deploy"));
        let lines: Vec<String> = changes.iter().map(PackageChange::to_string).collect();
        assert_eq!(
            lines,
            ["+ deploy", "+ jq 1.7", "nginx: 1.26.0 → 1.26.2", "- php 8.2.1", "+ python3 3.11, 3.12"]
        );
        assert_eq!(compare(&old, &old, |_| true), []);
    }
}
