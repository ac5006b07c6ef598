//! The console against every line of what a NixOS serial console says, spoken by the fake guest byte for byte.

use nixvm_fake_guest::{FakeLine, FakeVm, Flavour};
use nixvm_test::ErrorKind;
use nixvm_test::console::{Console, ConsoleOptions, Pattern, Watch};
use tokio::net::UnixStream;

use crate::hang::HANG as LIMIT;

const ALICE: &str = "\n[alice@nixos:~]$ ";

fn attach(vm: &FakeVm) -> (FakeLine, Console) {
    let mut line = vm.start();
    let stream = line.take_console();
    stream.set_nonblocking(true).unwrap();
    let console = Console::attach(UnixStream::from_std(stream).unwrap(), ConsoleOptions::default()).unwrap();
    (line, console)
}

async fn logged_in(vm: &FakeVm) -> (FakeLine, Console) {
    let (line, console) = attach(vm);
    console.expect("nixos login: ", LIMIT).await.unwrap();
    console.set_watch(Watch::Session);
    console.send_line("alice").await.unwrap();
    console.expect("Password: ", LIMIT).await.unwrap();
    console.send_secret("test").await.unwrap();
    console.expect(ALICE, LIMIT).await.unwrap();
    (line, console)
}

#[tokio::test]
async fn the_reset_of_the_terminal_is_not_text() {
    let (_line, console) = attach(&FakeVm::new());
    let found = console.expect("nixos login: ", LIMIT).await.unwrap();
    let before = found.before();
    assert!(before.contains("starting systemd...\n["), "the reset stood between the two: {before}");
    assert!(!before.contains('\x1b') && !before.contains('\r'), "{before:?}");
}

#[tokio::test]
async fn questions_of_a_newer_systemd_are_answered_and_cost_nothing() {
    for flavour in [Flavour::Systemd257, Flavour::Systemd258] {
        let (line, console) = attach(&FakeVm::new().flavour(flavour).setting("query-wait", "300s"));
        console.expect("nixos login: ", LIMIT).await.unwrap();
        assert!(line.report().contains("ESC[18t answered"), "{}", line.report());
        assert!(!line.report().contains("unanswered"), "{}", line.report());
    }
}

#[tokio::test]
async fn the_greeting_reads_as_a_person_sees_it() {
    let (_line, console) = attach(&FakeVm::new());
    let greeting = "\n\n<<< Welcome to NixOS 23.11.7870.205fd4226592 (x86_64) - ttyS0 >>>\n\n\
                    Run 'nixos-help' for the NixOS manual.\n\nnixos login: ";
    console.expect(greeting, LIMIT).await.unwrap();
}

#[tokio::test]
async fn the_password_question_has_no_newline_and_is_found_at_once() {
    let (_line, console) = attach(&FakeVm::new());
    console.expect("login: ", LIMIT).await.unwrap();
    console.send_line("alice").await.unwrap();
    let found = console.expect("Password: ", LIMIT).await.unwrap();
    assert_eq!(found.before(), "alice\n", "the name as agetty echoes it");
}

#[tokio::test]
async fn a_wrong_password_is_one_of_the_answers() {
    let (_line, console) = attach(&FakeVm::new());
    console.expect("login: ", LIMIT).await.unwrap();
    console.send_line("alice").await.unwrap();
    console.expect("Password: ", LIMIT).await.unwrap();
    console.send_secret("wrong").await.unwrap();
    let answers = [Pattern::from(ALICE), Pattern::from("Login incorrect\n")];
    assert_eq!(console.expect_any(&answers, LIMIT).await.unwrap().0, 1);
    assert_eq!(console.expect("nixos login: ", LIMIT).await.unwrap().before(), "", "without the greeting");
}

#[tokio::test]
async fn the_visible_prompt_matches_whatever_stands_inside_it() {
    for flavour in [Flavour::Systemd254, Flavour::Systemd258] {
        for chunk in ["all", "1", "random"] {
            let (_line, console) = logged_in(&FakeVm::new().flavour(flavour).chunk(chunk)).await;
            console.send_line("").await.unwrap();
            let prompt = Pattern::regex(r"(?m)^\[(\w+)@(\w+):([^\]]*)\]([#$]) $").unwrap();
            let found = console.expect(prompt, LIMIT).await.unwrap();
            let groups: Vec<_> = (1..=4).map(|group| found.group(group).unwrap().into_owned()).collect();
            assert_eq!(groups, ["alice", "nixos", "~", "$"]);
            let raw = String::from_utf8_lossy(found.raw()).into_owned();
            assert!(raw.contains("[\x1b]0;alice@nixos: ~\x07alice@nixos:~]$\x1b[0m "), "{raw:?}");
        }
    }
}

#[tokio::test]
async fn roots_prompt_ends_with_a_hash() {
    let (_line, console) = attach(&FakeVm::new().user("root", ""));
    console.expect("login: ", LIMIT).await.unwrap();
    console.send_line("root").await.unwrap();
    console.expect("\n[root@nixos:~]# ", LIMIT).await.unwrap();
}

#[tokio::test]
async fn a_commands_echo_output_and_prompt_read_as_on_a_screen() {
    let (_line, console) = logged_in(&FakeVm::new()).await;
    console.send_line("echo hi; printf no-newline").await.unwrap();
    let found = console.expect("[alice@nixos:~]$ ", LIMIT).await.unwrap();
    // bash prints a carriage return before its prompt, which begins a line for whoever reads.
    assert_eq!(found.before().trim_end(), "echo hi; printf no-newline\nhi\nno-newline");
}

#[tokio::test]
async fn hello_is_found_though_lolcat_colours_each_letter() {
    let (_line, console) = logged_in(&FakeVm::new().chunk("1")).await;
    console.send_line("cowsay hello | lolcat").await.unwrap();
    console.expect("\n< hello >\n", LIMIT).await.unwrap();
}

#[tokio::test]
async fn the_marks_of_systemd_258_sessions_are_not_text() {
    let (_line, console) = logged_in(&FakeVm::new().flavour(Flavour::Systemd258)).await;
    console.send_line("sudo true").await.unwrap();
    console.expect("[sudo] password for alice: ", LIMIT).await.unwrap();
    console.send_secret("test").await.unwrap();
    let found = console.expect(ALICE, LIMIT).await.unwrap();
    assert_eq!(found.before().trim(), "");
    console.send_line("exit").await.unwrap();
    let left = console.expect("nixos login: ", LIMIT).await.unwrap();
    assert!(!left.before().contains("3008"), "{:?}", left.before());
}

#[tokio::test]
async fn sudo_is_answered_after_its_question() {
    let (_line, console) = logged_in(&FakeVm::new()).await;
    console.send_line("sudo id -un").await.unwrap();
    let lecture = console.expect("[sudo] password for alice: ", LIMIT).await.unwrap();
    assert!(lecture.before().contains("We trust you have received the usual lecture"));
    console.send_secret("wrong").await.unwrap();
    console.expect("Sorry, try again.\n[sudo] password for alice: ", LIMIT).await.unwrap();
    console.send_secret("test").await.unwrap();
    console.expect("\nroot\n", LIMIT).await.unwrap();
    assert!(!console.tail(100).contains("test\n"), "{}", console.tail(100));
}

#[tokio::test]
async fn after_the_kernels_last_line_the_line_is_gone() {
    let (mut line, console) = logged_in(&FakeVm::new().setting("sudo", "free")).await;
    console.send_line("sudo poweroff").await.unwrap();
    console.expect("systemd-shutdown[1]: Powering off.\n", LIMIT).await.unwrap();
    console.expect("reboot: Power down\n", LIMIT).await.unwrap();
    assert_eq!(line.wait().unwrap().code(), Some(0));
    let error = console.expect("anything", LIMIT).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::QemuGone);
}

#[tokio::test]
async fn a_broken_boot_fails_the_wait_at_once_and_by_name() {
    for (vm, kind) in [
        (FakeVm::new().setting("boot", "emergency"), ErrorKind::EmergencyMode),
        (FakeVm::new().setting("boot", "root-locked"), ErrorKind::EmergencyMode),
        (FakeVm::new().setting("panic", "kernel"), ErrorKind::KernelPanic),
        (FakeVm::new().setting("panic", "services").setting("caller-id", "yes"), ErrorKind::KernelPanic),
        (FakeVm::new().setting("die", "services"), ErrorKind::QemuGone),
    ] {
        for chunk in ["all", "1"] {
            let (_line, console) = attach(&vm.clone().chunk(chunk));
            let error = console.expect("nixos login: ", LIMIT).await.unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
        }
    }
}

#[tokio::test]
async fn a_panic_while_somebody_waits_for_a_command_is_named() {
    let (_line, console) = logged_in(&FakeVm::new()).await;
    console.send_line("fake panic").await.unwrap();
    let error = console.expect(ALICE, LIMIT).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::KernelPanic, "{error}");
}

#[tokio::test]
async fn what_only_talks_about_a_panic_is_none() {
    let (_line, console) = logged_in(&FakeVm::new()).await;
    console.send_line("echo Kernel panic - not syncing: no; sleep 0.1; echo on").await.unwrap();
    console.expect("\non\n", LIMIT).await.unwrap();
}

#[tokio::test]
async fn a_torn_and_slow_line_says_the_same() {
    let vm = FakeVm::new().chunk("1").setting("delay", "20us").flavour(Flavour::Systemd258);
    let (_line, console) = logged_in(&vm).await;
    console.send_line("printf 'λ→%s\\n' ünïcode").await.unwrap();
    console.expect("\nλ→ünïcode\n", LIMIT).await.unwrap();
}
