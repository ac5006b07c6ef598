//! What fails a scenario that passed, and what is allowed to it: on the fake guest, whose kernel says
//! whatever it is told to.

use nixvm_fake_guest::FakeVm;

use crate::folder::Folder;

/// What the kernel says of a program that crashed, behind the time stamp.
const CRASH: &str = "crash[77]: segfault at 0 ip 0000000000401136 sp 00007ffe error 4";

/// A scenario with `attribute` that does nothing wrong while its machine's console says `crash`'s line.
fn crashing(attribute: &str, name: &str) -> String {
    format!(
        "{attribute}\nasync fn {name}(machine: Machine) -> Result {{\n\
         machine.login(\"alice\", \"test\").await?.succeed(\"fake kernel '{CRASH}'\").await.map(drop)\n}}\n"
    )
}

#[test]
fn a_scenario_that_passed_fails_with_the_kernels_line_unless_that_is_allowed() {
    let code = [
        crashing("#[scenario]", "not_allowed"),
        crashing("#[scenario(allow(\"segfault\"))]", "allowed"),
        crashing("#[scenario(allow(\"OOM kill\", \"kernel oops\"))]", "other_things_are_allowed"),
    ];
    let folder = Folder::with("checks.rs", &code.concat());
    FakeVm::new().write_to(folder.path());
    let ran = folder.run(&["--vm", "result", "checks.rs"]);
    ran.ended_with(1)
        .printed("the scenario passed, but machine's console shows: a program crashed\n")
        .printed(&format!("] {CRASH}\n"))
        .printed("`#[scenario(allow(\"segfault\"))]`")
        .printed("scenario: not_allowed, checks.rs:3")
        .printed("test allowed                  ... ok")
        .printed("1 passed; 2 failed;");
}

#[test]
fn a_unit_that_the_console_calls_failed_fails_a_scenario_unless_that_is_allowed() {
    let line = "[FAILED] Failed to start nginx.service - Nginx Web Server.";
    let body =
        format!("machine.login(\"alice\", \"test\").await?.succeed(\"echo '{line}'\").await.map(drop)");
    let folder = Folder::with(
        "checks.rs",
        &format!(
            "#[scenario] async fn not_allowed(machine: Machine) -> Result {{ {body} }}\n\
             #[scenario(allow(\"failed unit\"))] async fn allowed(machine: Machine) -> Result {{ {body} }}"
        ),
    );
    FakeVm::new().write_to(folder.path());
    let ran = folder.run(&["--vm", "result", "checks.rs"]);
    ran.ended_with(1)
        .printed(&format!("failed unit: {line}\n"))
        .printed("`#[scenario(allow(\"failed unit\"))]`")
        .printed("1 passed; 1 failed;");
}

#[test]
fn what_a_console_showed_before_a_power_cut_counts() {
    let code = crashing("#[scenario]", "starts_anew").replace(
        ".await.map(drop)\n",
        ".await?;\nmachine.crash().await;\nmachine.start().await?;\nmachine.power_off().await\n",
    );
    let folder = Folder::with("checks.rs", &code);
    FakeVm::new().write_to(folder.path());
    folder.run(&["--vm", "result", "checks.rs"]).ended_with(1).printed(&format!("] {CRASH}\n"));
}

/// What a kernel says as it boots, behind the time stamp.
const WARNING: &str = "WARNING: CPU: 0 PID: 1 at kernel/foo.c:12 foo+0x1/0x2";

#[test]
fn what_the_kernel_of_a_template_said_fails_the_scenario_that_it_was_made_for_and_no_other() {
    let scenario = |name| {
        format!(
            "#[scenario(from = booted)] async fn {name}(machine: Machine) -> Result {{ machine.crash().await; Ok(()) }}\n"
        )
    };
    let folder = Folder::with("checks.rs", &["one", "two", "three"].map(scenario).concat());
    // Where the line does not tear an escape sequence.
    folder.put(
        "words",
        format!("kernel-noise=bytes:10\nnoise-from=services\nnoise-limit=1\nnoise-text={WARNING}\n"),
    );
    let (words, fake) = (folder.path().join("words"), nixvm_fake_guest::binary());
    let script = format!(
        "#!/bin/sh\nexport FAKE_GUEST_FILE={}\nexec {} -m 64 -nographic -append \"console=ttyS0 $QEMU_KERNEL_PARAMS\" $QEMU_OPTS\n",
        words.display(),
        fake.display(),
    );
    std::fs::create_dir_all(folder.path().join("result/bin")).unwrap();
    nixvm_fake_guest::write_executable(folder.path().join("result/bin/run-nixos-vm"), script).unwrap();
    let arguments = ["--vm", "result", "--jobs", "1", "checks.rs"];
    let ran = folder.run(&arguments);
    ran.ended_with(1).printed("2 passed; 1 failed;").printed("kernel warning: [").printed(WARNING);
    assert_eq!(ran.err.matches("reported when the template was made").count(), 1, "{}", ran.err);
    // Nobody has to be told again, and one line says what was found then.
    let ran = folder.run(&arguments);
    ran.ended_with(0).printed("3 passed;");
    assert_eq!(ran.err.matches("reported when the template was made").count(), 1, "{}", ran.err);
}

#[test]
fn a_scenario_that_failed_says_why_and_not_what_else_is_wrong() {
    let code = crashing("#[scenario]", "fails").replace("'\")", "'; false\")");
    let folder = Folder::with("checks.rs", &code);
    FakeVm::new().write_to(folder.path());
    let ran = folder.run(&["--vm", "result", "checks.rs"]);
    ran.ended_with(1).printed("ended with status 1, expected 0");
    assert!(!ran.out.contains("the scenario passed"), "{}", ran.out);
}

#[test]
fn an_unknown_name_to_allow_is_refused_before_anything_boots_and_the_known_ones_are_named() {
    let folder = Folder::with(
        "checks.rs",
        "#[scenario(allow(\"segfualt\"))] async fn a(machine: Machine) { panic!(\"{} ran\", machine.name()) }",
    );
    FakeVm::new().write_to(folder.path());
    let ran = folder.run(&["--vm", "result", "checks.rs"]);
    ran.ended_with(2)
        .printed("there is no console check \"segfualt\" to allow")
        .printed("there are: kernel panic, kernel oops,")
        .printed("segfault, OOM kill,")
        .printed("scenario: a, checks.rs:2");
    assert!(!ran.err.contains("QEMU is process"), "{}", ran.err);
}
