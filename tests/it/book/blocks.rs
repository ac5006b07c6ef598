//! The code blocks of pages, and what holds for those in Rust.

use std::fs;
use std::path::Path;

use crate::book::copies::copied;
use crate::book::pages::{book, files, pages, root, shown};

/// A fenced block of code.
#[derive(Debug)]
pub struct Block {
    /// What stands behind the fence: `rust,no_run`.
    pub kind: String,
    /// The line of the fence, from 1.
    pub line: usize,
    /// The line above the fence.
    pub above: String,
    /// What stands in it.
    pub text: String,
}

/// The blocks of a page.
pub fn blocks(page: &Path) -> Vec<Block> {
    let text = fs::read_to_string(page).unwrap();
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    let mut above = String::new();
    for (number, line) in text.lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(kind)) => {
                let kind = kind.trim().to_owned();
                open = Some(Block { kind, line: number + 1, above: above.clone(), text: String::new() });
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(block), None) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, None) => line.clone_into(&mut above),
        }
    }
    assert!(open.is_none(), "{}: a block has no end", shown(page));
    blocks
}

/// The parts of the reference that are made from the code have the examples of its documentation, which `cargo test
/// --doc` runs there.
fn is_made(page: &Path) -> bool {
    fs::read_to_string(page).unwrap().starts_with("<!-- Made from the code")
}

#[test]
fn every_rust_example_is_compiled_or_is_a_file_that_is() {
    let registered = fs::read_to_string(root().join("src/book_examples.rs")).unwrap();
    let readme = root().join("README.md");
    for page in pages().iter().filter(|page| !is_made(page)).chain([&readme]) {
        let blocks = blocks(page);
        let rust: Vec<&Block> = blocks.iter().filter(|block| block.kind.starts_with("rust")).collect();
        for block in &rust {
            let place = format!("{}:{}", shown(page), block.line);
            match block.kind.as_str() {
                "rust" | "rust,no_run" | "rust,compile_fail" => {
                    assert!(copied(&block.above).is_none(), "{place}: a copy of a file is `rust,ignore`");
                }
                // A copy of a scenario that the suite runs.
                "rust,ignore" => assert!(
                    copied(&block.above).is_some(),
                    "{place} is ignored: put it into a file that is run, and copy that"
                ),
                other => panic!("{place}: what is {other:?}?"),
            }
        }
        let name = format!("../{}", shown(page));
        let compiled = rust.iter().any(|block| block.kind != "rust,ignore");
        assert_eq!(registered.contains(&name), compiled, "{name} in src/book_examples.rs");
    }
}

#[test]
fn every_scenario_that_is_shown_is_run_by_the_suite() {
    let suite = fs::read_to_string(root().join("tests/scenarios.rs")).unwrap();
    assert!(
        suite.contains("nixvm_test::scenarios!(\"../scenarios\");"),
        "the suite is not that of the folder"
    );
    let is_run = |file: &Path| {
        file.starts_with(root().join("scenarios")) && fs::read_to_string(file).unwrap().contains("#[scenario")
    };
    let mut shown_ones = 0;
    for page in pages() {
        for block in blocks(&page).iter().filter(|block| block.kind == "rust,ignore") {
            if let Some(file) = copied(&block.above) {
                assert!(is_run(&file), "{} is not run", shown(&file));
                shown_ones += 1;
            }
        }
    }
    assert!(shown_ones > 3, "{shown_ones}");
    // A whole file among the scenarios is one of the suite.
    for file in files(&root().join("scenarios"), "rs") {
        assert!(is_run(&file), "{} is not run", shown(&file));
    }
    assert!(book().join("SUMMARY.md").is_file());
}
