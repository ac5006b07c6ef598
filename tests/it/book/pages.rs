//! Where the pages are, and what they must agree on.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The root of this repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The folder of the book's pages.
pub fn book() -> PathBuf {
    root().join("docs/src")
}

/// Every page of the book, sorted.
pub fn pages() -> Vec<PathBuf> {
    let mut pages = files(&book(), "md");
    assert!(pages.len() > 20, "{pages:?}");
    pages.sort();
    pages
}

/// Every file in a folder, and in those within, whose name ends in `.extension`.
pub fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|its| its == extension) {
            found.push(path);
        }
    }
    found
}

/// A path as it stands in messages and in `src/book_examples.rs`.
pub fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// Compares a page with what the code makes of it, or writes it if `SNAPSHOTS=overwrite`.
#[track_caller]
pub fn is_made_from_the_code(page: &str, made: &str) {
    let path = book().join(page);
    if std::env::var_os("SNAPSHOTS").is_some_and(|how| how == "overwrite") {
        fs::write(&path, made).unwrap();
        return;
    }
    let there = fs::read_to_string(&path).unwrap_or_default();
    let differs = there.lines().zip(made.lines()).find(|(there, made)| there != made);
    assert!(
        there == made,
        "{} is not what the code says: SNAPSHOTS=overwrite cargo test --test book\nfirst: {differs:?}",
        shown(&path)
    );
}

#[test]
fn every_page_is_in_the_table_of_contents() {
    let summary = fs::read_to_string(book().join("SUMMARY.md")).unwrap();
    let listed: BTreeSet<PathBuf> = summary
        .lines()
        .filter_map(|line| line.split_once("](")?.1.split(')').next())
        .map(|target| book().join(target))
        .collect();
    let there: BTreeSet<PathBuf> = pages()
        .into_iter()
        .filter(|page| page.file_name().is_some_and(|name| name != "SUMMARY.md"))
        .collect();
    assert_eq!(listed, there);
}
