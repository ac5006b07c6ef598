//! What is asked for wrongly is refused with a text that helps, and with exit code 2.

use crate::folder::{Folder, Ran, file};

#[test]
fn help_has_examples_and_exit_codes() {
    let help = Folder::new().run(&["--help"]);
    help.ended_with(0).printed("Examples:").printed("Exit codes:").printed("--keep-state");
}

#[test]
fn the_short_help_fits_a_screen_and_leaves_the_rest_to_the_long_one() {
    let folder = Folder::new();
    let (short, long) = (folder.run(&["build", "-h"]), folder.run(&["build", "--help"]));
    short.ended_with(0).printed("--nixpkgs").printed("see more with '--help'");
    long.ended_with(0).printed("Examples:").printed("--build-timeout").printed("NIXVM_NIXPKGS");
    for left_out in ["Examples:", "--build-timeout", "NIXVM_NIXPKGS", "--retries"] {
        assert!(!short.out.contains(left_out), "{left_out}\n{}", short.out);
    }
    assert!(!long.out.contains("--retries") && !long.out.contains("--vm"), "{}", long.out);
}

#[test]
fn a_flag_that_does_not_apply_to_a_subcommand_is_refused_with_those_that_do() {
    let folder = Folder::new();
    for words in [
        &["build", "--retries", "2"][..],
        &["--retries", "2", "build"],
        &["build", "--retries=2", "-q"],
        &["-v", "build", "--retries", "2"],
    ] {
        let ran = folder.run(words);
        ran.ended_with(2).said("`nixvm-test build` does not take --retries");
        ran.said("the settings that it takes are --nixpkgs, --configuration, --flake, --build-timeout");
    }
    folder
        .run(&["list", "--no-template"])
        .ended_with(2)
        .said("`nixvm-test list` does not take --no-template");
    folder.run(&["cache", "list", "-j", "2"]).ended_with(2).said("`nixvm-test cache` does not take -j");
    folder
        .run(&["--vm", "result", "diff", "a", "b"])
        .ended_with(2)
        .said("`nixvm-test diff` does not take --vm");
    // What is no setting is refused as before.
    folder.run(&["build", "--frobnicate"]).ended_with(2).said("unexpected argument '--frobnicate'");
    // A flag after the name overrides the same flag before it.
    let ran = folder.run(&["--retries", "1", "config", "--retries", "2"]);
    ran.ended_with(0).printed("retries = 2");
}

#[test]
fn a_wrong_flag_is_refused_with_a_suggestion() {
    let ran = Folder::new().run(&["--nixpkg", "x", "a.rs"]);
    ran.ended_with(2).said("--nixpkg").said("--nixpkgs");
}

#[test]
fn two_sources_contradict_each_other() {
    Folder::new()
        .run(&["--flake", ".#a", "--vm", "result", "a.rs"])
        .ended_with(2)
        .said("cannot be used with");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    Folder::new().run(&["login.rs"]).ended_with(2).said("there is no file or folder `login.rs`");
}

#[test]
fn a_folder_without_scenarios_is_named() {
    let folder = Folder::new();
    folder.put("empty/notes.txt", "");
    folder.run(&["empty"]).ended_with(2).said("no scenarios in the folder empty");
}

#[test]
fn a_file_without_main_is_told_what_is_missing() {
    let folder = Folder::new();
    folder.put("login.rs", "fn help() {}\n");
    folder.run(&["login.rs"]).ended_with(2).said("add a last line `nixvm_test::main!();`");
}

#[test]
fn a_file_that_is_not_rust_is_refused_before_it_is_compiled() {
    let folder = Folder::new();
    folder.put("notes.txt", file(""));
    folder.put("program.rs", [0x7f, b'E', b'L', b'F', 0xff]);
    folder.run(&["notes.txt"]).ended_with(2).said("does not end in .rs");
    folder.run(&["program.rs"]).ended_with(2).said("is not Rust");
}

#[test]
fn a_host_without_cargo_is_told_what_to_install() {
    let folder = Folder::with("a.rs", "#[scenario] async fn a() {}");
    let mut command = folder.command(&["a.rs"]);
    command.env("PATH", "/nowhere").env_remove("CARGO").env_remove("RUSTC");
    Ran::of(&mut command).ended_with(5).said("https://rustup.rs");
}

/// Neither cargo nor Nix could be started.
#[test]
fn an_accelerator_that_is_none_is_refused_before_anything_is_compiled_or_built() {
    use std::os::unix::ffi::OsStrExt as _;
    let exe = r#"#[scenario] async fn a() { std::fs::write("exe", std::env::current_exe().unwrap().display().to_string()).unwrap() }"#;
    let folder = Folder::with("a.rs", exe);
    folder.put("configuration.nix", "{}");
    for words in [
        &["a.rs"][..],
        &["--watch", "a.rs"],
        &["repl", "configuration.nix"],
        &["doctor", "--kvm", "configuration.nix"],
    ] {
        let mut command = folder.command(words);
        command.env("PATH", "/nowhere").env_remove("CARGO").env_remove("RUSTC");
        let ran = Ran::of(command.env("NIXVM_ACCELERATOR", "fast"));
        ran.ended_with(2).said("NIXVM_ACCELERATOR is \"fast\"").said("set it to kvm or tcg");
        Ran::of(command.env("NIXVM_ACCELERATOR", std::ffi::OsStr::from_bytes(b"kvm\xff"))).ended_with(2);
    }
    // As cargo runs a suite.
    folder.run(&["a.rs"]).ended_with(0);
    let suite = std::fs::read_to_string(folder.path().join("exe")).unwrap();
    let mut command = std::process::Command::new(suite);
    crate::folder::take_over(&mut command, &folder.command(&[]));
    command.current_dir(folder.path()).env("NIXVM_ACCELERATOR", "fast");
    std::fs::remove_file(folder.path().join("exe")).unwrap();
    Ran::of(&mut command).ended_with(2).said("NIXVM_ACCELERATOR is \"fast\"");
    assert!(!folder.path().join("exe").exists());
    Ran::of(command.arg("--list")).ended_with(0);
}

#[test]
fn a_filter_of_the_log_that_is_none_is_said_to_be_none() {
    let log = |filter: &str| {
        let folder = Folder::with("a.rs", "#[scenario] async fn a() {}");
        let mut command = folder.command(&["list", "a.rs"]);
        let ran = Ran::of(command.env("NIXVM_LOG", filter));
        ran.ended_with(0);
        ran.err
    };
    assert!(log("nixvm_test=loud").contains("NIXVM_LOG is not a filter"));
    assert!(!log("nixvm_test=debug,tokio=warn").contains("not a filter"));
}

#[test]
fn a_missing_configuration_is_refused_with_every_place_that_was_looked_at() {
    let folder =
        Folder::with("scenarios/a.rs", "#[scenario] async fn a(machine: Machine) { drop(machine); }");
    folder.put(".git/HEAD", "");
    let ran = folder.run(&["scenarios/a.rs"]);
    ran.ended_with(2).printed("no configuration.nix for scenarios in");
    for place in ["scenarios/configuration.nix", "configuration.nix"] {
        ran.printed(&folder.path().join(place).display().to_string());
    }
}

#[test]
fn a_host_without_nix_is_told_what_to_install() {
    let folder = Folder::with("a.rs", "#[scenario] async fn a(machine: Machine) { drop(machine) }");
    folder.put("configuration.nix", "{ ... }: { }");
    // Only what compiling takes.
    let tools = folder.path().join("tools");
    std::fs::create_dir(&tools).unwrap();
    let path = std::env::var_os("PATH").unwrap();
    for tool in ["cargo", "rustc", "cc", "ld"] {
        let found = std::env::split_paths(&path).map(|folder| folder.join(tool)).find(|tool| tool.is_file());
        std::os::unix::fs::symlink(found.unwrap(), tools.join(tool)).unwrap();
    }
    let ran = Ran::of(folder.command(&["--nixpkgs", "standin", "a.rs"]).env("PATH", &tools));
    ran.ended_with(5).printed("lacks nix-build").printed("nix-bin").printed("scenario: a, a.rs:2");
}

#[test]
fn a_mistyped_subcommand_is_recognised() {
    let folder = Folder::new();
    let ran = folder.run(&["lits"]);
    ran.ended_with(2)
        .said("no file or folder `lits`, and no such subcommand")
        .said("did you mean `nixvm-test list`?");
    folder.run(&["doktor"]).ended_with(2).said("did you mean `nixvm-test doctor`?");
    let ran = folder.run(&["frobnicate"]);
    ran.ended_with(2).said("`nixvm-test --help` lists them");
    assert!(!ran.err.contains("did you mean"), "{}", ran.err);
    // What looks like a file is taken for one.
    folder.run(&["scenarios/lits"]).ended_with(2).said("there is no file or folder `scenarios/lits`\n");
}

#[test]
fn shells_get_their_completions_and_man_its_pages() {
    let folder = Folder::new();
    for (shell, word) in
        [("bash", "complete -F"), ("zsh", "#compdef nixvm-test"), ("fish", "complete -c nixvm-test")]
    {
        let ran = folder.run(&["completions", shell]);
        ran.ended_with(0).printed(word).printed("doctor").printed("keep-state");
    }
    // zsh tells words apart by their places: nothing may come before the subcommand.
    let zsh = folder.run(&["completions", "zsh"]).out;
    let (before, _) = zsh.split_once("\":: :_nixvm-test_commands\"").unwrap();
    assert!(!before.contains("scenarios --"), "{before}");
    assert!(zsh.contains("_describe -t commands 'nixvm-test commands' commands \"$@\"\n    _files\n"));
    folder.run(&["completions", "cmd"]).ended_with(2).said("possible values");
    let ran = folder.run(&["man"]);
    ran.ended_with(0).printed(".TH nixvm-test 1").printed("run\\-timeout").printed("Exit codes");
    folder.run(&["man", "--dir", "man1"]).ended_with(0);
    let page = std::fs::read_to_string(folder.path().join("man1/nixvm-test-init.1")).unwrap();
    assert!(page.contains("no\\-cargo"), "{page}");
}

#[test]
fn bash_completes_subcommands_their_flags_and_values() {
    let folder = Folder::new();
    folder.put("completions", folder.run(&["completions", "bash"]).out);
    for (typed, expected) in [
        ("re", "rehearse repl report replay"),
        ("attach --li", "--live"),
        ("init --ci git", "github gitlab"),
        ("completions z", "zsh"),
        ("cache p", "prune path"),
    ] {
        let words: Vec<&str> = std::iter::once("nixvm-test").chain(typed.split(' ')).collect();
        let (current, before) = (words[words.len() - 1], words[words.len() - 2]);
        // As bash calls it after a tab.
        let call = format!(
            "source ./completions; COMP_WORDS=({}); COMP_CWORD={}; \
             $(complete -p nixvm-test | sed 's/.*-F \\([^ ]*\\).*/\\1/') nixvm-test '{current}' '{before}'; \
             echo \"${{COMPREPLY[*]}}\"",
            words.join(" "),
            words.len() - 1
        );
        let output =
            std::process::Command::new("bash").args(["-c", &call]).current_dir(folder.path()).output();
        let output = output.unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let sorted = |words: &str| {
            let mut words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
            words.sort();
            words
        };
        assert_eq!(sorted(&out), sorted(expected), "{typed}: {err}");
    }
}

#[test]
fn a_reader_that_went_away_ends_the_program_without_a_word() {
    let folder = Folder::new();
    folder.put("run/events.jsonl", "");
    // `cache list` is not among them: it prints nothing for an empty cache.
    let commands = [
        "cache path",
        "report run --no-open",
        "diff run run",
        "config",
        "man",
        "completions bash",
        "doctor",
        "--help",
    ];
    for command in commands {
        let (gone, pipe) = std::io::pipe().unwrap();
        drop(gone);
        let arguments: Vec<&str> = command.split(' ').collect();
        let ran = Ran::of_with(folder.command(&arguments).stdout(pipe));
        // As SIGPIPE ends any program.
        assert_eq!(ran.code, Some(141), "{command}: {:?}\n{}", ran.code, ran.err);
        assert!(!ran.err.contains("panicked"), "{command}: {}", ran.err);
    }
}

#[test]
fn a_filter_that_no_scenario_matches_is_an_error_and_one_that_some_file_matches_is_none() {
    let folder = Folder::with("a.rs", "#[scenario] async fn page() {}");
    folder.put("b.rs", crate::folder::file("#[scenario] async fn login() {}"));
    let ran = folder.run(&["a.rs", "b.rs", "--", "pgae"]);
    ran.ended_with(2).said("no scenario matches the filter `pgae`").said("did you mean `page`?");
    folder.run(&["a.rs", "b.rs", "--", "pag"]).ended_with(0).printed("1 passed");
    folder.run(&["a.rs", "--", "--exact", "pag"]).ended_with(2);
}
