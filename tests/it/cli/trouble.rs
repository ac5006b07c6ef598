//! What somebody reads who has never used Nix, and whose configuration is wrong: what is wrong, where, what to do.
//! Nix and the stand-in are the real ones.

use crate::folder::{Folder, Ran};

/// Builds a configuration of these lines.
fn build(lines: &str) -> Ran {
    let folder = Folder::new();
    folder.put("configuration.nix", lines);
    let ran = folder.run(&["build", "--nixpkgs", "standin"]);
    assert!(!folder.path().join("result").exists());
    ran
}

/// Its report is short, names the line, and says all of `parts`; nothing of Nix's own trace is shown before it.
#[track_caller]
fn says(lines: &str, line: usize, parts: &[&str]) {
    let ran = build(lines);
    ran.ended_with(3).said("error: building configuration.nix failed: ");
    for part in parts {
        ran.said(part);
    }
    if line > 0 {
        ran.said(&format!("/configuration.nix:{line}:"));
    }
    let before = ran.err.split("error: building").next().unwrap();
    assert!(before.lines().count() < 6, "the report is pushed out of sight:\n{}", ran.err);
    assert!(ran.err.lines().count() < 25, "{}", ran.err);
}

const HEAD: &str = "{ config, pkgs, ... }:\n{\n";

#[test]
fn a_slip_in_the_language_is_explained_at_its_line() {
    says(
        &format!("{HEAD}  users.users.alice.isNormalUser = true\n  system.stateVersion = \"23.11\";\n}}\n"),
        4,
        &["syntax error", "likely cause: the line before this place does not end in a `;`"],
    );
    says(
        "{ config, ... }:\n{\n  environment.systemPackages = [ pkgs.cowsay ];\n}\n",
        3,
        &[
            "undefined variable 'pkgs'",
            "does not have it as an argument",
            "next: begin the file with `{ config, lib, pkgs, ... }:`",
        ],
    );
    says(
        &format!("{HEAD}  networking.hostName = config.networking.hostName + \"x\";\n}}\n"),
        3,
        &["infinite recursion", "likely cause: a value depends on itself"],
    );
}

#[test]
fn what_does_not_exist_comes_with_what_was_meant() {
    says(
        &format!("{HEAD}  services.ngnix.enable = true;\n}}\n"),
        3,
        &[
            "The option `services.ngnix.enable' does not exist",
            "misspelled",
            "next: did you mean `services.nginx'?",
        ],
    );
    for package in ["[ pkgs.cowsya ]", "with pkgs; [ cowsya ]"] {
        let line = format!("{HEAD}  environment.systemPackages = {package};\n}}\n");
        says(&line, 3, &["'cowsya'", "no such package", "next: did you mean cowsay?"]);
    }
    says(
        &format!("{HEAD}  environment.systemPackages = [ pkgs.vscode ];\n}}\n"),
        3,
        &["there is no package `vscode`", "a real nixpkgs has them all: --nixpkgs"],
    );
    says(
        &format!("{HEAD}  imports = [ ./hardware-configuration.nix ];\n}}\n"),
        3,
        &["names a file that does not exist", "next: remove it from `imports`"],
    );
}

#[test]
fn what_contradicts_itself_is_told_in_the_words_of_the_check() {
    says(
        &format!(
            "{HEAD}  assertions = [ {{ assertion = false; message = \"alice needs a password\"; }} ];\n}}\n"
        ),
        0,
        &["| - alice needs a password", "next: follow each line that begins with a dash"],
    );
    says(
        &format!("{HEAD}  users.users.alice.isNormalUser = \"yes\";\n}}\n"),
        3,
        &["is not of type `boolean'", "next: write true or false, without quotes"],
    );
}

#[test]
fn a_folder_without_a_configuration_is_told_how_to_get_one() {
    Folder::new().run(&["build"]).ended_with(2).said("there is no configuration").said("`nixvm-test init`");
}
