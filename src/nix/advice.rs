//! The likely cause of a failed build and what to do about it, in words for those who are new to Nix.

use std::path::{Path, PathBuf};

use super::culprit;
use super::error_text::{ErrorText, Excerpt, Tail, is_builder};
use super::line::cut;
use crate::Error;

/// URL of the search for packages and options.
const PACKAGES: &str = "https://search.nixos.org/packages";
const OPTIONS: &str = "https://search.nixos.org/options";
/// The usual first line of a configuration file.
const HEAD: &str = "{ config, lib, pkgs, ... }:";
const REAL: &str = "a real nixpkgs has them all: --nixpkgs channel:nixos-26.05";

/// Options that only the NixOS test driver acts on. Real nixpkgs accepts some of them, with no effect on a plain VM.
const OF_THE_TEST_DRIVER: [&str; 6] = [
    "virtualisation.vlans",
    "virtualisation.interfaces",
    "virtualisation.test",
    "networking.primaryIPAddress",
    "networking.primaryIPv6Address",
    "testing",
];

/// Adds the likely cause and next step to the report of a failed build.
pub(super) fn advise(error: Error, said: &ErrorText, tail: &Tail) -> Error {
    let message = said.message.first().map(String::as_str).unwrap_or_default();
    let known = host(message, tail).or_else(|| configuration(message, said, tail));
    let Some(Advice { cause, next }) = known else { return error };
    let error = match cause {
        Some(cause) => error.likely_cause(cause),
        None => error,
    };
    error.next_step(next)
}

/// Finds the user's own line that is at fault, where Nix does not name one. `file` is the configuration.
pub(super) fn own_place(said: &ErrorText, file: Option<&Path>) -> Option<Excerpt> {
    let message = said.message.join("\n");
    if let Some(option) = option_of(&message) {
        let named = message.split_once("In `").and_then(|(_, rest)| rest.split_once('\''));
        let named = named.map(|(file, _)| PathBuf::from(file));
        return culprit::line_of_option(named.as_deref().or(file)?, option);
    }
    if let Some(missing) = missing_file(&message) {
        return culprit::line_of_file(file?, Path::new(missing));
    }
    message.contains("infinite recursion").then(|| culprit::line_of_recursion(file?))?
}

struct Advice {
    cause: Option<String>,
    next: String,
}

fn advice(cause: impl Into<String>, next: impl Into<String>) -> Option<Advice> {
    Some(Advice { cause: Some(cause.into()), next: next.into() })
}

fn only(next: impl Into<String>) -> Option<Advice> {
    Some(Advice { cause: None, next: next.into() })
}

/// Advises on problems of the host, or of the nixpkgs that was named.
fn host(message: &str, tail: &Tail) -> Option<Advice> {
    if let Some(line) = tail.line_with(&["No space left on device", "Disk quota exceeded"]) {
        let line = cut(line.trim(), 240);
        return advice(
            format!("the disk is full: {line}"),
            "free space for /nix/store and for TMPDIR (/tmp), where builds run; `nix-collect-garbage` \
             removes what is not in use",
        );
    }
    let network = [
        "unable to download",
        "Could not resolve",
        "Couldn't resolve",
        "Temporary failure resolving",
        "Could not connect",
    ];
    // Nix continues without a binary cache that it can't reach, so its warning is not the cause. Only the output of a
    // failed builder or the message itself counts.
    let line = match message {
        _ if is_builder(message) => tail.builder_line_with(&network),
        _ if message.contains("download") || message.contains("not found in the Nix search path") => {
            tail.line_with(&network)
        }
        _ => None,
    };
    if let Some(line) = line {
        let line = cut(line.trim(), 240);
        return advice(
            format!("no network, or the address is wrong: {line}"),
            "check the network of this host, or name a nixpkgs that is on it: --nixpkgs FOLDER (or standin)",
        );
    }
    if message.contains("<nixpkgs")
        || message.contains("'nixpkgs") && message.contains("not found in the Nix search path")
    {
        return advice(
            "Nix does not find nixpkgs, the collection of packages and options that NixOS is made of",
            "choose one: --nixpkgs channel:nixos-26.05, a folder, or standin; NIX_PATH has no usable one",
        );
    }
    if message.contains("does not provide attribute") || message.contains("attribute 'nixosConfigurations") {
        return only("name one of the flake's hosts: --flake REF#HOST (`nix flake show REF` lists them)");
    }
    if message.contains("Permission denied") && message.contains("/nix") {
        return only(
            "make the Nix store yours (sudo install -d -o \"$USER\" /nix), or install Nix for all users",
        );
    }
    if message.contains("attribute 'vm'") {
        return advice(
            "what --nixpkgs or NIX_PATH names is not a nixpkgs with NixOS in it",
            "choose another: --nixpkgs channel:nixos-26.05, or a folder that has nixos/default.nix",
        );
    }
    None
}

/// Advises on problems of the configuration.
fn configuration(message: &str, said: &ErrorText, tail: &Tail) -> Option<Advice> {
    let all = said.message.join("\n");
    if message.contains("syntax error") {
        let cause = match message {
            _ if message.contains("expecting ';'") => "the line before this place does not end in a `;`",
            _ if message.contains("unexpected end of file") || message.contains("unexpected $end") => {
                "a bracket, a brace or a quote is opened and never closed, or nothing follows the first line"
            }
            _ if message.contains("unexpected '='") && message.contains("expecting end of file") => {
                "an option is set outside of the braces: all options go between one `{` and one `}`"
            }
            _ if message.contains("unexpected '}'") && message.contains("expecting end of file") => {
                "there is one closing brace too many"
            }
            _ if message.contains("unexpected ';'") && message.contains("expecting end of file") => {
                "a `;` follows the last brace, where the file must end"
            }
            _ if message.contains("expecting end of file") => "there is more text where the file must end",
            _ => "a `;`, a bracket or a quote is missing at this place or just before it, or is one too many",
        };
        return advice(cause, "correct the line that is marked, or the one before it");
    }
    if let Some(name) = quoted(message, "undefined variable '") {
        if ["config", "lib", "modulesPath", "options", "pkgs"].contains(&name) {
            return advice(
                format!("the file uses `{name}`, but its first line does not have it as an argument"),
                format!("begin the file with `{HEAD}`"),
            );
        }
        let next = package(name, said, tail)
            .unwrap_or_else(|| format!("packages are listed at {PACKAGES}; text needs quotes: \"{name}\""));
        return advice(
            format!("`{name}` is not defined here: there is no such package, or it has another name"),
            next,
        );
    }
    if let Some(name) = quoted(message, "attribute '").filter(|_| message.contains("missing")) {
        let of_pkgs =
            |place: &Excerpt| place.snippet.iter().any(|line| line.contains(&format!("pkgs.{name}")));
        if said.place.as_ref().is_some_and(of_pkgs) {
            let next = package(name, said, tail).unwrap_or_else(|| format!("search {PACKAGES}"));
            return advice(format!("there is no package `{name}`, or it has another name"), next);
        }
        let next = did_you_mean(said, tail)
            .unwrap_or_else(|| "check how the name is written in its definition".into());
        return advice(format!("`{name}` is read from a set that has no such attribute"), next);
    }
    if let Some(option) = option_of(message) {
        return about_option(option, &all, message, said, tail);
    }
    if message.contains("infinite recursion") {
        return advice(
            "a value depends on itself: an option on the same option (`x = config.x + 1`), or `imports` \
             on `config` or `pkgs`",
            "give the value another way: write it out, or use lib.mkForce, lib.mkDefault or a `let` of your own",
        );
    }
    if all.contains("Failed assertions:") {
        return advice(
            "modules of NixOS check the configuration, and a check failed",
            "follow each line that begins with a dash",
        );
    }
    if let Some(file) = missing_file(message) {
        let next = match Path::new(file).file_name().and_then(|name| name.to_str()) {
            _ if file.starts_with("/nix/store/") => "a flake sees only files that git knows: `git add` it",
            Some("hardware-configuration.nix") => {
                "remove it from `imports`: a VM does not need it (`nixos-generate-config` makes it, for a \
                 real machine)"
            }
            _ => "create the file, or remove its name from the configuration",
        };
        return advice(format!("the configuration names a file that does not exist: {file}"), next);
    }
    refused(&all)
}

/// Advises on packages that nixpkgs has but refuses by default.
fn refused(all: &str) -> Option<Advice> {
    if !all.contains("refusing to evaluate") {
        return None;
    }
    let package =
        all.split(['‘', '\'']).nth(1).and_then(|rest| rest.split(['’', '\'']).next()).unwrap_or("it");
    if all.contains("unfree") {
        return advice(
            format!(
                "{package} is not free software, and nixpkgs refuses that unless the configuration allows it"
            ),
            "allow it in the configuration: nixpkgs.config.allowUnfree = true;",
        );
    }
    if all.contains("insecure") {
        return advice(
            format!("{package} has known vulnerabilities"),
            format!(
                "use another, or allow it: nixpkgs.config.permittedInsecurePackages = [ \"{package}\" ];"
            ),
        );
    }
    if all.contains("broken") {
        return advice(
            format!("{package} is marked as broken in this nixpkgs"),
            "use another, or another nixpkgs (--nixpkgs)",
        );
    }
    None
}

/// Returns whether an option is `above`, or is below it.
fn is_of(option: &str, above: &str) -> bool {
    option.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn about_option(option: &str, all: &str, message: &str, said: &ErrorText, tail: &Tail) -> Option<Advice> {
    if message.contains("does not exist") {
        let standin = message.contains("stand-in");
        if let Some(driver) = OF_THE_TEST_DRIVER.iter().find(|its| is_of(option, its)) {
            return advice(
                format!("`{driver}` is for the NixOS test driver, which connects its machines by it"),
                "remove it: a VM that is built by itself (`-A vm`) does not need it, with any nixpkgs",
            );
        }
        let next = match (did_you_mean(said, tail), standin) {
            (Some(near), true) => format!("{near} ({REAL})"),
            (Some(near), false) => near,
            (None, true) => format!("the stand-in has only some of the options (standin/OPTIONS.md); {REAL}"),
            (None, false) => format!("search {OPTIONS}"),
        };
        return advice("the option's name is misspelled, or the option is in the wrong place", next);
    }
    if let Some(kind) = quoted(message, "is not of type `") {
        let write = match kind {
            _ if kind.contains("boolean") => "true or false, without quotes",
            _ if kind.starts_with("list") => "a list: [ … ], without commas",
            _ if kind.contains("integer") || kind.contains("number") => "a number, without quotes",
            _ if kind.contains("package") => "a package, such as pkgs.cowsay",
            _ if kind.contains("string") => "text in quotes: \"…\"",
            _ if kind.starts_with("attribute set") => "a set: { name = value; }",
            _ => "a value of that type",
        };
        return advice(
            format!("{option} takes a value of the type `{kind}`, and was given something else"),
            format!("write {write}"),
        );
    }
    if message.contains("is used but not defined") {
        return advice(
            "something that the configuration enables needs this option",
            format!("set it: {option} = …; (what it takes: {OPTIONS})"),
        );
    }
    if all.contains("conflicting") || message.contains("defined multiple times") {
        return advice(
            "the option is set in two places, to different values",
            "remove one of them, or write lib.mkForce before the value that you want",
        );
    }
    None
}

/// Advises on a package that does not exist.
fn package(name: &str, said: &ErrorText, tail: &Tail) -> Option<String> {
    let standin = tail.line_with(&[&format!("mentions pkgs.{name}, and the stand-in has no such package")]);
    match (did_you_mean(said, tail), standin) {
        (Some(near), _) => Some(near),
        (None, Some(line)) => Some(match line.split_once("(did you mean ") {
            Some((_, near)) => format!("did you mean {}", near.trim_end_matches(['.', ')'])),
            None => format!("the stand-in has only some packages (standin/README.md); {REAL}"),
        }),
        (None, None) => None,
    }
}

/// Returns Nix's own suggestion.
fn did_you_mean(said: &ErrorText, tail: &Tail) -> Option<String> {
    let mut lines = said.message.iter().map(String::as_str).chain(tail.lines.iter().map(String::as_str));
    lines
        .find_map(|line| line.trim().strip_prefix("Did you mean "))
        .map(|near| format!("did you mean {near}"))
}

/// Returns the option that the message is about: The option `a.b' …, … for option `a.b' ….
fn option_of(message: &str) -> Option<&str> {
    let (_, rest) = message.split_once("option `")?;
    rest.split_once('\'').map(|(option, _)| option).filter(|option| !option.is_empty())
}

/// Returns the file that Nix did not find.
fn missing_file(message: &str) -> Option<&str> {
    let first = message.lines().next().unwrap_or_default();
    let gone = first.contains("No such file or directory") || first.ends_with("does not exist");
    let before = ["getting status of '", "opening file '", "path '", "access to path '"];
    before.iter().find_map(|before| quoted(first, before)).filter(|file| gone && file.starts_with('/'))
}

/// Returns the text between `before` and the next quote.
fn quoted<'a>(text: &'a str, before: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(before)?;
    rest.split_once('\'').map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> (ErrorText, Tail) {
        let mut tail = Tail::default();
        text.lines().for_each(|line| tail.push(line));
        (ErrorText::read(&tail, Some(Path::new("/home/u"))), tail)
    }

    /// Returns cause and next step for Nix's output `text`.
    fn advised(text: &str) -> String {
        let (said, tail) = said(text);
        advise(Error::new(crate::ErrorKind::Build, "x"), &said, &tail).to_string()
    }

    #[track_caller]
    fn says(text: &str, parts: &[&str]) {
        let advice = advised(text);
        for part in parts {
            assert!(advice.contains(part), "no {part:?} in:\n{advice}");
        }
    }

    #[test]
    fn a_slip_in_the_language_is_explained() {
        says(
            "error: syntax error, unexpected '=', expecting ';'",
            &["does not end in a `;`", "or the one before it"],
        );
        says("error: syntax error, unexpected end of file, expecting '}'", &["never closed"]);
        says("error: syntax error, unexpected end of file", &["never closed"]);
        // Nix's messages for a body without braces, an extra brace, and a `;` at the end.
        for (found, cause) in [
            ("=", "outside of the braces"),
            ("}", "one closing brace too many"),
            (";", "follows the last brace"),
        ] {
            let text = format!("error: syntax error, unexpected '{found}', expecting end of file");
            says(&text, &[cause]);
            assert!(!advised(&text).contains("never closed"), "{text}");
        }
        says(
            "error: undefined variable 'pkgs'",
            &["does not have it as an argument", "{ config, lib, pkgs, ... }:"],
        );
        says(
            "error: undefined variable 'hello'",
            &["no such package", "search.nixos.org/packages", "\"hello\""],
        );
        says("error: infinite recursion encountered", &["depends on itself", "config.x"]);
    }

    #[test]
    fn a_package_that_is_not_there_comes_with_the_nearest() {
        let missing = "error: attribute 'cowsya' missing\n\n       at /home/u/c.nix:3:5:\n\n            3|   pkgs.cowsya\n\n       Did you mean cowsay?";
        says(missing, &["there is no package `cowsya`", "next: did you mean cowsay?"]);
        let standin = "trace: standin: /c.nix mentions pkgs.cowsya, and the stand-in has no such package (did you mean cowsay?).\n\
                       error: undefined variable 'cowsya'";
        says(standin, &["next: did you mean cowsay?"]);
        let no_package = "error: attribute 'colour' missing\n\n       at /home/u/c.nix:3:5:\n\n            3|   paint.colour";
        says(no_package, &["no such attribute"]);
    }

    #[test]
    fn options_are_explained_by_what_is_wrong_with_them() {
        says(
            "error: The option `services.ngnix' does not exist. Definition values:\n       - In `/home/u/c.nix': 1",
            &["misspelled", "search.nixos.org/options"],
        );
        let boolean = "error: A definition for option `a.enable' is not of type `boolean'. Definition values:\n       - In `/home/u/c.nix': \"yes\"";
        says(boolean, &["a.enable takes a value of the type `boolean`", "write true or false"]);
        says("error: The option `fileSystems' is used but not defined.", &["set it: fileSystems = …;"]);
        let twice = "error: The option `a.b' has conflicting definition values:\n       - In `/x': 1\n       - In `/y': 2";
        says(twice, &["two places", "lib.mkForce"]);
        says(
            "error:\n       Failed assertions:\n       - alice needs a password",
            &["a check failed", "each line that begins with a dash"],
        );
    }

    #[test]
    fn an_option_of_the_test_driver_comes_with_no_advice_to_take_another_nixpkgs() {
        for option in ["virtualisation.vlans", "virtualisation.interfaces", "virtualisation.test.nodeName"] {
            let text = format!(
                "error: The option `{option}' does not exist in the stand-in. Definition values:\n       - In `/c.nix': 1"
            );
            says(&text, &["for the NixOS test driver", "next: remove it"]);
            assert!(!advised(&text).contains(REAL), "{}", advised(&text));
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let hardware =
            "error: getting status of '/home/u/hardware-configuration.nix': No such file or directory";
        says(hardware, &["names a file that does not exist", "remove it from `imports`"]);
        says("error: path '/home/u/web.nix' does not exist", &["/home/u/web.nix", "create the file"]);
        says("error: path '/nix/store/x-source/web.nix' does not exist", &["git add"]);
    }

    #[test]
    fn packages_that_nixpkgs_does_not_give_unasked_come_with_the_option_that_asks() {
        let unfree = "error: Package ‘vscode-1.85.1’ in /nix/store/x/vscode.nix:90 has an unfree license (‘unfree’), refusing to evaluate.\n\n       a) To temporarily allow";
        says(unfree, &["vscode-1.85.1 is not free", "allowUnfree = true;"]);
        let insecure = "error: Package ‘openssl-1.1.1w’ in /x:1 is marked as insecure, refusing to evaluate.";
        says(insecure, &["permittedInsecurePackages = [ \"openssl-1.1.1w\" ]"]);
    }
}
