//! Expands `scenarios!("../scenarios")`: a module for each file of scenarios in the folder and below it, a `main`, and
//! the list of all files, so that the suite can detect a new one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Ident, Span, TokenStream};
use quote::quote;
use syn::{Error, LitStr, Result};

use crate::expand::denied;
use crate::look::Look;
use crate::walk;

/// Expands the macro in `file`. If the file is not known (in an editor), expands to a `main` only.
pub fn scenarios(input: TokenStream, file: Option<&Path>) -> TokenStream {
    let expanded = folder(input).and_then(|given| match file {
        Some(file) => suite(&given, file),
        None => Ok(main(&given.value(), &[])),
    });
    expanded.unwrap_or_else(|error| error.to_compile_error())
}

/// Parses the argument.
fn folder(input: TokenStream) -> Result<LitStr> {
    const EXPECTED: &str =
        "`scenarios!` takes a folder and nothing else: `nixvm_test::scenarios!(\"../scenarios\");`";
    syn::parse2(input).map_err(|error| Error::new(error.span(), EXPECTED))
}

fn suite(given: &LitStr, file: &Path) -> Result<TokenStream> {
    let written = given.value();
    let folder = file.parent().unwrap_or(Path::new(".")).join(&written);
    let wrong = |why: String| Error::new(given.span(), why);
    let paths = walk::files_below(&folder).map_err(|error| wrong(error.to_string()))?;
    let mut files = Vec::new();
    for path in paths {
        let Some(name) = path.to_str() else {
            return Err(wrong(format!("the name of {} is not UTF-8", path.display())));
        };
        let bytes = fs::read(folder.join(&path)).map_err(|error| wrong(format!("{name}: {error}")))?;
        let text =
            String::from_utf8(bytes).map_err(|_| wrong(format!("{name} is not Rust: it is not UTF-8")))?;
        let look = Look::at(&text);
        if !look.scenarios.is_empty() {
            runs(name, &text, &look).map_err(wrong)?;
        }
        files.push((name.to_owned(), look));
    }
    let modules = modules(&files);
    if modules.is_empty() {
        return Err(wrong(format!("there are no scenarios in {}", folder.display())));
    }
    let mut tree = Tree::default();
    for name in &modules {
        tree.put(name, &format!("{written}/{name}")).map_err(wrong)?;
    }
    let declared = tree.declared();
    // The other files are tracked, too, since a scenario may be added to them.
    let others = files.iter().map(|(name, _)| name).filter(|name| !modules.contains(name.as_str()));
    let others = others.map(|name| format!("{written}/{name}"));
    let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    let main = main(&written, &names);
    Ok(quote! {
        #declared
        #(const _: &[u8] = ::core::include_bytes!(#others);)*
        #main
    })
}

/// Checks that all of a scenario file can run in a suite.
fn runs(name: &str, text: &str, look: &Look) -> std::result::Result<(), String> {
    if let Some((line, test)) = look.tests.first() {
        return Err(no_tests(name, *line, test));
    }
    let mut lines = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with("#!/"));
    match lines.next().is_some_and(|line| line.starts_with("---")) {
        true => Err(format!(
            "{name} has a `---` block, which only `nixvm-test {name}` can read: move its dependencies to Cargo.toml"
        )),
        false => Ok(()),
    }
}

/// Returns the error for a test that is not a scenario in a scenario file.
pub fn no_tests(file: &str, line: usize, test: &str) -> String {
    format!(
        "{file}:{line}: this `{test}` never runs, because the `main` of a scenario file runs only \
         scenarios: make it a \
         `#[scenario]` (one without parameters boots no machine), or move it to a file of its own in tests/"
    )
}

/// Returns the files that become modules: those with scenarios, except modules of other files.
fn modules(files: &[(String, Look)]) -> BTreeSet<&str> {
    let mut modules = BTreeSet::new();
    let mut reached = BTreeSet::new();
    let with_scenarios = || files.iter().filter(|(_, look)| !look.scenarios.is_empty());
    // Files with a `main` first, since they are never modules of others.
    for (name, look) in with_scenarios().filter(|(_, look)| look.main).chain(with_scenarios()) {
        if reached.contains(name.as_str()) && !look.main || modules.contains(name.as_str()) {
            continue;
        }
        modules.insert(name.as_str());
        let mut waiting = vec![(name.as_str(), look)];
        while let Some((name, look)) = waiting.pop() {
            if reached.insert(name) {
                let named = files.iter().filter(|(name, _)| {
                    let last = name.rsplit('/').next().unwrap_or(name);
                    let of_folder = name.rsplitn(3, '/').take(2).collect::<Vec<_>>();
                    let with_folder = of_folder.iter().rev().copied().collect::<Vec<_>>().join("/");
                    look.modules.contains(last) && last != "mod.rs" || look.modules.contains(&with_folder)
                });
                waiting.extend(named.map(|(name, look)| (name.as_str(), look)));
            }
        }
    }
    modules
}

/// Modules by folder.
#[derive(Default)]
struct Tree {
    /// The path of each file, by its module's name.
    files: BTreeMap<String, String>,
    folders: BTreeMap<String, Tree>,
}

impl Tree {
    fn put(&mut self, name: &str, path: &str) -> std::result::Result<(), String> {
        let mut at = self;
        let mut parts: Vec<&str> = name.split('/').collect();
        let file = parts.pop().unwrap_or(name);
        for part in parts {
            at = at.folders.entry(module(part)).or_default();
        }
        let its = module(file.strip_suffix(".rs").unwrap_or(file));
        match at.files.insert(its.clone(), path.to_owned()) {
            Some(other) => {
                Err(format!("{other} and {path} would both be the module `{its}`: rename one of them"))
            }
            None => Ok(()),
        }
    }

    fn declared(&self) -> TokenStream {
        let files = self.files.iter().map(|(name, path)| {
            // A folder of the same name keeps the name.
            let name = if self.folders.contains_key(name) { format!("{name}_rs") } else { name.clone() };
            let name = Ident::new(&name, Span::call_site());
            let denied = denied();
            quote!(#denied #[path = #path] mod #name;)
        });
        let folders = self.folders.iter().map(|(name, tree)| {
            let (name, inside) = (Ident::new(name, Span::call_site()), tree.declared());
            // Makes paths inside relative to the folder of the suite's file.
            quote!(#[path = "."] mod #name { #inside })
        });
        quote!(#(#files)* #(#folders)*)
    }
}

/// Returns a valid module name for a file name.
fn module(name: &str) -> String {
    let plain = |character: char| if character.is_ascii_alphanumeric() { character } else { '_' };
    let mut name: String = name.chars().map(plain).collect();
    if name.starts_with(|first: char| first.is_ascii_digit()) || name.trim_matches('_').is_empty() {
        name.insert_str(0, "of_");
    }
    // A Rust keyword.
    if syn::parse_str::<Ident>(&name).is_err() {
        name.push('_');
    }
    name
}

fn main(folder: &str, names: &[&str]) -> TokenStream {
    quote! {
        ::nixvm_test::__needs_no_harness!();

        fn main() -> ::std::process::ExitCode {
            ::nixvm_test::scenario::main_of(&::nixvm_test::__private::Folder {
                suite: ::core::file!(),
                manifest_dir: ::core::env!("CARGO_MANIFEST_DIR"),
                folder: #folder,
                files: &[#(#names),*],
            })
        }
    }
}

/// Returns the file that contains the macro call, relative to the compiler's working folder.
pub fn file() -> Option<PathBuf> {
    proc_macro::Span::call_site().local_file()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Creates a folder `scenarios`, and returns the expansion in `tests/suite.rs` beside it.
    fn expanded(files: &[(&str, &str)]) -> String {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("tests")).unwrap();
        for (name, text) in files {
            let path = root.path().join("scenarios").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let text = scenarios(quote!("../scenarios"), Some(&root.path().join("tests/suite.rs"))).to_string();
        text.replace(&root.path().display().to_string(), "ROOT")
    }

    const SCENARIO: &str = "#[scenario] async fn x() {}";

    #[test]
    fn each_file_with_scenarios_is_a_module_and_all_files_are_listed() {
        let text = expanded(&[
            ("login.rs", "mod steps; mod common;\n#[scenario] async fn x() {}\nnixvm_test::main!();"),
            ("without-main.rs", SCENARIO),
            ("steps.rs", SCENARIO),
            ("common/mod.rs", SCENARIO),
            ("helper.rs", "pub fn x() {}"),
            ("web/2 pages.rs", SCENARIO),
            ("web/type.rs", SCENARIO),
            (".hidden.rs", SCENARIO),
            ("target/x.rs", SCENARIO),
            ("notes.txt", SCENARIO),
        ]);
        for module in [
            "# [path = \"../scenarios/login.rs\"] mod login ;",
            "# [path = \"../scenarios/without-main.rs\"] mod without_main ;",
            "mod web { # [deny (unused_must_use)] # [path = \"../scenarios/web/2 pages.rs\"] mod of_2_pages ;",
            "# [path = \"../scenarios/web/type.rs\"] mod type_ ;",
            "include_bytes ! (\"../scenarios/helper.rs\")",
            "include_bytes ! (\"../scenarios/steps.rs\")",
            "\"common/mod.rs\" , \"helper.rs\" , \"login.rs\" , \"steps.rs\" , \"web/2 pages.rs\"",
        ] {
            assert!(text.contains(module), "{module}\n{text}");
        }
        for other in ["mod steps", "mod common", "mod helper", "hidden", "target"] {
            assert!(!text.contains(other), "{other}\n{text}");
        }
    }

    #[test]
    fn what_would_never_run_is_an_error_by_name() {
        for (files, error) in [
            (&[("a.rs", "fn x() {}")][..], "there are no scenarios in ROOT/tests/../scenarios"),
            (
                &[("a.rs", "\n#[test] fn x() {}\n#[scenario] async fn y() {}")],
                "a.rs:2: this `#[test]` never runs",
            ),
            (&[("a.rs", "---\n[dependencies]\n---\n#[scenario] fn x() {}")], "a.rs has a `---` block"),
            (&[("a-b.rs", SCENARIO), ("a_b.rs", SCENARIO)], "would both be the module `a_b`"),
        ] {
            let text = expanded(files);
            assert!(text.contains("compile_error") && text.contains(error), "{error}\n{text}");
        }
        let text = scenarios(quote!("none"), Some(Path::new("/nowhere/tests/suite.rs"))).to_string();
        assert!(text.contains("compile_error") && text.contains("/nowhere/tests/none"), "{text}");
        assert!(scenarios(quote!(5), None).to_string().contains("compile_error"));
    }

    #[test]
    fn a_file_and_a_folder_of_the_same_name_are_two_modules() {
        let text = expanded(&[("web.rs", SCENARIO), ("web/login.rs", SCENARIO)]);
        assert!(text.contains("mod web_rs ;") && text.contains("mod web { "), "{text}");
    }
}
