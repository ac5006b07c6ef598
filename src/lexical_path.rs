//! Paths that are resolved by their text alone, as Nix resolves those in its files.

use std::path::{Component, Path, PathBuf};

/// Removes `.` and `..`, without looking at the files.
pub(crate) fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => drop(plain.pop()),
            other => plain.push(other),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_are_removed_and_the_root_has_nothing_above_it() {
        for (path, expected) in
            [("/a/./b/../c", "/a/c"), ("/../a", "/a"), ("./a", "a"), ("/a/b/..", "/a"), ("/a//b/", "/a/b")]
        {
            assert_eq!(plain(Path::new(path)), Path::new(expected), "{path}");
        }
    }
}
