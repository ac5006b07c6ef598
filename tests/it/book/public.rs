//! The public items: no signature of theirs names a type that has no page. Their list is compared with that of rustdoc
//! by `just docs`.

use std::collections::BTreeSet;
use std::fs;

use crate::book::pages::{files, root};
use crate::book::reference::room;
use crate::book::source::Item;

/// As many public items there may be.
const MOST: usize = 70;

/// What these are in signatures is of std and serde_json, though this library has private types of these names.
const OTHERS: [&str; 3] = ["Into", "Lines", "Value"];

/// The names of the public items.
fn listed() -> BTreeSet<String> {
    let list = fs::read_to_string(root().join("docs/public-items.txt")).unwrap();
    assert!((30..=MOST).contains(&list.lines().count()), "{list}");
    list.lines().filter_map(|line| line.rsplit([' ', ':']).next()).map(str::to_owned).collect()
}

/// The names of all types and traits of this library.
fn types() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for file in files(&root().join("src"), "rs") {
        let text = fs::read_to_string(file).unwrap();
        let words: Vec<&str> = text.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
        let defined = words.windows(2).filter(|pair| ["struct", "enum", "trait", "type"].contains(&pair[0]));
        names.extend(
            defined.map(|pair| pair[1].to_owned()).filter(|name| name.starts_with(char::is_uppercase)),
        );
    }
    names
}

#[test]
fn no_public_signature_names_a_type_that_is_not_public() {
    let (public, types) = (listed(), types());
    assert!(types.len() > 200 && types.contains("BuiltVm") && !public.contains("BuiltVm"), "{types:?}");
    let all = room(&[
        "src/machine",
        "src/qemu/qmp.rs",
        "src/console",
        "src/error.rs",
        "src/limits.rs",
        "src/scenario/exit.rs",
    ]);
    let mut looked_at = 0;
    let mut faults = Vec::new();
    // What a struct holds in parentheses is private.
    let is_shown = |item: &&Item| public.contains(&item.of) && !item.declaration.starts_with("pub struct");
    for item in all.iter().filter(is_shown) {
        looked_at += 1;
        for word in item.declaration.split(|c: char| !c.is_alphanumeric() && c != '_') {
            let hidden = types.contains(word) && !public.contains(word) && word != item.name;
            let hidden = hidden && !OTHERS.contains(&word);
            // A parameter of the item's own.
            if hidden && !item.declaration.contains(&format!("<{word}:")) {
                faults.push(format!("{}::{} names {word}: {}", item.of, item.name, item.declaration));
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
    assert!(looked_at > 150, "{looked_at}");
}
