//! Finds the user's files that a configuration consists of, from its text.
//!
//! Follows the paths in the text. This finds fewer files than an evaluation, but costs nothing and works while the
//! configuration is incomplete during an edit. A missed file never causes a wrong result, since each run asks Nix. A
//! change of that file only takes effect at the next save of a watched one.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::lexical_path::plain;

/// Maximum number of files that are read for one configuration.
const FILES: usize = 1000;

/// Returns `file` and everything that it imports or reads, recursively. A folder stands for the files in it.
pub fn files(file: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut to_read = vec![plain(file)];
    while let Some(path) = to_read.pop() {
        if found.len() >= FILES || !found.insert(path.clone()) {
            continue;
        }
        if path.is_dir() {
            to_read.extend(Some(path.join("default.nix")).filter(|file| file.is_file()));
            continue;
        }
        if path.file_name().is_some_and(|name| name == "flake.nix") {
            to_read.push(path.with_file_name("flake.lock"));
        }
        if path.extension().is_none_or(|extension| extension != "nix") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let folder = path.parent().unwrap_or(Path::new("/"));
        to_read.extend(paths(&text).filter_map(|written| resolved(written, folder)));
    }
    found
}

/// Returns everything in `text` that looks like a path.
fn paths(text: &str) -> impl Iterator<Item = &str> {
    let in_a_path = |c: char| c.is_ascii_alphanumeric() || "._-+/".contains(c);
    let words = text.lines().flat_map(move |line| {
        let code = line.split_once('#').filter(|(before, _)| !before.contains('"'));
        code.map_or(line, |(before, _)| before).split(move |c| !in_a_path(c))
    });
    words.filter(|word| word.contains('/') && !word.starts_with("//"))
}

/// Resolves a path in that text, if it may be one of the user's files.
fn resolved(written: &str, folder: &Path) -> Option<PathBuf> {
    let path = plain(&folder.join(written));
    let explicit = written.starts_with("./") || written.starts_with("../");
    let nix = path.extension().is_some_and(|extension| extension == "nix");
    let own = match written.starts_with('/') {
        // In a configuration most of these are paths in the guest.
        true => nix && !path.starts_with("/nix/store"),
        false => explicit,
    };
    // A file that does not exist may be created later.
    (own && (path.exists() || nix) || (!written.starts_with('/') && path.is_file())).then_some(path)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn imports_are_followed_to_the_end_and_what_belongs_to_the_guest_is_not() {
        let root = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            fs::create_dir_all(root.path().join(name).parent().unwrap()).unwrap();
            fs::write(root.path().join(name), text).unwrap();
        };
        put(
            "configuration.nix",
            "{ ... }: {\n  imports = [ ./hardware.nix modules/web.nix <nixpkgs/x.nix> ./services ./later.nix ];\n\
             # not ./old.nix\n  users.users.alice.home = \"/home/alice\"; url = \"https://nix.dev/x.nix\";\n}\n",
        );
        put("old.nix", "{ }");
        put("hardware.nix", "{ imports = [ ../shared.nix ./configuration.nix ]; }");
        put("modules/web.nix", "{ text = builtins.readFile ./page.html; }");
        put("modules/page.html", "./not-nix.nix");
        put("services/default.nix", "{ }");
        let files = files(&root.path().join("configuration.nix"));
        let found: Vec<String> = files
            .iter()
            .map(|path| match path.strip_prefix(root.path()) {
                Ok(path) => path.display().to_string(),
                Err(_) => format!("above: {}", path.file_name().unwrap().display()),
            })
            .collect();
        assert_eq!(
            found,
            [
                "configuration.nix",
                "hardware.nix",
                "later.nix",
                "modules/page.html",
                "modules/web.nix",
                "services",
                "services/default.nix",
                "above: shared.nix",
            ]
        );
    }
}
