//! From a file to a binary: once for each content, with the compiler's messages as they are.

use std::fs;
use std::path::Path;

use crate::folder::{Folder, file};

#[test]
fn compiler_errors_have_the_users_own_path_and_line() {
    let folder =
        Folder::with("scenarios/login.rs", "#[scenario]\nasync fn login() {\n    nothing_like_it();\n}");
    let ran = folder.run(&["scenarios/login.rs"]);
    ran.ended_with(3).said("--> scenarios/login.rs:4:5").said("cannot find function `nothing_like_it`");
    ran.said("error: login.rs does not compile");
}

#[test]
fn warnings_are_shown_and_the_scenario_runs() {
    let folder = Folder::with("a.rs", "#[scenario]\nasync fn a() { let unused = 1; }");
    folder.run(&["a.rs"]).ended_with(0).said("warning: unused variable: `unused`").printed("test a ... ok");
}

/// A command that is not awaited never runs, and a result that is not looked at hides a failure.
#[test]
fn an_unused_future_or_result_does_not_compile_the_second_time_either() {
    let future = "#[scenario] async fn a(machine: Machine) { machine.succeed(\"true\"); }";
    let result = "#[scenario] async fn a(machine: Machine) { machine.succeed(\"true\").await; }";
    let helper = "async fn step(machine: &Machine) { machine.succeed(\"true\"); }";
    let checkpoint = "#[checkpoint] async fn b(machine: &mut Machine) -> Result { step(machine); Ok(()) }";
    let folder = Folder::with("a.rs", future);
    folder.put("b.rs", file(&[result, helper, checkpoint].join("\n")));
    for _ in 0..2 {
        folder.run(&["a.rs"]).ended_with(3).said("that must be used").said("--> a.rs:2:");
    }
    let ran = folder.run(&["b.rs"]);
    ran.ended_with(3).said("--> b.rs:2:").said("--> b.rs:3:").said("--> b.rs:4:");
    // Who wants it so says it.
    folder.put(
        "meant.rs",
        file("async fn other() -> Result { Ok(()) }\n#[scenario] async fn a() { let _ = other().await; }"),
    );
    folder.run(&["meant.rs"]).ended_with(0);
}

/// A compiler that fails says nothing about the one that made what is there.
#[test]
fn a_compiler_that_does_not_say_what_it_is_leaves_what_is_compiled() {
    let folder = Folder::with("a.rs", "#[scenario] async fn a() {}");
    let cache = tempfile::tempdir().unwrap();
    for (name, body) in
        [("fails", "#!/bin/sh\necho 'error: no toolchain' >&2\nexit 1\n"), ("is-mute", "#!/bin/sh\nexit 0\n")]
    {
        folder.program(name, body);
        let run = || {
            let mut command = folder.command(&["a.rs"]);
            command.env("NIXVM_CACHE_DIR", cache.path()).env("RUSTC", folder.path().join(name));
            crate::folder::Ran::of(&mut command)
        };
        run();
        let workshop = fs::read_dir(cache.path().join("scenarios")).unwrap().next().unwrap().unwrap().path();
        fs::create_dir_all(workshop.join("target")).unwrap();
        fs::write(workshop.join("target/compiled"), "").unwrap();
        fs::write(workshop.join("compiler"), "rustc 1").unwrap();
        run().ended_with(5).said("-vV` does not say which compiler it is").said_not("building");
        assert!(workshop.join("target/compiled").exists(), "{name}");
        assert_eq!(fs::read_to_string(workshop.join("compiler")).unwrap(), "rustc 1");
    }
}

#[test]
fn an_unchanged_file_is_not_compiled_again_and_an_edited_one_is() {
    let folder = Folder::with("a.rs", "#[scenario] async fn a() {}");
    folder.run(&["a.rs"]).ended_with(0).said("building a.rs");
    folder.run(&["a.rs"]).ended_with(0).said_not("building");

    folder.put("a.rs", file("#[scenario] async fn b() {}"));
    folder.run(&["a.rs"]).ended_with(0).said("building a.rs").printed("test b ... ok");
    // As it was before.
    folder.put("a.rs", file("#[scenario] async fn a() {}"));
    folder.run(&["a.rs"]).ended_with(0).printed("test a ... ok");
}

/// What is said to be compiled when the file is run with an empty cache.
#[track_caller]
fn compiled_with_an_empty_cache(folder: &Folder, name: &str) -> Vec<String> {
    let cache = tempfile::tempdir().unwrap();
    let ran = crate::folder::Ran::of(folder.command(&[name]).env("NIXVM_CACHE_DIR", cache.path()));
    ran.ended_with(0);
    assert_eq!(fs::read_dir(cache.path().join("scenarios")).unwrap().count(), 1, "{}", ran.err);
    let workshop = fs::read_dir(cache.path().join("scenarios")).unwrap().next().unwrap().unwrap();
    assert!(!workshop.path().join("target").exists(), "a target folder beside that of this program");
    ran.err.lines().filter_map(|line| Some(line.split_once("compiling ")?.1.to_owned())).collect()
}

#[test]
fn nothing_is_compiled_that_this_program_was_compiled_with() {
    let folder = Folder::with("a.rs", "#[scenario] async fn a() {}");
    // In a new checkout this may compile crates with the features that no test has.
    folder.run(&["a.rs"]).ended_with(0);
    folder.put("b.rs", file("#[scenario] async fn b() {}"));
    let compiled = compiled_with_an_empty_cache(&folder, "b.rs");
    assert!(matches!(&compiled[..], [only] if only.starts_with("nixvm-b-")), "{compiled:?}");

    // One with dependencies of its own has the library compiled for it, but no crate of others.
    let front = "---\n[dependencies]\nserde_json = \"1\"\n---\nuse nixvm_test::prelude::*;\n\
        #[scenario]\nasync fn c() { drop(serde_json::json!({})) }\nnixvm_test::main!();\n";
    folder.put("c.rs", front);
    let compiled = compiled_with_an_empty_cache(&folder, "c.rs");
    assert!(compiled.iter().all(|name| name.starts_with("nixvm-")), "{compiled:?}");
    // Without them it is linked with the same library as before.
    folder.put("c.rs", file("#[scenario] async fn c() {}"));
    let compiled = compiled_with_an_empty_cache(&folder, "c.rs");
    assert!(matches!(&compiled[..], [only] if only.starts_with("nixvm-c-")), "{compiled:?}");
}

/// How compiler and cargo are called for a file, as `FOLDER|BUILD FOLDER|ARGUMENTS`; neither does anything.
fn calls(library: Option<&Path>, cache: &Path) -> Vec<[String; 3]> {
    let folder = Folder::with("a.rs", "#[scenario] async fn a() {}");
    let (script, log) = (folder.path().join("compiler"), folder.path().join("log"));
    let text = format!(
        "#!/bin/sh\nprintf '%s|%s|%s\\n' \"$(pwd -P)\" \"$CARGO_BUILD_BUILD_DIR\" \"$*\" >>'{}'\n\
         [ \"$1\" = -vV ] && exec echo 'release: 1.90.0'\nexit 1\n",
        log.display()
    );
    folder.program("compiler", text);
    let mut command = folder.command(&["a.rs"]);
    command.env("NIXVM_CACHE_DIR", cache).env("CARGO", &script).env("RUSTC", &script);
    // As a user has it who shares one folder among checkouts.
    command.env("CARGO_TARGET_DIR", "/shared").env("CARGO_BUILD_BUILD_DIR", "/shared");
    if let Some(library) = library {
        command.env("NIXVM_LIBRARY", library);
    }
    crate::folder::Ran::of(&mut command).ended_with(3);
    let log = fs::read_to_string(log).unwrap();
    let words = |line: &str| line.splitn(3, '|').map(str::to_owned).collect::<Vec<_>>().try_into().unwrap();
    log.lines().map(words).collect()
}

#[test]
fn compiler_and_cargo_are_asked_in_one_folder_and_write_to_one_that_no_other_checkout_has() {
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).canonicalize().unwrap();
    let (cache, library) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(library.path().join("Cargo.toml"), "").unwrap();
    let other_cache = tempfile::tempdir().unwrap();
    for (library, cache, asked_in, calls_of) in [
        (None, cache.path(), checkout.as_path(), ["-vV", "build", "rustc", "rustc"].as_slice()),
        (Some(library.path()), other_cache.path(), other_cache.path(), &["-vV", "rustc", "rustc"]),
    ] {
        let calls = calls(library, cache);
        let first_words: Vec<&str> = calls.iter().filter_map(|call| call[2].split(' ').next()).collect();
        assert_eq!(first_words, calls_of, "{calls:?}");
        for [folder, build, arguments] in &calls {
            assert!(Path::new(folder).starts_with(asked_in), "{arguments} in {folder}");
            if arguments != "-vV" {
                assert!(Path::new(build).starts_with(asked_in), "{arguments} with {build}");
                assert!(arguments.contains(&format!("--target-dir {build}")), "{arguments} with {build}");
            }
            // The lock file of a checkout is its user's.
            assert!(!arguments.starts_with("build") || arguments.contains("--locked"), "{arguments}");
        }
    }
}

#[test]
fn whatever_the_code_reads_is_part_of_it() {
    let folder = Folder::with(
        "a.rs",
        r#"mod helper;
#[scenario] async fn a() -> Result { Err(format!("{} {} {:?}", helper::TEXT, include_str!("a text.txt"), option_env!("MY_LEVEL")))? }"#,
    );
    folder.put("helper.rs", "pub const TEXT: &str = \"one\";");
    folder.put("a text.txt", "eins");
    folder.run(&["a.rs"]).ended_with(1).printed("one eins None");
    folder.put("helper.rs", "pub const TEXT: &str = \"two\";");
    folder.run(&["a.rs"]).ended_with(1).printed("two eins None");
    folder.put("a text.txt", "zwei");
    folder.run(&["a.rs"]).ended_with(1).printed("two zwei None");
    let mut command = folder.command(&["a.rs"]);
    crate::folder::Ran::of(command.env("MY_LEVEL", "3")).ended_with(1).printed("two zwei Some(\"3\")");
}

#[test]
fn frontmatter_is_cut_out_and_lines_keep_their_numbers() {
    let folder = Folder::new();
    // serde_json is among what the library itself uses, so this needs no network.
    let text = "---\n[dependencies]\nserde_json = \"1\"\n---\nuse nixvm_test::prelude::*;\nmod helper;\n\
        #[scenario]\nasync fn a() { helper::check(&serde_json::json!({})) }\nnixvm_test::main!();\n";
    folder.put("a.rs", text);
    folder.put(
        "helper.rs",
        "pub fn check(value: &serde_json::Value) { assert!(value.is_array(), \"no array\") }",
    );
    folder
        .run(&["a.rs"])
        .ended_with(1)
        .printed("helper.rs:1:")
        .printed("no array")
        .printed("scenario: a, a.rs:8");
    folder.put("a.rs", text.replace("helper::check", "helper::chekc"));
    folder.run(&["a.rs"]).ended_with(3).said("--> a.rs:8:").said("chekc");
}

#[test]
fn several_files_are_compiled_first_and_then_run_in_turn() {
    let folder = Folder::with("one.rs", "#[scenario] async fn one() {}");
    folder.put("two.rs", file("#[scenario] async fn two() { panic!(\"no\") }"));
    let ran = folder.run(&["one.rs", "two.rs"]);
    ran.ended_with(1).printed("test one ... ok").printed("test two ... FAILED");
    folder.run(&["."]).ended_with(1).printed("test one ... ok").printed("test two ... FAILED");
    folder.run(&[".", "--", "one"]).ended_with(0);

    folder.put("two.rs", file("#[scenario] async fn two() { no_such_thing() }"));
    let ran = folder.run(&["."]);
    ran.ended_with(3).said("two.rs:2:");
    assert_eq!(ran.out, "", "nothing runs while something does not compile");
}

#[test]
fn several_processes_compile_the_same_file_at_once() {
    let folder = Folder::with("a.rs", "#[scenario] async fn a() {}");
    let started: Vec<_> = (0..4)
        .map(|_| {
            let mut command = folder.command(&["a.rs"]);
            command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap()
        })
        .collect();
    for mut process in started {
        assert!(process.wait().unwrap().success());
    }
}

#[test]
fn a_file_name_that_is_no_crate_name_and_a_link_to_a_file_will_do() {
    let folder = Folder::with("3 ways in.rs", "#[scenario] async fn a() {}");
    folder.run(&["3 ways in.rs"]).ended_with(0).printed("test a ... ok");
    std::os::unix::fs::symlink("3 ways in.rs", folder.path().join("link.rs")).unwrap();
    folder.run(&["link.rs"]).ended_with(0).printed("test a ... ok");
}

#[test]
fn the_flags_reach_the_scenario_as_variables() {
    let folder = Folder::with(
        "a.rs",
        r#"#[scenario] async fn a() -> Result { Err(format!("{:?}", std::env::var("NIXVM_VM")))? }"#,
    );
    let vm = folder.path().join("result").display().to_string();
    folder.run(&["--vm", "./result", "a.rs"]).ended_with(1).printed(&vm);
}

/// Compiles all of these at once, each in a module of its own, and wants an error for each: at its place, counted from a
/// first line that brings the names in, with its text.
#[track_caller]
fn refused(cases: &[(&str, &str, &str)]) {
    let (mut code, mut first) = (String::new(), 2);
    let mut wanted = Vec::new();
    for (number, (case, place, text)) in cases.iter().enumerate() {
        let (line, column) = place.split_once(':').unwrap();
        let line: usize = line.parse().unwrap();
        wanted.push((format!("--> a.rs:{}:{column}\n", first + line - 1), text));
        let module = format!("mod case_{number} {{ use nixvm_test::prelude::*;\n{case}\n}}\n");
        first += module.lines().count();
        code.push_str(&module);
    }
    let folder = Folder::with("a.rs", &code);
    let ran = folder.run(&["a.rs"]);
    ran.ended_with(3);
    let errors: Vec<&str> = ran.err.split("\nerror").collect();
    for (place, text) in wanted {
        let found = errors.iter().any(|error| error.contains(&place) && error.contains(text));
        assert!(found, "no error {text:?} at {place:?}\n{}", ran.err);
    }
}

#[test]
fn mistakes_in_the_attribute_are_shown_where_they_are() {
    refused(&[
        ("#[scenario(timeout = \"5\")]\nasync fn a() {}", "2:22", "lacks a unit"),
        ("#[scenario(timeout = 5)]\nasync fn a() {}", "2:22", "expected a string: `timeout = \"5m\"`"),
        (
            "#[scenario(timout = \"5m\")]\nasync fn a() {}",
            "2:12",
            "unknown argument `timout`: did you mean `timeout`? there are `allow(\"segfault\")`, `budget(boot = \"20s\")`, \
             `configuration = \"FILE.nix\"`, `cores = 2`, `dhcp = false`, `from = logged_in(\"alice\", \"test\")`, `ignore = \"why\"`, \
             `memory = \"2G\"`, `nixpkgs(PARAMETER = \"channel:nixos-26.05\")`, `passphrase = \"open sesame\"`, `retries = 2`, `timeout = \"5m\"`, `vlans(PARAMETER = [1, 2])`",
        ),
        (
            "#[scenario(nixpkgs = \"standin\")]\nasync fn a() {}",
            "2:12",
            "which parameter is built with which nixpkgs",
        ),
        ("#[scenario(nixpkgs())]\nasync fn a(next: System) { drop(next) }", "2:12", "`nixpkgs(next = "),
        (
            "#[scenario(nixpkgs(nxet = \"standin\"))]\nasync fn a(next: System) { drop(next) }",
            "2:20",
            "no parameter `nxet`: did you mean `next`? the scenario has `next`",
        ),
        (
            "#[scenario(nixpkgs(next = \"standin\", next = \"standin\"))]\nasync fn a(next: System) { drop(next) }",
            "2:38",
            "`next` is given twice",
        ),
        (
            "#[scenario(nixpkgs(next = \" \"))]\nasync fn a(next: System) { drop(next) }",
            "2:27",
            "expected a nixpkgs",
        ),
        (
            "#[scenario(next = \"\")]\nasync fn a(next: System) { drop(next) }",
            "2:19",
            "`next = \"next.nix\"`",
        ),
        ("#[scenario(memroy(\"2G\"))]\nasync fn a() {}", "2:12", "did you mean `memory`?"),
        (
            "#[scenario(budget(bot = \"20s\"))]\nasync fn a() {}",
            "2:19",
            "did you mean `boot`? a budget takes `boot = \"20s\"`, `userspace = \"12s\"`",
        ),
        (
            "#[checkpoint(timeout = \"5m\")]\nasync fn a(m: &mut Machine) -> Result { drop(m); Ok(()) }",
            "2:14",
            "unknown argument `timeout`: a checkpoint has `from = booted`",
        ),
        (
            "#[checkpoint(form = booted)]\nasync fn a(m: &mut Machine) -> Result { drop(m); Ok(()) }",
            "2:14",
            "did you mean `from`?",
        ),
        (
            "#[cfg(any())] use x as _; nixvm_test::scenarios!(\"a\", recursive = true);",
            "2:53",
            "`scenarios!` takes a folder and nothing else",
        ),
        ("#[scenario(ignore, ignore)]\nasync fn a() {}", "2:20", "`ignore` is given twice"),
        (
            "#[scenario(allow)]\nasync fn a() {}",
            "2:12",
            "expected the name of a check: `allow(\"segfault\")`",
        ),
        ("#[scenario(allow = \"segfault\")]\nasync fn a() {}", "2:12", "`allow(\"segfault\")`"),
        ("#[scenario(allow(segfault))]\nasync fn a() {}", "2:18", "expected strings: `allow(\"…\")`"),
        ("#[scenario(allow())]\nasync fn a() {}", "2:12", "expected the name of a check"),
        ("#[scenario(timeout(\"5m\"))]\nasync fn a() {}", "2:12", "expected `timeout = \"…\"`"),
        (
            "#[scenario(sever = \"a.nix\")]\nasync fn a(server: Machine) { drop(server) }",
            "2:12",
            "`server = \"FILE.nix\"`",
        ),
    ]);
}

#[test]
fn mistakes_in_the_function_are_shown_where_they_are() {
    refused(&[
        ("#[scenario]\nfn a() {}", "3:1", "write `async fn a`"),
        (
            "#[scenario]\nasync fn a() -> i32 { 1 }",
            "3:17",
            "a scenario returns nothing or a `Result<(), E>`, not `i32`",
        ),
        ("#[scenario]\nasync fn a(port: u16) { let _ = port; }", "3:18", "a scenario can't take `u16`"),
        ("#[scenario]\nasync fn a<T>() {}", "3:11", "without generics"),
        ("#[scenario]\nasync fn a((x, y): Machine) {}", "3:12", "plain names"),
        ("#[scenario]\nasync fn a(timeout: Machine) {}", "3:12", "can't be named `timeout`"),
        ("#[scenario]\nasync fn a(nixpkgs: System) {}", "3:12", "a parameter can't be named `nixpkgs`"),
        ("#[scenario]\nstruct A;", "3:1", "needs a function"),
        ("#[scenario]\nasync fn a() { let x = ; }", "3:1", "correct its syntax"),
        ("#[checkpoint]\nasync fn a(machine: Machine) -> Result { Ok(()) }", "3:1", "&mut Machine"),
        (
            "#[scenario(from = nowhere)]\nasync fn a(machine: Machine) {}",
            "2:19",
            "__nixvm_checkpoint_nowhere",
        ),
        (
            "#[scenario(from = logged_in(\"alice\"))]\nasync fn a(machine: Machine) {}",
            "2:19",
            "a name and a password",
        ),
        ("#[scenario(memory = \"much\")]\nasync fn a(machine: Machine) {}", "2:21", "512M"),
        ("#[scenario(cores = 0)]\nasync fn a(machine: Machine) {}", "2:20", "1 to 255"),
    ]);
}
