//! What ARCHITECTURE.md and CONTRIBUTING.md name is there: paths, recipes, crates. And `deny.toml` allows the licences that the
//! crates need.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

const DOCUMENTS: [&str; 2] = ["ARCHITECTURE.md", "CONTRIBUTING.md"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap()
}

/// Every file and folder of the repository, from its root; folders end in `/`.
fn tree(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.strip_prefix(root()).unwrap().to_str().unwrap();
        match path.is_dir() {
            true if name == "target" || name == ".git" => {}
            true => {
                found.insert(format!("{name}/"));
                tree(&path, found);
            }
            false => drop(found.insert(name.to_owned())),
        }
    }
}

/// What stands in backticks, and where links lead.
fn named(text: &str) -> Vec<&str> {
    // A block of code begins and ends with three of them.
    let prose: Vec<&str> = text.split("```").step_by(2).collect();
    let mut found = Vec::new();
    for line in prose.into_iter().flat_map(str::lines) {
        found.extend(line.split('`').skip(1).step_by(2));
        found.extend(line.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()));
    }
    found
}

/// What a text names as a file or folder of the repository that is not in `tree`. A path is whole if it begins with a folder of
/// the root; other names of files and folders are ends of paths.
fn missing<'a>(text: &'a str, tree: &BTreeSet<String>) -> Vec<&'a str> {
    let is_file = |word: &str| {
        let extension = Path::new(word).extension().and_then(|its| its.to_str());
        matches!(extension, Some("rs" | "sh" | "py" | "nix" | "js" | "css"))
    };
    let is_there = |word: &str| {
        let (top, rest) = word.split_once('/').unwrap_or((word, ""));
        let folder = format!("{}/", word.trim_end_matches('/'));
        if !rest.is_empty() && tree.contains(&format!("{top}/")) {
            return tree.contains(word) || tree.contains(&folder);
        }
        let is_path = is_file(word) || (word.ends_with('/') && !word.starts_with('/'));
        let end = format!("/{word}");
        !is_path || tree.contains(word) || tree.iter().any(|path| path.ends_with(&end))
    };
    let is_word = |word: &&str| !word.is_empty() && !word.contains([' ', '*', '$', ':', '<', '(']);
    // What is built is there only after a build; what a run script calls is a program of the guest.
    let is_made = |word: &&str| word.starts_with("target/") || word.starts_with("result/");
    named(text).into_iter().filter(is_word).filter(|word| !is_made(word) && !is_there(word)).collect()
}

#[test]
fn every_path_that_a_document_names_is_there() {
    let mut all = BTreeSet::new();
    tree(root(), &mut all);
    for document in DOCUMENTS {
        let text = read(document);
        assert!(named(&text).len() > 20, "{document} names nothing");
        assert_eq!(missing(&text, &all), Vec::<&str>::new(), "{document} names what is not there");
    }
}

#[test]
fn a_path_is_seen_to_be_gone_whichever_way_it_is_named() {
    let tree = ["src/", "src/nix/", "src/nix/source.rs"].map(str::to_owned).into();
    for there in [
        "`src/nix/`",
        "`src/nix`",
        "`src/nix/source.rs`",
        "`nix/source.rs` and `source.rs`",
        "[it](src/nix/source.rs#a-heading)",
        "```\nsrc/gone.rs `src/gone.rs`\n```",
        "`target/book/index.html`, `cargo test`, `Life::answer`, `/proc/cpuinfo`, `2/3`",
    ] {
        assert_eq!(missing(there, &tree), Vec::<&str>::new(), "{there}");
    }
    for (gone, name) in [
        ("`src/build/`", "src/build/"),
        ("`src/build`", "src/build"),
        ("it is in `src/nix/gone.rs`.", "src/nix/gone.rs"),
        ("`src/nix/source.rs/`", "src/nix/source.rs/"),
        ("`gone.rs`", "gone.rs"),
        ("`build/`", "build/"),
        ("[it](src/gone.rs)", "src/gone.rs"),
    ] {
        assert_eq!(missing(gone, &tree), [name], "{gone}");
    }
}

#[test]
fn every_recipe_that_a_document_names_is_there() {
    let recipes = read("justfile");
    // `./just login` needs no just.
    let is_there = |name: &str| recipes.lines().any(|line| line.split([' ', ':']).next() == Some(name));
    for document in DOCUMENTS {
        let text = read(document);
        for name in named(&text).into_iter().filter_map(|word| word.strip_prefix("./just ")) {
            let name = name.split(' ').next().unwrap();
            assert!(is_there(name), "{document} names the recipe {name}, which the justfile has not");
        }
    }
}

#[test]
fn the_glossary_is_sorted_and_short() {
    let text = read("CONTRIBUTING.md");
    let (_, glossary) = text.split_once("## Glossary").unwrap();
    let glossary = glossary.split("\n## ").next().unwrap();
    let words: Vec<&str> =
        glossary.lines().filter_map(|line| line.strip_prefix("| ")?.split(" |").next()).skip(1).collect();
    assert!((10..=25).contains(&words.len()), "{} words", words.len());
    assert!(words.is_sorted(), "{words:?}");
}

#[test]
fn every_crate_has_its_reason() {
    let mut asked = BTreeSet::new();
    for manifest in ["Cargo.toml", "macros/Cargo.toml", "tests/fake-guest/Cargo.toml"] {
        let manifest: toml::Table = read(manifest).parse().unwrap();
        for kind in ["dependencies", "dev-dependencies"] {
            let crates = manifest.get(kind).and_then(toml::Value::as_table);
            asked.extend(crates.into_iter().flat_map(toml::Table::keys).cloned());
        }
    }
    asked.retain(|name| !name.starts_with("nixvm-"));
    let text = read("ARCHITECTURE.md");
    let (_, table) = text.split_once("| crate | for |").unwrap();
    let rows = table.split("\n\n").next().unwrap().lines().skip(2);
    let names = rows.filter_map(|row| row.split('|').nth(1)).flat_map(|names| names.split(','));
    let listed: BTreeSet<String> = names.map(|name| name.trim().to_owned()).collect();
    assert_eq!(listed, asked, "ARCHITECTURE.md does not list the crates of the manifests");
}

/// The licences that `expression` needs of those that are `allowed`, if they suffice: all of an `AND`, the first of an `OR`.
/// Parentheses stand around an `OR` alone, which is all that crates have here.
fn needed(expression: &str, allowed: &[String]) -> Option<Vec<String>> {
    let is_allowed = |name: &str| allowed.iter().any(|one| one == name);
    let expression = expression.replace('/', " OR ");
    let parts: Vec<&str> = expression.split(" AND ").collect();
    let needs = parts.into_iter().map(|part| {
        let part = part.trim_matches(['(', ')']);
        part.split(" OR ").find(|name| is_allowed(name)).map(str::to_owned)
    });
    needs.collect()
}

#[test]
fn the_licences_that_are_allowed_are_those_that_the_crates_need() {
    let deny: toml::Table = read("deny.toml").parse().unwrap();
    let words = |value: &toml::Value| -> Vec<String> {
        value.as_array().unwrap().iter().map(|one| one.as_str().unwrap().to_owned()).collect()
    };
    let allowed = words(&deny["licenses"]["allow"]);
    let mut used = BTreeSet::new();
    for target in words(&deny["graph"]["targets"]) {
        let output = Command::new(env!("CARGO"))
            .args(["metadata", "--format-version", "1", "--all-features", "--locked"])
            .args(["--filter-platform", &target])
            .current_dir(root())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let tree: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let packages = tree["packages"].as_array().unwrap();
        assert!(packages.len() > 20, "{}", packages.len());
        for package in packages {
            let licence = package["license"].as_str().unwrap_or_default();
            let needed = needed(licence, &allowed);
            let needed = needed.unwrap_or_else(|| {
                panic!("deny.toml does not allow `{licence}`, which {} has", package["name"])
            });
            used.extend(needed);
        }
    }
    let allowed: BTreeSet<String> = allowed.into_iter().collect();
    assert_eq!(used, allowed, "deny.toml allows what no crate needs");
}

#[test]
fn a_licence_is_needed_as_its_expression_says() {
    let allowed = ["MIT", "Zlib"].map(str::to_owned);
    for (expression, expected) in [
        ("MIT", Some(vec!["MIT"])),
        ("Apache-2.0 OR MIT", Some(vec!["MIT"])),
        ("MIT/Apache-2.0", Some(vec!["MIT"])),
        ("(MIT OR Apache-2.0) AND Zlib", Some(vec!["MIT", "Zlib"])),
        ("MIT AND Unicode-3.0", None),
        ("GPL-3.0", None),
        ("", None),
    ] {
        let expected: Option<Vec<String>> =
            expected.map(|names| names.into_iter().map(str::to_owned).collect());
        assert_eq!(needed(expression, &allowed), expected, "{expression}");
    }
}
