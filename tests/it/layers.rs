//! Each module knows only those that stand before it in ARCHITECTURE.md, in its code and in its tests.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// What is compiled as a program of its own: `crate::` is another crate there.
const OTHER_CRATES: [&str; 1] = ["src/channel/guest/helper"];

/// The modules of each layer, the lowest first, and whether they are there yet.
struct Layers(BTreeMap<String, (usize, bool)>);

impl Layers {
    /// Reads a block of ARCHITECTURE.md: a line is a layer, and `(name)` is a module that is to come.
    fn read(architecture: &str, block: &str) -> Self {
        let (_, block) =
            architecture.split_once(&format!("```{block}\n")).expect("ARCHITECTURE.md has the block");
        let (block, _) = block.split_once("```").expect("the block ends");
        let mut layers = BTreeMap::new();
        for (layer, line) in block.lines().enumerate() {
            for word in line.split_whitespace() {
                let name = word.trim_matches(['(', ')']);
                let before = layers.insert(name.to_owned(), (layer, name == word));
                assert!(before.is_none(), "ARCHITECTURE.md names the module {name} twice");
            }
        }
        Self(layers)
    }

    fn of(&self, module: &str) -> usize {
        self.0
            .get(module)
            .unwrap_or_else(|| panic!("ARCHITECTURE.md does not say where the module {module} stands"))
            .0
    }

    /// Whether code of the module `one` may name the module `other`.
    fn allow(&self, one: &str, other: &str) -> bool {
        one == other || self.of(other) < self.of(one)
    }
}

/// The names that lib.rs gives to what its modules have: `Error` is of the module `error`.
fn names_of_the_root(lib: &str) -> BTreeMap<String, String> {
    let mut names = BTreeMap::new();
    for item in uses(lib, &[]) {
        if let [module, .., name] = &item[..] {
            names.insert(name.clone(), module.clone());
        }
    }
    names
}

/// The paths of the `use` items at the top of a file, each by its parts; the last is the name that it gets.
fn uses(source: &str, module: &[String]) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut tokens = source.parse::<TokenStream>().expect("Rust").into_iter().peekable();
    while let Some(token) = tokens.next() {
        if is_ident(&token, "use") {
            let path: Vec<TokenTree> = tokens.by_ref().take_while(|token| !is_punct(token, ';')).collect();
            tree(&path, module, &mut found);
        }
    }
    found
}

/// What a `use` tree names: `a::{b, c as d}` is `a::b` and `a::d`.
fn tree(tokens: &[TokenTree], prefix: &[String], found: &mut Vec<Vec<String>>) {
    let mut path = prefix.to_vec();
    for token in tokens {
        match token {
            // A module keeps its own name: it is what stands in ARCHITECTURE.md.
            TokenTree::Ident(ident) if ident == "as" && path.len() < 2 => break,
            TokenTree::Ident(ident) if ident == "as" => {
                path.pop();
            }
            TokenTree::Ident(ident) => path.push(ident.to_string()),
            TokenTree::Group(group) => {
                let inside: Vec<TokenTree> = group.stream().into_iter().collect();
                inside.split(|token| is_punct(token, ',')).for_each(|part| tree(part, &path, found));
                return;
            }
            _ => {}
        }
    }
    if path.len() > prefix.len() {
        found.push(path);
    }
}

/// What code in the module `here` names of this crate: each path from the root, as far as it matters.
fn named(tokens: TokenStream, here: &[String], found: &mut Vec<Vec<String>>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut at = 0;
    while at < tokens.len() {
        // A module in this file, in which `super` is the file.
        if let [TokenTree::Ident(word), TokenTree::Ident(name), TokenTree::Group(body), ..] = &tokens[at..]
            && word == "mod"
        {
            let inner: Vec<String> = here.iter().cloned().chain([name.to_string()]).collect();
            named(body.stream(), &inner, found);
            at += 3;
            continue;
        }
        if let TokenTree::Group(group) = &tokens[at] {
            named(group.stream(), here, found);
        } else if let Some(mut base) = start(&tokens[at], here) {
            // A path that something else begins is none of ours: `x::crate` is not Rust, `x::self` and `x::super` neither.
            while is_separator(&tokens[at + 1..])
                && tokens.get(at + 3).is_some_and(|token| is_ident(token, "super"))
            {
                base.pop();
                at += 3;
            }
            if is_separator(&tokens[at + 1..]) {
                tree(path(&tokens[at + 3..]), &base, found);
            }
        }
        at += 1;
    }
}

/// What goes on with a path: its names, and the braces at its end.
fn path(tokens: &[TokenTree]) -> &[TokenTree] {
    let mut end = 0;
    loop {
        match tokens.get(end) {
            Some(TokenTree::Ident(_)) if is_separator(&tokens[end + 1..]) => end += 3,
            Some(TokenTree::Ident(_)) => return &tokens[..=end],
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => return &tokens[..=end],
            _ => return &tokens[..end],
        }
    }
}

/// The module that a path begins at, if this token begins one.
fn start(token: &TokenTree, here: &[String]) -> Option<Vec<String>> {
    let TokenTree::Ident(ident) = token else { return None };
    match ident.to_string().as_str() {
        // The program is a crate of its own for now.
        "crate" | "nixvm_test" => Some(Vec::new()),
        "self" => Some(here.to_vec()),
        "super" => Some(here.split_last().map(|(_, parent)| parent.to_vec()).unwrap_or_default()),
        _ => None,
    }
}

fn is_ident(token: &TokenTree, word: &str) -> bool {
    matches!(token, TokenTree::Ident(ident) if ident == word)
}

fn is_punct(token: &TokenTree, sign: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == sign)
}

fn is_separator(tokens: &[TokenTree]) -> bool {
    matches!(tokens, [one, other, ..] if is_punct(one, ':') && is_punct(other, ':'))
}

/// The module that is in this file: `src/qemu/qmp.rs` is `["qemu", "qmp"]`.
fn module(file: &Path) -> Vec<String> {
    let path = file.strip_prefix("src").unwrap().with_extension("");
    let mut parts: Vec<String> = path.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
    parts.pop_if(|last| last == "mod");
    parts
}

fn files(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    if OTHER_CRATES.iter().any(|other| folder.ends_with(other)) {
        return;
    }
    let mut entries: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        match path.extension() {
            _ if path.is_dir() => files(&path, found),
            Some(extension) if extension == "rs" => found.push(path),
            _ => {}
        }
    }
}

/// What breaks the rule in one file's text, a line each. `root` is the module whose layers these are; what is not in one of
/// its modules knows everything.
fn broken(
    layers: &Layers,
    names: &BTreeMap<String, String>,
    root: &[&str],
    file: &Path,
    source: &str,
) -> String {
    let here = module(file);
    let below = |path: &[String]| match path.split_at_checked(root.len()) {
        Some((prefix, rest)) if prefix == root => rest.first().cloned(),
        _ => None,
    };
    let Some(top) = below(&here) else { return String::new() };
    let tokens = source.parse::<TokenStream>().unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let (mut all, mut broken) = (Vec::new(), String::new());
    named(tokens, &here, &mut all);
    for path in all {
        let Some(name) = below(&path) else { continue };
        let other = if layers.0.contains_key(&name) { &name } else { names.get(&name).unwrap_or(&name) };
        // Not a module: a macro, or a crate that lib.rs shows.
        let is_module = layers.0.get(other).is_some_and(|(_, is_there)| *is_there);
        if is_module && !layers.allow(&top, other) {
            let path = path.join("::");
            writeln!(
                broken,
                "{}: crate::{path}: `{top}` uses `{other}`, which is not below it",
                file.display()
            )
            .unwrap();
        }
    }
    broken
}

/// Fails if the layers of a block of ARCHITECTURE.md do not hold for the modules of `root`, whose names `mod_file` gives to
/// others. `all_knowing` know everything, and nothing knows them.
fn check(block: &str, root: &[&str], mod_file: &str, all_knowing: &[&str]) {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let layers = Layers::read(&fs::read_to_string(package.join("ARCHITECTURE.md")).unwrap(), block);
    let names = names_of_the_root(&fs::read_to_string(package.join(mod_file)).unwrap());
    let mut all = Vec::new();
    files(&package.join("src"), &mut all);
    let (mut found, mut seen) = (String::new(), BTreeSet::new());
    for path in all {
        let file = path.strip_prefix(package).unwrap();
        let here = module(file);
        let Some((_, rest)) = here.split_at_checked(root.len()).filter(|(prefix, _)| *prefix == root) else {
            continue;
        };
        let Some(top) = rest.first() else { continue };
        if !all_knowing.contains(&top.as_str()) {
            found += &broken(&layers, &names, root, file, &fs::read_to_string(&path).unwrap());
            seen.insert(top.clone());
        }
    }
    assert!(found.is_empty(), "the layers of ARCHITECTURE.md do not hold:\n{found}");
    let wrong: Vec<_> =
        layers.0.iter().filter(|(name, (_, is_there))| *is_there != seen.contains(*name)).collect();
    assert!(wrong.is_empty(), "ARCHITECTURE.md is not right about which modules are there: {wrong:?}");
}

#[test]
fn each_module_knows_only_those_of_lower_layers() {
    check("layers", &[], "src/lib.rs", &["lib", "main", "book_examples"]);
}

#[test]
fn each_part_of_a_machine_knows_only_those_of_lower_layers() {
    check("layers of machine", &["machine"], "src/machine/mod.rs", &[]);
}

#[test]
fn whatever_form_a_path_has_it_is_seen() {
    let layers = Layers::read("```layers\ntext\nnix\nqemu\nmachine  (network)\n```\n", "layers");
    let names =
        names_of_the_root("pub use nix::{Builder, Source as From};\npub(crate) use machine::deep::Machine;");
    let file = Path::new("src/qemu/template/save.rs");
    let broken = |source: &str| broken(&layers, &names, &[], file, source);
    for allowed in [
        "use crate::text;",
        "use crate::nix::Store;",
        "use crate::qemu::Qmp; use super::super::Qemu; use super::machine; use self::machine::x;",
        "// crate::machine\n/* crate::machine */ /// [crate::machine]\nfn f() { \"crate::machine\"; }",
        "fn f() { machine::g(); other::machine(); std::machine::x }",
        "mod tests { use super::super::super::Qmp; mod deep { use super::super::machine; } }",
        "use nothing::crate_::machine;",
        "fn f() { crate::tokio::spawn() }",
        "use crate::From;",
    ] {
        assert_eq!(broken(allowed), "", "{allowed}");
    }
    for denied in [
        "use crate::machine;",
        "use crate::machine::session::Session;",
        "use crate::{text, machine::Machine};",
        "use crate::{text::{line, lines}, qemu::{Qmp, Exit}, machine as m};",
        "fn f() { crate::machine::boot(); }",
        "fn f() { format!(\"{}\", crate::machine::boot()); }",
        "macro_rules! m { () => { $crate::machine::x() } }",
        "fn f(x: &dyn Fn(crate::machine::Machine)) {}",
        "#[derive(Debug)] struct S<T: crate::machine::T>(T);",
        "#[serde(with = \"x\")] struct S { #[x(crate::machine::y)] a: u8 }",
        "use super::super::super::machine;",
        "use crate::{machine as m, text};",
        "fn f() { super::super::super::machine::x() }",
        "mod tests { use super::super::super::super::machine; }",
        "use crate::Machine;",
        "fn f() -> crate::Machine {}",
        "use ::nixvm_test::machine;",
    ] {
        assert_ne!(broken(denied), "", "{denied}");
    }
    // The order decides, not what a module is called.
    assert_ne!(
        super::layers::broken(&layers, &names, &[], Path::new("src/nix/x.rs"), "use crate::qemu::Qmp;"),
        ""
    );
    assert_eq!(
        super::layers::broken(&layers, &names, &[], Path::new("src/machine.rs"), "use crate::nix::Store;"),
        ""
    );
}
