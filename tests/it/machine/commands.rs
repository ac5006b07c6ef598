//! A command's output is exactly its own.

use super::Fake;
use nixvm_fake_guest::{FakeVm, Flavour};
use nixvm_test::ErrorKind;
use nixvm_test::machine::{Machine, Session, User};

/// Commands with what they print and their status.
const EXACT: [(&str, &str, i32); 16] = [
    ("true", "", 0),
    ("echo hello", "hello\n", 0),
    ("printf 'no newline'", "no newline", 0),
    ("printf '\\n\\n a \\n\\n'", "\n\n a \n\n", 0),
    ("printf 'a\\r\\nb\\rc\\n'", "a\r\nb\rc\n", 0),
    ("echo '[alice@nixos:~]$ '", "[alice@nixos:~]$ \n", 0),
    ("echo 'nixos login: '", "nixos login: \n", 0),
    ("echo 'Password: '; echo 'Login incorrect'", "Password: \nLogin incorrect\n", 0),
    ("printf '\\033_0123456789abcdef E 0 1.00\\033\\\\'", "\x1b_0123456789abcdef E 0 1.00\x1b\\", 0),
    ("printf '\\033[31mred\\033[0m'", "\x1b[31mred\x1b[0m", 0),
    ("echo '[    1.000000] not of this hour'", "[    1.000000] not of this hour\n", 0),
    ("sh -c 'echo out; echo err >&2; exit 3'", "out\nerr\n", 3),
    ("echo one\necho two\n(exit 4)", "one\ntwo\n", 4),
    ("cat <<X\n  tab\there\nX", "  tab\there\n", 0),
    ("if then", "-bash: syntax error near unexpected token `then'\n", 2),
    ("printf '\\x01\\x7f\\x03é\\t'  # ^A ^? ^C", "\x01\x7f\x03é\t", 0),
];

async fn all_are_exact(vm: FakeVm) {
    let fake = Fake::boot(vm).await;
    let alice = fake.alice().await;
    for (command, printed, status) in EXACT {
        let output = alice.execute(command).await.expect(command);
        assert_eq!(String::from_utf8_lossy(output.bytes()), printed, "{command}");
        assert_eq!(output.status(), status, "{command}");
    }
}

#[tokio::test]
async fn output_and_status_are_exact() {
    all_are_exact(FakeVm::new()).await;
}

#[tokio::test]
async fn output_is_exact_when_every_byte_comes_alone() {
    all_are_exact(FakeVm::new().chunk("1")).await;
}

#[tokio::test]
async fn output_is_exact_with_kernel_lines_in_the_middle_of_everything() {
    all_are_exact(FakeVm::new().kernel_noise("bytes:7").setting("noise-from", "login")).await;
}

#[tokio::test]
async fn output_is_exact_with_kernel_lines_that_name_their_caller() {
    let vm = FakeVm::new().kernel_noise("bytes:11").setting("caller-id", "yes").chunk("random");
    all_are_exact(vm.setting("noise-from", "login")).await;
}

/// Where the processor's counter is not stable, the kernel's clock can be seconds from the uptime.
#[tokio::test]
async fn output_is_exact_with_kernel_lines_by_a_clock_that_is_ten_seconds_ahead_of_the_uptime_or_behind_it() {
    for clock in ["10000", "-10000"] {
        let vm = FakeVm::new().kernel_noise("bytes:7").setting("noise-from", "login");
        let fake = Fake::boot(vm.setting("channel", "yes").setting("kernel-clock", clock)).await;
        let alice = fake.alice().await;
        // Opens the control channel, over which the clocks are compared.
        fake.machine.succeed("true").await.unwrap();
        for (command, printed, status) in EXACT {
            let output = alice.execute(command).await.expect(command);
            assert_eq!(String::from_utf8_lossy(output.bytes()), printed, "{clock} ms: {command}");
            assert_eq!(output.status(), status, "{command}");
        }
    }
}

#[tokio::test]
async fn output_is_exact_behind_the_newest_systemd() {
    all_are_exact(FakeVm::new().flavour(Flavour::Systemd258).chunk("random")).await;
}

#[tokio::test]
async fn ten_megabytes_come_whole() {
    let fake = Fake::boot(FakeVm::new()).await;
    let alice = fake.alice().await;
    let output = alice.succeed("yes 0123456789abcdef | head -c 10000000").await.unwrap();
    assert_eq!(output.bytes().len(), 10_000_000);
    assert_eq!(output.bytes(), &"0123456789abcdef\n".repeat(588_236).as_bytes()[..10_000_000]);
}

#[tokio::test]
async fn binary_output_and_long_lines_come_whole() {
    let fake = Fake::boot(FakeVm::new()).await;
    let alice = fake.alice().await;
    let all: Vec<u8> = (0..=255u8).collect();
    let octal: String = all.iter().map(|byte| format!("\\{byte:03o}")).collect();
    assert_eq!(alice.succeed(&format!("printf '{octal}'")).await.unwrap().bytes(), all);
    let line = alice.succeed("head -c 100000 /dev/zero | tr '\\0' x; echo").await.unwrap();
    assert_eq!(line.bytes(), [b"x".repeat(100_000), b"\n".to_vec()].concat());
}

#[tokio::test]
async fn a_command_of_twenty_kilobytes_arrives_as_it_is() {
    let fake = Fake::boot(FakeVm::new()).await;
    let alice = fake.alice().await;
    let text = "line é\twith 'no' \"end\" \\ \x01\n".repeat(800);
    let output = alice.succeed(&format!("cat <<'END'\n{text}END")).await.unwrap();
    assert_eq!(output.text(), text);
    let long = "y".repeat(20_000);
    assert_eq!(alice.succeed(&format!("printf %s {long} | wc -c")).await.unwrap().text().trim(), "20000");
}

#[tokio::test]
async fn what_a_command_leaves_behind_is_there_for_the_next() {
    let fake = Fake::boot(FakeVm::new()).await;
    let alice = fake.alice().await;
    alice.succeed("cd /usr && x=5 && alias hi='echo hello' && declare -A map=([a]=b)").await.unwrap();
    assert_eq!(
        alice.succeed("pwd; echo $x; hi; echo ${map[a]}").await.unwrap().text(),
        "/usr\n5\nhello\nb\n"
    );
    alice.fail("(exit 7)").await.unwrap();
    assert_eq!(alice.execute("echo $?").await.unwrap().text(), "7\n");
}

#[tokio::test]
async fn a_command_has_the_terminal_of_a_person() {
    let fake = Fake::boot(FakeVm::new()).await;
    let alice = fake.alice().await;
    alice.succeed("[ -t 0 ] && [ -t 1 ] && [ -t 2 ]").await.unwrap();
    let cow = alice.succeed("cowsay hello | lolcat").await.unwrap();
    assert!(cow.bytes().contains(&0x1b), "lolcat colours for a terminal");
    assert!(cow.text().contains("< hello >"), "{}", cow.text());
}

#[tokio::test]
async fn what_a_shell_can_do_to_itself_leaves_the_session_usable() {
    let fake = Fake::boot(FakeVm::new()).await;
    let alice = fake.alice().await;
    for command in
        ["exec >/dev/null", "set -u", "IFS=x", "alias printf=false read=false", "cat </dev/null", "TMOUT=1"]
    {
        alice.execute(command).await.expect(command);
    }
    alice.execute("exec >/dev/tty").await.unwrap();
    assert_eq!(alice.execute("echo still here").await.unwrap().text(), "still here\n");
}

#[tokio::test]
async fn sudo_is_answered_and_its_question_is_no_output() {
    for vm in [
        FakeVm::new(),
        FakeVm::new().kernel_noise("bytes:13").setting("noise-from", "login"),
        FakeVm::new().chunk("1"),
    ] {
        let fake = Fake::boot(vm).await;
        let alice = fake.alice().await;
        // The lecture comes with the first question.
        for _ in 0..2 {
            assert_eq!(
                alice.succeed("echo before; sudo echo as root").await.unwrap().text(),
                "before\nas root\n"
            );
        }
    }
}

#[tokio::test]
async fn a_failure_says_what_was_run_and_what_came() {
    let fake = Fake::boot(FakeVm::new()).await;
    let alice = fake.alice().await;
    let failed = alice.succeed("echo oh no; false").await.unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::CommandFailed);
    let text = failed.to_string();
    assert!(text.contains("`echo oh no; false` ended with status 1, expected 0"), "{text}");
    assert!(text.contains("| oh no"), "{text}");
    let missing = alice.succeed("no-such-command").await.unwrap_err().to_string();
    assert!(missing.contains("not on the user's PATH"), "{missing}");
    let succeeded = alice.fail("true").await.unwrap_err();
    assert_eq!(succeeded.kind(), ErrorKind::CommandSucceeded);
    assert_eq!(alice.execute("a\0b").await.unwrap_err().kind(), ErrorKind::Usage);
}

#[tokio::test]
async fn escape_codes_of_a_guest_do_not_reach_an_error() {
    let fake = Fake::boot(FakeVm::new()).await;
    let alice = fake.alice().await;
    let failed =
        alice.succeed("printf '\\033]0;title\\007\\033[2J\\033[31mred\\n'; false").await.unwrap_err();
    let text = failed.to_string();
    assert!(text.contains("red"), "{text}");
    assert!(!text.contains('\x1b') && !text.contains('\x07'), "{text:?}");
}

/// Compiled, and not called: each call is a future that nothing polls.
#[allow(dead_code, clippy::let_underscore_future)]
fn a_command_is_any_text_for_every_method(machine: &Machine, user: &User, session: &Session) {
    let (text, owned) = ("true", String::from("true"));
    macro_rules! each {
        ($($it:ident . $method:ident $(($more:expr))?;)*) => {$(
            let _ = $it.$method(text $(, $more)?);
            let _ = $it.$method(&text $(, $more)?);
            let _ = $it.$method(owned.clone() $(, $more)?);
            let _ = $it.$method(&owned $(, $more)?);
            let _ = $it.$method(format!("test -e {text}") $(, $more)?);
            let _ = $it.$method(&format!("test -e {text}") $(, $more)?);
            let _ = $it.$method(String::from_utf8_lossy(b"true") $(, $more)?);
            let _ = $it.$method(&String::from_utf8_lossy(b"true") $(, $more)?);
            let _ = $it.$method(owned.clone().into_boxed_str() $(, $more)?);
        )*};
    }
    each! {
        machine.execute;
        machine.succeed;
        machine.fail;
        machine.wait_until_succeeds;
        machine.wait_until_fails;
        machine.command;
        machine.systemctl;
        machine.send_monitor_command;
        machine.qmp(None);
        user.execute;
        user.succeed;
        user.fail;
        user.wait_until_succeeds;
        user.wait_until_fails;
        user.command;
        user.systemctl;
        session.execute;
        session.succeed;
        session.fail;
    }
    let _ = machine.succeed([text, "false"]);
    let _ = user.fail(vec![owned]);
}
