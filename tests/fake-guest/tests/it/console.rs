//! What stands in the table of the console's bytes, line by line. Measured on agetty 2.38.1 and bash 5.2.15; read in systemd's
//! and util-linux's sources.

use std::time::{Duration, Instant};

use nixvm_fake_guest::{FakeVm, Flavour};

use crate::support::{ALICE, LOGIN, ROOT, logged_in, start};

const RESET: &str = "\x1b[!p\x1b]104\x07\x1b[?7h";

#[test]
fn systemd_resets_the_terminal_before_it_is_used() {
    let (_line, mut typist) = start(&FakeVm::new());
    let boot = typist.until(LOGIN);
    assert_eq!(boot.matches(RESET).count(), 2, "once for the console, once for getty: {boot:?}");
    assert!(!boot.contains("\x1b[18t") && !boot.contains("\x1b[6n"), "systemd 254 asks nothing");
}

#[test]
fn a_dumb_terminal_gets_no_reset_and_no_question() {
    let vm = FakeVm::new().flavour(Flavour::Systemd258).kernel_params("TERM=dumb");
    let (_line, mut typist) = start(&vm);
    let boot = typist.until(LOGIN);
    assert!(!boot.contains("\x1b[!p") && !boot.contains("\x1b[18t") && !boot.contains("\x1bP"), "{boot:?}");
}

#[test]
fn systemd_257_asks_for_the_size_and_waits_in_vain() {
    let vm = FakeVm::new().flavour(Flavour::Systemd257).setting("query-wait", "40ms");
    let begin = Instant::now();
    let (line, mut typist) = start(&vm);
    let boot = typist.until(LOGIN);
    assert!(boot.contains("\x1b[18t\x1b[32766;32766H\x1b[6n"), "{boot:?}");
    assert!(!boot.contains("\x1bP+q"), "only 258 asks for the name");
    assert!(begin.elapsed() >= Duration::from_millis(4 * 40), "two questions at boot, two before getty");
    assert_eq!(line.report().matches("unanswered").count(), 4, "{}", line.report());
}

#[test]
fn systemd_258_takes_333_ms_for_an_unanswered_question() {
    let begin = Instant::now();
    let (line, mut typist) = start(&FakeVm::new().flavour(Flavour::Systemd258));
    typist.until("\x1bP+q544e\x1b\\");
    assert!(begin.elapsed() >= Duration::from_millis(2 * 333 - 50));
    let report = line.report();
    let took = report.strip_prefix("ESC[18t unanswered after ").and_then(|rest| rest.split(' ').next());
    assert!(took.is_some_and(|ms| ms.parse::<u32>().unwrap() >= 333), "{report}");
}

#[test]
fn an_answered_question_costs_nothing_and_sets_the_size() {
    let vm = FakeVm::new().flavour(Flavour::Systemd258).setting("query-wait", "300s").setting("user", "bob:");
    let (line, mut typist) = start(&vm);
    for _ in 0..2 {
        typist.until("\x1b[18t");
        typist.keys("\x1b[8;50;132t");
        typist.until("\x1bP+q544e\x1b\\");
        typist.keys("\x1bP1+r544e=7674323230\x1b\\");
    }
    typist.until(LOGIN);
    assert_eq!(line.report().matches(" answered").count(), 4, "{}", line.report());
    typist.keys("bob\rstty size\r");
    typist.until("50 132\r\n");
}

#[test]
fn the_kernel_line_can_answer_beforehand() {
    let vm = FakeVm::new()
        .flavour(Flavour::Systemd258)
        .kernel_params("TERM=linux systemd.tty.rows.console=24 systemd.tty.columns.console=80");
    let (line, mut typist) = start(&vm);
    let boot = typist.until(LOGIN);
    assert!(boot.contains(RESET) && !boot.contains("\x1b[18t"), "{boot:?}");
    assert_eq!(line.report(), "");
}

#[test]
fn the_greeting_is_what_agetty_prints_on_a_serial_line() {
    let (_line, mut typist) = start(&FakeVm::new());
    let boot = typist.until(LOGIN);
    let greeting = "\r\r\n\r\n<<< Welcome to NixOS 23.11.7870.205fd4226592 (x86_64) - ttyS0 >>>\r\n\r\n\
                    Run 'nixos-help' for the NixOS manual.\r\n\r\nnixos login: ";
    assert!(boot.ends_with(greeting), "{boot:?}");
}

#[test]
fn the_kernels_lines_have_time_stamps_and_end_with_a_carriage_return() {
    let (_line, mut typist) = start(&FakeVm::new());
    let boot = typist.until(LOGIN);
    assert!(boot.starts_with("\x1bc\x1b[?7l\x1b[2J\x1b[0mSeaBIOS (version "), "{boot:?}");
    assert!(boot.contains("\r\n[    0.000000] Linux version 6.1.63 "), "{boot:?}");
    assert!(boot.contains("\r\n[    1.000733] Run /init as init process\r\n"), "{boot:?}");
}

#[test]
fn what_is_typed_before_the_prompt_is_lost() {
    let (_line, mut typist) = start(&FakeVm::new());
    // Before it has said a word.
    typist.keys("alice\r");
    typist.until(LOGIN);
    assert_eq!(typist.within(Duration::from_millis(200)), "");
    typist.keys("alice\r");
    typist.until("Password: ");
}

#[test]
fn the_name_is_echoed_and_the_password_is_not() {
    let (_line, mut typist) = start(&FakeVm::new());
    typist.until(LOGIN);
    typist.keys("alice\r");
    assert_eq!(typist.until("Password: "), "alice\r\nPassword: ");
    typist.keys("test\r");
    assert_eq!(typist.until(ALICE), format!("\r\n{ALICE}"));
}

#[test]
fn an_account_without_a_password_is_not_asked() {
    let (_line, mut typist) = start(&FakeVm::new().user("alice", ""));
    typist.until(LOGIN);
    typist.keys("alice\r");
    assert_eq!(typist.until(ALICE), format!("alice\r\n{ALICE}"));
}

#[test]
fn a_wrong_password_asks_again_without_the_greeting() {
    let begin = Instant::now();
    let (_line, mut typist) = start(&FakeVm::new().setting("login-delay", "60ms"));
    typist.until(LOGIN);
    typist.keys("alice\r");
    typist.until("Password: ");
    typist.keys("wrong\r");
    assert_eq!(typist.until(LOGIN), "\r\n\r\nLogin incorrect\r\nnixos login: ");
    assert!(begin.elapsed() >= Duration::from_millis(60));
    typist.keys("alice\r");
    assert_eq!(typist.until("Password: "), "alice\r\nPassword: ");
    typist.keys("test\r");
    typist.until(ALICE);
}

#[test]
fn after_five_tries_the_greeting_comes_again() {
    let (_line, mut typist) = start(&FakeVm::new().setting("login-delay", "1ms"));
    for _ in 0..5 {
        typist.until(LOGIN);
        typist.keys("mallory\r");
        typist.until("Password: ");
        typist.keys("guess\r");
    }
    assert!(
        typist.until(LOGIN).contains("Login incorrect\r\n\x1b[!p\x1b]104\x07\x1b[?7h\r\r\n\r\n<<< Welcome")
    );
}

#[test]
fn a_login_that_takes_too_long_is_ended() {
    let (_line, mut typist) = start(&FakeVm::new().setting("login-timeout", "1s"));
    typist.until(LOGIN);
    typist.keys("alice\r");
    typist.until("\r\nLogin timed out after 1 seconds.\r\n");
    typist.until("<<< Welcome");
}

#[test]
fn roots_prompt_is_red_and_ends_with_a_hash() {
    let (_line, mut typist) = start(&FakeVm::new().user("root", "toor"));
    typist.until(LOGIN);
    typist.keys("root\r");
    typist.until("Password: ");
    typist.keys("toor\r");
    assert_eq!(typist.until(ROOT), format!("\r\n{ROOT}"));
}

#[test]
fn root_without_a_password_in_the_configuration_cannot_log_in() {
    let (_line, mut typist) = start(&FakeVm::new());
    typist.until(LOGIN);
    typist.keys("root\r");
    typist.until("Password: ");
    typist.keys("\r");
    typist.until("Login incorrect");
}

#[test]
fn a_typed_command_is_echo_end_of_paste_mode_output_and_prompt() {
    let (_line, mut typist) = logged_in(&FakeVm::new());
    typist.keys("echo hi\r");
    assert_eq!(typist.until(ALICE), format!("echo hi\r\n\x1b[?2004l\rhi\r\n{ALICE}"));
}

#[test]
fn a_dumb_session_has_no_escapes() {
    let (_line, mut typist) = start(&FakeVm::new().setting("term", "dumb").user("alice", ""));
    typist.until(LOGIN);
    typist.keys("alice\r");
    let text = typist.until("$ ");
    assert!(!text.contains('\x1b'), "{text:?}");
}

#[test]
fn long_input_is_wrapped_at_80_columns() {
    let (_line, mut typist) = logged_in(&FakeVm::new());
    // 17 columns of prompt and 63 of these: readline goes to the next line by a space and a carriage return.
    typist.keys(&format!("echo {}", "x".repeat(58)));
    typist.until("x \r");
}

#[test]
fn systemd_258_marks_the_session_and_sudo() {
    let vm = FakeVm::new().flavour(Flavour::Systemd258).setting("query-wait", "1ms");
    let (_line, mut typist) = start(&vm);
    typist.until(LOGIN);
    typist.keys("alice\r");
    typist.until("Password: ");
    typist.keys("test\r");
    let begin = typist.until(ALICE);
    assert!(begin.starts_with("\r\n\x1b]3008;start="), "{begin:?}");
    assert!(begin.contains(";user=alice;hostname=nixos;"), "{begin:?}");
    assert!(begin.ends_with(&format!("type=session\x1b\\{ALICE}")), "{begin:?}");
    typist.keys("sudo true\r");
    typist.until("for alice: ");
    typist.keys("test\r");
    let sudo = typist.until(ALICE);
    assert!(sudo.contains("\x1b]3008;start=") && sudo.contains("\x1b]3008;end="), "{sudo:?}");
    typist.keys("exit\r");
    assert!(typist.until(LOGIN).contains("\x1b]3008;end="));
}

#[test]
fn sudo_lectures_once_and_asks_on_the_terminal() {
    let (_line, mut typist) = logged_in(&FakeVm::new());
    typist.keys("sudo id -u\r");
    typist.until("\x1b[?2004l\r");
    let first = typist.until("[sudo] password for alice: ");
    assert!(first.starts_with("\r\nWe trust you have received the usual lecture"), "{first:?}");
    typist.keys("wrong\r");
    assert_eq!(
        typist.until("alice: "),
        "\r\nSorry, try again.\r\n[sudo] password for alice: ",
        "the password itself is not echoed"
    );
    typist.keys("test\r");
    assert_eq!(typist.until(ALICE), format!("\r\n0\r\n{ALICE}"));
    assert_eq!(typist.run("sudo whoami"), "root\r\n", "sudo remembers");
    typist.keys("sudo -k; sudo true\r");
    typist.until("\x1b[?2004l\r");
    assert_eq!(typist.until("alice: "), "[sudo] password for alice: ", "the lecture came before");
}

#[test]
fn sudo_gives_up_after_three_tries() {
    let (_line, mut typist) = logged_in(&FakeVm::new().setting("login-delay", "1ms"));
    typist.keys("sudo true; echo status $?\r");
    for _ in 0..3 {
        typist.until("password for alice: ");
        typist.keys("wrong\r");
    }
    assert_eq!(typist.until("status 1"), "\r\nsudo: 3 incorrect password attempts\r\nstatus 1");
}

#[test]
fn sudo_throws_away_what_was_typed_before_its_question() {
    let (_line, mut typist) = logged_in(&FakeVm::new());
    let go = tempfile::tempdir().unwrap();
    let file = go.path().join("go");
    typist.keys(&format!("echo begun; until [ -e {} ]; do sleep 0.01; done; sudo true\r", file.display()));
    typist.until("begun\r\n");
    typist.keys("test\r");
    // The terminal has it.
    typist.until("test\r\n");
    std::fs::write(file, "").unwrap();
    typist.until("password for alice: ");
    assert_eq!(typist.within(Duration::from_millis(200)), "", "still waiting");
}

#[test]
fn powering_off_ends_with_the_kernels_last_line_and_status_0() {
    let (mut line, mut typist) = logged_in(&FakeVm::new().setting("sudo", "free"));
    typist.keys("sudo poweroff\r");
    let end = typist.until("reboot: Power down\r\n");
    assert!(end.contains("systemd-shutdown[1]: Powering off.\r\n["), "{end:?}");
    assert_eq!(line.wait().unwrap().code(), Some(0));
}

#[test]
fn poweroff_without_sudo_is_refused() {
    let (_line, mut typist) = logged_in(&FakeVm::new());
    assert_eq!(
        typist.run("poweroff; echo $?"),
        "Call to PowerOff failed: Interactive authentication required.\r\n1\r\n"
    );
}

#[test]
fn emergency_mode_asks_for_roots_password() {
    let (_line, mut typist) = start(&FakeVm::new().setting("boot", "emergency"));
    typist.until("You are in emergency mode. ");
    typist.until("Give root password for maintenance\r\n(or press Control-D to continue): ");
}

#[test]
fn emergency_mode_with_a_locked_root_says_so() {
    let (_line, mut typist) = start(&FakeVm::new().setting("boot", "root-locked"));
    typist.until("Cannot open access to console, the root account is locked.\r\n");
}

#[test]
fn leaving_the_shell_brings_the_login_prompt_back() {
    let (_line, mut typist) = logged_in(&FakeVm::new());
    typist.keys("exit\r");
    let after = typist.until(LOGIN);
    assert!(after.contains("logout\r\n\x1b[!p\x1b]104\x07\x1b[?7h\r\r\n\r\n<<< Welcome"), "{after:?}");
    typist.keys("alice\r");
    typist.until("Password: ");
}
