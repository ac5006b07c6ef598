//! Links: to files and headings of this repository they lead there, those to the outside are well formed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::book::pages::{book, files, pages, root, shown};

/// A page without what is code.
fn text_of(page: &Path) -> String {
    let mut text = String::new();
    let mut code = false;
    for line in fs::read_to_string(page).unwrap().lines() {
        if line.trim_start().starts_with("```") {
            code = !code;
        } else if !code {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

/// A line without its `code`.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect::<Vec<_>>().join("")
}

/// The targets of `[text](target)` and `![text](target)`.
fn targets(text: &str) -> Vec<String> {
    let mut targets = Vec::new();
    for line in text.lines() {
        let plain = without_code(line);
        for part in plain.split("](").skip(1) {
            targets.extend(part.split(')').next().map(str::to_owned));
        }
    }
    targets
}

/// The anchor of a heading, as mdBook and the pages of repositories make it.
fn anchor(heading: &str) -> String {
    let mut anchor = String::new();
    for letter in heading.trim().chars() {
        if letter.is_alphanumeric() || letter == '_' || letter == '-' {
            anchor.extend(letter.to_lowercase());
        } else if letter.is_whitespace() {
            anchor.push('-');
        }
    }
    anchor
}

/// The anchors of a page; a heading that comes again has a number.
fn anchors(page: &Path) -> Vec<String> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let text = text_of(page);
    let headings = text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#'));
    headings
        .map(|heading| {
            let anchor = anchor(heading);
            let times = seen.entry(anchor.clone()).or_default();
            *times += 1;
            if *times == 1 { anchor } else { format!("{anchor}-{}", *times - 1) }
        })
        .collect()
}

/// Why a target is wrong, if it is.
fn wrong(page: &Path, target: &str) -> Option<String> {
    if let Some(rest) = target.strip_prefix("https://") {
        let host = rest.split(['/', '#']).next().unwrap_or_default();
        let good = host.contains('.') && !target.contains(char::is_whitespace);
        return (!good).then(|| "is no address".to_owned());
    }
    if target.starts_with("http:") {
        return Some("is not https".to_owned());
    }
    let (file, heading) = target.split_once('#').map_or((target, None), |(file, it)| (file, Some(it)));
    let file = if file.is_empty() { page.to_owned() } else { page.parent().unwrap().join(file) };
    let Ok(file) = file.canonicalize() else { return Some("leads nowhere".to_owned()) };
    let in_book = |path: &Path| path.starts_with(book());
    if in_book(page) && !in_book(&file) {
        return Some("leads out of the book, where mdBook has nothing".to_owned());
    }
    let heading = heading?;
    let there = anchors(&file);
    (!there.iter().any(|anchor| anchor == heading))
        .then(|| format!("has no such heading; there are {there:?}"))
}

/// The pages whose links are looked at.
fn all() -> Vec<PathBuf> {
    let mut all = pages();
    let others = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "standin/README.md"];
    all.extend(others.map(|name| root().join(name)));
    all
}

#[test]
fn every_link_leads_somewhere() {
    let mut looked_at = 0;
    let mut mistakes = Vec::new();
    for page in all() {
        for target in targets(&text_of(&page)) {
            looked_at += 1;
            mistakes.extend(wrong(&page, &target).map(|why| format!("{}: {target} {why}", shown(&page))));
        }
    }
    assert!(mistakes.is_empty(), "{}", mistakes.join("\n"));
    assert!(looked_at > 60, "{looked_at}");
}

#[test]
fn a_link_that_leads_nowhere_is_seen() {
    let page = book().join("introduction.md");
    for target in
        ["missing.md", "tutorial.md#no-such-heading", "../../README.md", "http://example.org/", "https://x"]
    {
        assert!(wrong(&page, target).is_some(), "{target}");
    }
    assert_eq!(targets("a `[b](c)` [d](e#f), ![g](h)"), ["e#f", "h"]);
    assert_eq!(anchor("What a `Machine` can be asked, and how"), "what-a-machine-can-be-asked-and-how");
    assert!(files(&book(), "md").contains(&page));
}
