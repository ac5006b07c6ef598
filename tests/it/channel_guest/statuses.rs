//! How commands end.

use crate::channel_guest::each_way;
use crate::channel_guest::guest::{Guest, Way};

/// A command, the lines of its R frame, its status, its output.
const TABLE: &[(&str, &str, i32, &str)] = &[
    ("true", "", 0, ""),
    ("true", "", 0, ""),
    ("false", "", 1, ""),
    ("", "", 0, ""),
    ("# nothing", "", 0, ""),
    ("exit 3", "", 3, ""),
    ("exit 255", "", 255, ""),
    ("(exit 4)", "", 4, ""),
    ("echo a; false; echo b", "", 1, "a\n"),
    ("false || echo b", "", 0, "b\n"),
    ("false | true", "", 1, ""),
    ("echo $nothing", "", 1, ""),
    ("set +e; false; echo on", "", 0, "on\n"),
    ("nosuchprogram", "", 127, ""),
    ("nosuchprogram", "", 127, ""),
    ("/etc/passwd", "", 126, ""),
    ("kill -9 $$", "", 137, ""),
    ("kill -TERM $BASHPID", "", 143, ""),
    ("sh -c 'kill -9 $$'", "", 137, ""),
    ("trap 'echo bye' EXIT; echo hi; exit 2", "", 2, "hi\nbye\n"),
    ("f() { return 7; }; f", "", 7, ""),
    ("if true; then\n  echo 'two\nlines'\nfi", "", 0, "two\nlines\n"),
    ("cat <<END\nhere\nEND", "", 0, "here\n"),
    ("cat", "", 0, ""),
    ("echo a  b", "", 0, "a b\n"),
    ("printf %s-%s a b", "", 0, "a-b"),
    ("env true", "", 0, ""),
    ("env false", "", 1, ""),
    ("test 1 -eq 2", "", 1, ""),
    ("echo \"$0\"", "shell user\n", 0, ""),
    ("exit 5", "shell user\n", 5, ""),
    ("echo 'žluťoučký 日本 \u{1f980}'", "", 0, "žluťoučký 日本 \u{1f980}\n"),
    ("echo $((1 + 1)) `echo x` \\\\ \"\\$\"", "", 0, "2 x \\ $\n"),
    ("break; echo after", "", 0, "after\n"),
];

each_way! {
    fn statuses(guest: Guest) {
        for &(text, options, status, stdout) in TABLE {
            let outcome = guest.run_with(text, options);
            assert_eq!(outcome.status, Some(status), "{text}: {outcome:?}");
            if !text.contains("$0") {
                assert_eq!(outcome.text(), stdout, "{text}");
            }
        }
    }

    fn syntax_errors_and_what_bash_says(guest: Guest) {
        let outcome = guest.run("echo (");
        assert!(outcome.status.is_some_and(|status| status != 0), "{outcome:?}");
        assert!(String::from_utf8_lossy(&outcome.stderr).contains("syntax error"), "{outcome:?}");
        // The line is that of the command, not of ours.
        let outcome = guest.run("true\n\nnosuchprogram");
        let said = String::from_utf8_lossy(&outcome.stderr).into_owned();
        assert!(said.ends_with("bash: line 3: nosuchprogram: command not found\n"), "{said}");
    }

    fn a_signal_of_its_own_shell(guest: Guest) {
        for _ in 0..3 {
            assert_eq!(guest.run("kill -TERM $$; sleep 1000").status, Some(143));
            assert_eq!(guest.run("echo $$; exec sh -c 'echo $$'").text().lines().collect::<std::collections::HashSet<_>>().len(), 1);
        }
        assert_eq!(guest.run("echo still").text(), "still\n");
    }

    fn long_texts(guest: Guest) {
        let long = "x".repeat(300_000);
        let outcome = guest.run(&format!("cat <<'END' | wc -c\n{long}\nEND"));
        assert_eq!(outcome.text().trim(), "300001", "{:?}", outcome.stderr);
        // Cut into frames within characters.
        let long = "é日".repeat(70_000);
        let outcome = guest.run(&format!("cat <<'END'\n{long}\nEND"));
        assert!(outcome.text().trim_end() == long);
    }

    fn a_text_too_long_for_the_users_shell_is_refused(guest: Guest) {
        let outcome = guest.run_with(&format!("echo {}", "x".repeat(200_000)), "shell user\n");
        assert_eq!(outcome.status, None);
        assert!(outcome.refused.contains("131071"), "{outcome:?}");
        assert_eq!(guest.run("echo next").text(), "next\n");
    }
}

#[test]
fn a_nul_is_refused() {
    let mut guest = Guest::start(Way::Helper);
    let outcome = guest.run("echo a\0b");
    assert_eq!((outcome.status, outcome.refused.contains("NUL")), (None, true));
}

#[test]
fn where_bash_cannot_be_started_each_command_says_so() {
    let mut command = std::process::Command::new(env!("NIXVM_GUEST_HELPER"));
    command.args(["serve", "-", "/nonexistent/bash", "x"]);
    let mut guest = Guest::spawn(Way::Helper, command);
    guest.skip_to_hello();
    for _ in 0..3 {
        let outcome = guest.run("true");
        assert_eq!(outcome.status, None);
        // ENOENT
        assert_eq!(outcome.refused, "/nonexistent/bash could not be started (error 2)");
    }
    guest.ping();
}

/// However few there are: a command has its own standard output and error, or it is refused.
#[test]
fn where_descriptors_are_few_a_command_runs_as_ever_or_is_refused_with_the_reason() {
    let mut refused = 0;
    for most in 6..32 {
        let mut command = std::process::Command::new("sh");
        let script = format!("ulimit -n {most}; exec \"$0\" serve - \"$1\" x");
        command.args(["-c", &script, env!("NIXVM_GUEST_HELPER"), crate::channel_guest::guest::bash()]);
        let mut guest = Guest::spawn(Way::Helper, command);
        guest.skip_to_hello();
        for _ in 0..3 {
            let outcome = guest.run("printf out; nosuchprogram");
            if outcome.status.is_none() {
                refused += 1;
                // EMFILE
                assert!(outcome.refused.ends_with("(error 24)"), "{most}: {outcome:?}");
            } else {
                assert_eq!((outcome.status, outcome.text()), (Some(127), "out"), "{most}: {outcome:?}");
                assert!(outcome.stderr.ends_with(b"command not found\n"), "{most}: {outcome:?}");
            }
        }
        guest.ping();
    }
    assert!(refused > 0, "there were never too few");
}

#[test]
fn the_port_may_be_any_descriptor() {
    let mut command = std::process::Command::new("sh");
    let script = r#"exec 3<&0 </dev/null >/dev/null; printf '\nhere\n' >&3; exec "$0" serve 3 "$1""#;
    command.args(["-c", script, env!("NIXVM_GUEST_HELPER"), crate::channel_guest::guest::bash()]);
    let mut guest = Guest::spawn(Way::Helper, command);
    guest.skip_to_hello();
    assert_eq!(guest.run("echo one; ls /proc/self/fd | tr '\\n' ' '").text(), "one\n0 1 2 3 ");
}

#[test]
fn it_says_that_it_could_not_begin() {
    let begin = |arguments: &[&str]| {
        std::process::Command::new(env!("NIXVM_GUEST_HELPER")).args(arguments).status().unwrap().code()
    };
    assert_eq!(begin(&["nonsense"]), Some(64));
    if !std::path::Path::new("/run/systemd/private").exists() {
        assert_eq!(begin(&["begin", "/run/nixvm-1", "/dev/null"]), Some(1));
    }
}

/// Serves with a bell; what waits for it.
fn with_bell(name: &str) -> (Guest, std::os::unix::net::UnixDatagram) {
    use std::os::linux::net::SocketAddrExt as _;
    let address = std::os::unix::net::SocketAddr::from_abstract_name(name).unwrap();
    let bell = std::os::unix::net::UnixDatagram::bind_addr(&address).unwrap();
    bell.set_read_timeout(Some(crate::hang::HANG)).unwrap();
    let mut command = std::process::Command::new("sh");
    let script = r#"exec 3<&0 </dev/null >/dev/null; printf '\nhere\n' >&3; exec "$0" serve 3 "" "$1""#;
    command.args(["-c", script, env!("NIXVM_GUEST_HELPER"), name]);
    let mut guest = Guest::spawn(Way::Helper, command);
    guest.skip_to_hello();
    (guest, bell)
}

/// What started the service ends then.
#[test]
fn it_says_once_that_its_first_command_has_ended_or_that_none_comes() {
    let name = |which: &str| format!("/run/nixvm-test-{}-{which}", std::process::id());
    let (mut guest, bell) = with_bell(&name("command"));
    assert_eq!(guest.run("echo one").text(), "one\n");
    bell.recv(&mut [0]).unwrap();
    assert_eq!(guest.run("echo two").text(), "two\n");
    bell.set_nonblocking(true).unwrap();
    assert_eq!(bell.recv(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    let (mut guest, bell) = with_bell(&name("none"));
    bell.recv(&mut [0]).unwrap();
    drop(bell);
    assert_eq!(guest.run("echo one").text(), "one\n");
    // Nobody waits for it.
    let mut command = std::process::Command::new("sh");
    let script =
        r#"exec 3<&0 </dev/null >/dev/null; printf '\nhere\n' >&3; exec "$0" serve 3 "" nobody-waits"#;
    command.args(["-c", script.trim_end(), env!("NIXVM_GUEST_HELPER")]);
    let mut guest = Guest::spawn(Way::Helper, command);
    guest.skip_to_hello();
    assert_eq!(guest.run("echo one").text(), "one\n");
}
