//! Makes paths that were written relative to a folder valid everywhere.

use std::path::{Path, PathBuf};

use crate::presence::is_known_absent;

/// Makes the path of a nixpkgs absolute. `standin` is the stand-in, even if there is a folder of that name;
/// `./standin` is the folder.
pub(crate) fn nixpkgs(given: &str, folder: &Path) -> String {
    let is_path = given.starts_with('.')
        || (given != "standin" && !given.contains([':', '<']) && !is_known_absent(&folder.join(given)));
    if is_path { absolute(Path::new(given), folder).display().to_string() } else { given.to_owned() }
}

/// Makes the path of a flake absolute.
pub(crate) fn flake(given: &str, folder: &Path) -> String {
    let (reference, host) = given.split_once('#').map_or((given, None), |(flake, host)| (flake, Some(host)));
    let (scheme, path) = reference.split_once("path:").map_or(("", reference), |(_, path)| ("path:", path));
    if !path.starts_with('.') && !path.is_empty() {
        return given.to_owned();
    }
    let path = absolute(Path::new(if path.is_empty() { "." } else { path }), folder);
    let host = host.map(|host| format!("#{host}")).unwrap_or_default();
    format!("{scheme}{}{host}", path.display())
}

/// Returns the absolute path without `.` components. Links are not resolved.
pub(crate) fn absolute(path: &Path, folder: &Path) -> PathBuf {
    let path = folder.join(path);
    // It fails only for an empty path or without a current folder, and then the use of the path reports the
    // error.
    std::path::absolute(&path).map_or(path, |path| path.components().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_standin_is_the_stand_in_whatever_folder_has_that_name() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("standin")).unwrap();
        std::fs::create_dir_all(folder.path().join("nixpkgs")).unwrap();
        let inside = |name: &str| folder.path().join(name).display().to_string();
        assert_eq!(nixpkgs("standin", folder.path()), "standin");
        assert_eq!(nixpkgs("./standin", folder.path()), inside("standin"));
        assert_eq!(nixpkgs("nixpkgs", folder.path()), inside("nixpkgs"));
        assert_eq!(nixpkgs("channel:nixos-26.05", folder.path()), "channel:nixos-26.05");
    }

    #[test]
    fn a_flake_below_the_folder_is_found_and_one_elsewhere_is_left_as_it_is() {
        let folder = Path::new("/s");
        for (given, whole) in [
            (".#web", "/s#web"),
            ("#web", "/s#web"),
            ("./a/../b?ref=x#web", "/s/a/../b?ref=x#web"),
            ("path:..#web", "path:/s/..#web"),
            ("github:me/config#web", "github:me/config#web"),
            ("/etc/nixos#web", "/etc/nixos#web"),
        ] {
            assert_eq!(flake(given, folder), whole, "{given}");
        }
    }
}
