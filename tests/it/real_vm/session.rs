//! A session on the console, and code of another kind on it.

use std::time::Duration;

use nixvm_test::ErrorKind;
use nixvm_test::machine::Session;

use super::at_the_login_prompt;
use crate::hang::HANG;

/// Commands with what they print; the kernel speaks in the middle of some.
const EXACT: [(&str, &str); 9] = [
    ("printf 'no newline'", "no newline"),
    ("printf 'a\\r\\nb\\n\\n'", "a\r\nb\n\n"),
    ("echo '[alice@nixos:~]$ '; echo 'nixos login: '", "[alice@nixos:~]$ \nnixos login: \n"),
    ("printf '\\033[31mred\\033[0m'", "\x1b[31mred\x1b[0m"),
    ("printf ab; echo '<1>in the middle' | sudo tee /dev/kmsg >/dev/null; printf 'cd\\n'", "abcd\n"),
    ("sudo sh -c 'echo \"<1>and again\" >/dev/kmsg; dmesg | grep -c \"and again\"'", "1\n"),
    ("cd /tmp\nfor i in 1 2 3\ndo echo $i\ndone", "1\n2\n3\n"),
    ("pwd", "/tmp\n"),
    ("tty; [ -t 1 ] && echo a terminal", "/dev/ttyS0\na terminal\n"),
];

async fn commands_are_exact(alice: &Session) {
    for (command, printed) in EXACT {
        let output = alice.execute(command).await.expect(command);
        assert_eq!(String::from_utf8_lossy(output.bytes()), printed, "{command}");
    }
    // Three times what the console's window holds.
    let flood = alice.succeed("yes 0123456789abcdef | head -c 3000000").await.unwrap();
    assert_eq!(flood.bytes().len(), 3_000_000);
    assert!(flood.bytes().chunks(17).all(|line| b"0123456789abcdef\n".starts_with(line)));
    let long = "line with \ttabs, 'quotes' and é\n".repeat(700);
    assert_eq!(alice.succeed(&format!("cat <<'END'\n{long}END")).await.unwrap().text(), long);
}

#[tokio::test]
async fn a_real_console_lets_alice_work_and_a_panic_is_named() {
    let machine = at_the_login_prompt().await;
    let refused = machine.login("alice", "not it").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::LoginRefused, "{refused}");

    let alice = machine.login("alice", "test").await.unwrap();
    commands_are_exact(&alice).await;

    // Until the command begins before its limit.
    let mut limit = Duration::from_millis(200);
    loop {
        let endless = alice.within(limit).execute("echo begun; sleep 1000").await.unwrap_err();
        assert_eq!(endless.kind(), ErrorKind::CommandTimeout, "{endless}");
        if endless.to_string().contains("begun") {
            break;
        }
        assert!(limit < HANG, "{endless}");
        limit *= 4;
    }
    assert_eq!(alice.succeed("echo still here").await.unwrap().text(), "still here\n");

    alice.log_out().await.unwrap();
    let alice = machine.login("alice", "test").await.unwrap();
    let panic = alice.execute("sudo sh -c 'echo c > /proc/sysrq-trigger'").await.unwrap_err();
    assert_eq!(panic.kind(), ErrorKind::KernelPanic, "{panic}");
    assert!(panic.to_string().contains("sysrq"), "{panic}");
}

#[tokio::test]
async fn a_real_qemu_that_is_killed_in_mid_command_is_named_at_once() {
    let machine = at_the_login_prompt().await;
    let alice = machine.login("alice", "test").await.unwrap();
    let pid = machine.qemu().pid();
    let killer = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let kill = tokio::process::Command::new("kill").args(["-KILL", &pid.to_string()]).status().await;
        assert!(kill.unwrap().success());
    };
    let (result, ()) = tokio::join!(alice.execute("sleep 1000"), killer);
    let gone = result.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::QemuGone, "{gone}");
    assert!(gone.to_string().contains("SIGKILL"), "{gone}");
    assert_eq!(machine.power_off().await.unwrap_err().kind(), ErrorKind::QemuGone);
}

/// Code that was written for expectrl logs in on the same console.
#[cfg(feature = "expectrl")]
#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_expectrl_works_on_the_real_console() {
    use expectrl::{Expect, Regex};

    let machine = at_the_login_prompt().await;
    let console = machine.console().clone();
    let text = tokio::task::spawn_blocking({
        let runtime = tokio::runtime::Handle::current();
        move || {
            let _runtime = runtime.enter();
            let mut session = console.into_expectrl().unwrap();
            session.set_expect_timeout(Some(Duration::from_secs(60)));
            session.send("alice\r").unwrap();
            session.expect("Password: ").unwrap();
            session.send("test\r").unwrap();
            session.expect(Regex(r"alice@nixos:~\]\$")).unwrap();
            session.send("echo $((20 + 3))\r").unwrap();
            let found = session.expect(Regex(r"\r\n(?:\x1b\[\?2004l\r)?23\r\n")).unwrap();
            String::from_utf8_lossy(found.as_bytes()).into_owned()
        }
    });
    assert!(text.await.unwrap().contains("23"));
    machine.stop().await;
}
