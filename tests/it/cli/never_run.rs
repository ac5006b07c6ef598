//! Scenarios that would never run are named, before anything is compiled where that can be known.

use crate::folder::{Folder, file};

#[test]
fn a_file_of_a_folder_whose_scenarios_would_never_run_is_named_with_its_line() {
    for (name, text, said) in [
        (
            "b.rs",
            "use nixvm_test::prelude::*;\n#[scenario] async fn b() {}\n",
            "b.rs:2: this scenario never runs",
        ),
        (
            "b.rs",
            "use nixvm_test::scenario as s;\n\n#[s] async fn b() {}\n",
            "b.rs:3: this scenario never runs",
        ),
        ("B.RS", "#[scenario] async fn b() {}\nnixvm_test::main!();", "its name does not end in .rs"),
        (
            "b.rs",
            "#[scenario] async fn b() {}\n#[tokio::test] async fn c() {}\nnixvm_test::main!();",
            "b.rs:2: this `#[tokio::test]` never runs",
        ),
    ] {
        let folder = Folder::with("a.rs", "#[scenario] async fn a() {}");
        folder.put(name, text);
        folder.run(&["."]).ended_with(2).said(said).said_not("compiling");
        folder.run(&["list"]).ended_with(2).said(said);
    }
    let folder = Folder::with("a.rs", "#[scenario] async fn a() {}");
    folder.put("b.rs", [0xff, 0xfe]);
    folder.run(&["."]).ended_with(2).said("b.rs").said("UTF-8");
}

/// The package that `nixvm-test editor` writes is for the editor alone.
#[test]
fn a_folder_with_an_editors_package_is_named_as_before_and_one_with_a_package_of_its_own_is_not() {
    let folder = Folder::with("a.rs", "#[scenario] async fn a() {}");
    folder.put("slow/b.rs", file("#[scenario] async fn b() {}"));
    folder.run(&["editor", "slow"]).ended_with(0);
    folder.run(&["list", "a.rs"]).ended_with(0);
    folder.run(&["."]).ended_with(0).said("the scenarios in slow are not run");
    folder.put("slow/Cargo.toml", "[package]");
    folder.run(&["."]).ended_with(0).said_not("slow");
}

#[test]
fn what_is_below_a_folder_is_left_out_and_that_is_said() {
    let folder = Folder::with("a.rs", "#[scenario] async fn a() {}");
    folder.put("slow/b.rs", file("#[scenario] async fn b() {}"));
    folder
        .run(&["."])
        .ended_with(0)
        .printed("1 passed")
        .said("the scenarios in slow are not run: name that folder, too");
    folder.run(&[".", "slow"]).ended_with(0).said_not("are not run");
}

#[test]
fn a_suite_of_a_folder_has_all_of_it_and_fails_with_the_name_of_a_file_that_came_later() {
    let folder = Folder::new();
    folder.put("suite.rs", "nixvm_test::scenarios!(\"parts\");\n");
    folder.put("parts/a.rs", file("mod steps;\n#[scenario] async fn one() { steps::help() }"));
    folder.put("parts/steps.rs", "pub fn help() {}");
    folder.put("parts/web-site/b.rs", "use nixvm_test::prelude::*;\n#[scenario] async fn two() {}\n");
    folder
        .run(&["suite.rs"])
        .ended_with(0)
        .printed("test a::one ")
        .printed("test web_site::b::two ")
        .printed("2 passed");
    folder.put("parts/helper.rs", "pub fn help() {}");
    folder.run(&["suite.rs", "--", "--list"]).ended_with(0).printed("a::one: test");
    folder.put("parts/web-site/new.rs", file("#[scenario] async fn three() {}"));
    for arguments in
        [&["suite.rs"][..], &["suite.rs", "--", "--list"], &["suite.rs", "--", "--exact", "a::one"]]
    {
        let ran = folder.run(arguments);
        ran.ended_with(2).said("the scenarios in web-site/new.rs are not in this suite").said("touch ");
        assert_eq!(ran.out, "", "--list prints the list or nothing");
    }
    folder.put("suite.rs", "nixvm_test::scenarios!(\"parts\");\n// compiled again\n");
    folder.run(&["suite.rs"]).ended_with(0).printed("test web_site::new::three ").printed("3 passed");
}

#[test]
fn a_test_in_a_module_with_scenarios_of_its_own_is_an_error_of_the_compiler() {
    let folder = Folder::with("a.rs", "mod b;\n#[scenario] async fn a() {}");
    folder.put("b.rs", file("#[scenario] async fn b() {}\n#[test]\nfn c() {}"));
    folder.run(&["a.rs"]).ended_with(3).said("b.rs:3: this `#[test]` never runs");
}

#[test]
fn a_scenario_that_ends_the_process_fails_the_run() {
    let code = "#[scenario] async fn a() { std::process::exit(0) }\n#[scenario] async fn b() {}";
    let folder = Folder::with("a.rs", code);
    for filter in ["a", ""] {
        let ran = folder.run(&["a.rs", "--", "--test-threads=1", filter]);
        ran.ended_with(1).said("a scenario ended the process").said("running: a");
    }
    folder.run(&["a.rs", "--", "--exact", "b"]).ended_with(0).said_not("ended the process");
    folder.run(&["a.rs", "--", "--list"]).ended_with(0).said_not("ended the process");
    folder.run(&["list", "a.rs"]).ended_with(0).said_not("ended the process");
}

#[test]
fn a_scenario_that_the_compiled_file_does_not_have_is_named_with_its_line() {
    let of = |code: &str| format!("use nixvm_test::prelude::*;\n{code}\n");
    let own = "use std::process::ExitCode;\n#[scenario] async fn a() {}\nfn main() -> ExitCode";
    for (text, said) in [
        (
            of("#[scenario] async fn a() {}\nfn main() {}\n// nixvm_test::main!();"),
            "a.rs: no scenario of this file runs",
        ),
        (
            of("#[scenario] async fn a() {}\nfn main() { let _ = \"nixvm_test::main!();\"; }"),
            "its `main` does not run",
        ),
        (of("#[scenario] async fn a() {}\nfn main() { nixvm_test::main!(); }"), "its `main` does not run"),
        (
            file("#[scenario] async fn a() {}\n#[cfg(test)] #[scenario]\nasync fn b() {}"),
            "a.rs:3: this scenario never runs",
        ),
        (
            file(
                "#[cfg(any())] mod off { use super::*;\n#[scenario] async fn a() {} }\n#[scenario] async fn b() {}",
            ),
            "a.rs:3: this",
        ),
        (
            file("macro_rules! off { ($($all:tt)*) => {} }\noff! { #[scenario] async fn a() {} }"),
            "a.rs:3: this",
        ),
        (file("#[cfg(any())] mod steps;\n#[scenario] async fn a() {}"), "steps.rs:2: this"),
        (file("mod inner;\n#[scenario] async fn a() {}"), "inner.rs:4: this"),
    ] {
        let folder = Folder::new();
        folder.put("a.rs", &text);
        folder.put("steps.rs", of("#[scenario] async fn c() {}"));
        folder
            .put("inner.rs", of("#[scenario] async fn c() {}\n\n#[cfg(any())] #[scenario] async fn d() {}"));
        for _ in 0..2 {
            folder.run(&["a.rs"]).ended_with(2).said(said);
        }
    }
    for (text, count) in [
        (of(&format!("{own} {{ nixvm_test::scenario::main() }}")), 1),
        (
            of(&format!(
                "{own} {{ println!(\"x\"); run() }}\nfn run() -> ExitCode {{ nixvm_test::scenario::main() }}"
            )),
            1,
        ),
        (
            file(
                "#[path = \"./steps.rs\"] mod steps;\n#[scenario] async fn r#try() {} #[scenario]\npub(crate) async fn b() {}",
            ),
            3,
        ),
        (file("macro_rules! of { ($n:ident) => { #[scenario] async fn $n() {} } }\nof!(a); of!(b);"), 2),
        (format!("---\n[dependencies]\n---\n{}", file("mod steps;\n#[scenario]\n\nasync fn a() {}")), 2),
    ] {
        let folder = Folder::new();
        folder.put("a.rs", &text);
        folder.put("steps.rs", of("#[scenario] async fn c() {}"));
        folder.run(&["a.rs"]).ended_with(0).printed(&format!("{count} passed"));
    }
}
