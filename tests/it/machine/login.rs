//! Logging in and out.

use super::Fake;
use nixvm_fake_guest::{FakeVm, Flavour};
use nixvm_test::ErrorKind;

#[tokio::test]
async fn every_console_lets_alice_in() {
    for flavour in [Flavour::Systemd254, Flavour::Systemd257, Flavour::Systemd258] {
        for vm in [FakeVm::new(), FakeVm::new().chunk("1"), FakeVm::new().chunk("random")] {
            let fake = Fake::boot(vm.flavour(flavour)).await;
            assert_eq!(fake.alice().await.succeed("whoami").await.unwrap().text(), "alice\n");
        }
    }
}

/// An Enter that waits for its answer on a slow host is not followed by a name: the name would be typed a second time, for
/// the password.
#[tokio::test]
async fn a_getty_that_answers_late_gets_the_name_once() {
    let slow = FakeVm::new().setting("prompt-delay", "1500ms");
    let fake = Fake::boot(slow).await;
    assert_eq!(fake.alice().await.succeed("whoami").await.unwrap().text(), "alice\n");
}

/// A name that is lost on the line is typed once more, and a password that is wrong then is refused once: accounts are locked
/// after a few failures.
#[tokio::test]
async fn a_wrong_password_after_a_name_that_was_typed_twice_counts_once() {
    let fake = Fake::boot(FakeVm::new().setting("lost-names", "1")).await;
    let error = fake.machine.login("alice", "wrong").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LoginRefused, "{error}");
    let said = fake.machine.console().tail(200);
    assert_eq!(said.matches("Login incorrect").count(), 1, "{said}");
    fake.alice().await.succeed("true").await.unwrap();
}

/// The line shows so late that the name was taken and the password is asked for that the name was typed again.
#[tokio::test]
async fn a_name_that_is_typed_at_a_question_for_the_password_is_no_wrong_password() {
    let fake = Fake::boot(FakeVm::new().setting("late-echo", "5s")).await;
    assert_eq!(fake.alice().await.succeed("whoami").await.unwrap().text(), "alice\n");
    let said = fake.machine.console().tail(200);
    assert!(!said.contains("Login incorrect"), "{said}");
}

#[tokio::test]
async fn kernel_lines_in_the_middle_of_the_questions_do_not_keep_alice_out() {
    for noise in ["bytes:3", "bytes:5", "every:2ms"] {
        let fake = Fake::boot(FakeVm::new().kernel_noise(noise).setting("noise-from", "services")).await;
        assert_eq!(fake.alice().await.succeed("echo in").await.unwrap().text(), "in\n", "{noise}");
    }
}

#[tokio::test]
async fn a_wrong_password_is_named_at_once_and_the_right_one_works_afterwards() {
    let fake = Fake::boot(FakeVm::new()).await;
    let error = fake.machine.login("alice", "wrong").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LoginRefused);
    let text = error.to_string();
    assert!(text.contains("refused to log in alice"), "{text}");
    assert!(!text.contains("wrong"), "a password is in the error: {text}");
    fake.alice().await.succeed("true").await.unwrap();
}

#[tokio::test]
async fn a_user_who_is_not_there_is_refused() {
    let fake = Fake::boot(FakeVm::new()).await;
    let error = fake.machine.login("mallory", "test").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LoginRefused);
}

#[tokio::test]
async fn an_account_without_a_password_is_let_in() {
    let fake = Fake::boot(FakeVm::new().user("bob", "")).await;
    let bob = fake.machine.login("bob", "").await.unwrap();
    assert_eq!(bob.succeed("whoami").await.unwrap().text(), "bob\n");
}

#[tokio::test]
async fn root_logs_in_where_it_has_a_password() {
    let fake = Fake::boot(FakeVm::new().user("root", "secret")).await;
    let root = fake.machine.login("root", "secret").await.unwrap();
    assert_eq!(root.succeed("echo $((1 + 1))").await.unwrap().text(), "2\n");
}

#[tokio::test]
async fn users_take_turns() {
    let fake = Fake::boot(FakeVm::new().user("alice", "test").user("bob", "builder")).await;
    let alice = fake.alice().await;
    alice.succeed("true").await.unwrap();
    alice.log_out().await.unwrap();
    let bob = fake.machine.login("bob", "builder").await.unwrap();
    assert_eq!(bob.succeed("whoami").await.unwrap().text(), "bob\n");
    // A login while somebody is logged in ends that session.
    let alice = fake.alice().await;
    assert_eq!(alice.succeed("whoami").await.unwrap().text(), "alice\n");
    let error = bob.execute("whoami").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SessionEnded);
    assert!(error.to_string().contains("logged out when alice logged in"), "{error}");
}

#[tokio::test]
async fn a_command_that_ends_the_shell_ends_the_session_by_name() {
    let fake = Fake::boot(FakeVm::new()).await;
    let alice = fake.alice().await;
    let error = alice.execute("exit 3").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SessionEnded);
    assert!(error.to_string().contains("the login prompt is back"), "{error}");
    fake.alice().await.succeed("true").await.unwrap();
}

#[tokio::test]
async fn a_session_with_stopped_jobs_is_logged_out() {
    let fake = Fake::boot(FakeVm::new()).await;
    let alice = fake.alice().await;
    alice.execute("sh -c 'kill -STOP $$' & sleep 0.2").await.unwrap();
    alice.log_out().await.unwrap();
    fake.alice().await.succeed("true").await.unwrap();
}

#[tokio::test]
async fn logins_that_are_not_yet_allowed_and_expired_passwords_are_named() {
    let fake = Fake::boot(FakeVm::new().setting("refuse-logins", "yes")).await;
    let error = fake.machine.login("alice", "test").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LoginRefused);
    assert!(error.to_string().contains("does not allow alice to log in now"), "{error}");
    let fake = Fake::boot(FakeVm::new().setting("user", "alice:test:expired")).await;
    let error = fake.machine.login("alice", "test").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LoginRefused);
    assert!(error.to_string().contains("expired"), "{error}");
}

#[tokio::test]
async fn a_name_that_can_not_be_typed_is_refused_before_it_is() {
    let fake = Fake::boot(FakeVm::new()).await;
    for name in ["", "al ice", "alice\r"] {
        assert_eq!(fake.machine.login(name, "test").await.unwrap_err().kind(), ErrorKind::Usage);
    }
}

/// What a greeting, the news of failed logins and notices say is no question and no answer.
#[tokio::test]
async fn words_of_a_greeting_or_a_notice_are_neither_questions_nor_answers() {
    for vm in [
        FakeVm::new().setting("issue", "Demo machine. login: alice\nPassword: test\n"),
        FakeVm::new().setting("issue", "nixos login: \nLogin incorrect\nPassword: \n# \n"),
        FakeVm::new().setting("issue", "root (automatic login)\nnixos login: root (automatic login)\n"),
        FakeVm::new().setting("motd", "Last failed login: Mon Nov 30 from 10.0.0.1 on ssh:notty\n"),
        FakeVm::new().setting("motd", "If you see Login incorrect, call us.\nLogin incorrect\n"),
        FakeVm::new().setting("motd", "You are required to change your password: next year\n"),
        FakeVm::new().setting("motd", "Guests are not permitted to log in.\nfriend login: \n"),
    ] {
        let fake = Fake::boot(vm.name("client").chunk("random")).await;
        assert_eq!(fake.alice().await.succeed("whoami").await.unwrap().text(), "alice\n");
        let error = fake.machine.login("alice", "wrong").await.unwrap_err();
        assert!(error.to_string().contains("refused to log in alice"), "{error}");
    }
}

/// A prompt is known by its place, whatever the host is called.
#[tokio::test]
async fn a_prompt_that_comes_back_is_known_on_every_host() {
    for host in ["client", "password"] {
        let fake = Fake::boot(FakeVm::new().name(host)).await;
        for _ in 0..2 {
            let error = fake.machine.login("alice", "wrong").await.unwrap_err();
            assert!(error.to_string().contains("refused to log in alice"), "{host}: {error}");
        }
        assert_eq!(fake.alice().await.succeed("whoami").await.unwrap().text(), "alice\n", "{host}");
    }
}

#[tokio::test]
async fn logins_in_another_language_are_no_others() {
    let fake = Fake::boot(FakeVm::new().setting("german", "yes").user("bob", "").user("alice", "test")).await;
    for _ in 0..2 {
        let error = fake.machine.login("alice", "wrong").await.unwrap_err();
        assert!(error.to_string().contains("refused to log in alice"), "{error}");
    }
    assert_eq!(fake.alice().await.succeed("whoami").await.unwrap().text(), "alice\n");
    let bob = fake.machine.login("bob", "").await.unwrap();
    assert_eq!(bob.succeed("whoami").await.unwrap().text(), "bob\n");
}

/// The console's own words come first, and the guess after them; and the next login finds a prompt.
#[tokio::test]
async fn a_session_that_ends_at_once_is_told_with_what_the_console_said() {
    for (words, meaning) in [
        ("This account is currently not available.\n", "nologin"),
        ("\nModule is unknown\n", "PAM can't load a module"),
        ("Your account has expired; please contact your system administrator.\n", "expired"),
        ("Today no logins > at all $ \n", "PAM ended it"),
        ("", "PAM ended it"),
    ] {
        let vm = FakeVm::new().name("client").setting("end-login", words);
        let fake = Fake::boot(vm.setting("motd", "Last failed login: today\n")).await;
        for _ in 0..2 {
            let error = fake.machine.login("alice", "test").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::LoginRefused, "{error}");
            assert!(error.summary().contains("ended at once"), "{error}");
            assert!(error.summary().contains(words.trim()), "{words:?}: {error}");
            assert!(error.to_string().contains(meaning), "{words:?}: {error}");
            assert!(!error.summary().contains("Welcome"), "{error}");
            let error = fake.machine.login("alice", "wrong").await.unwrap_err();
            assert!(error.to_string().contains("refused to log in alice"), "{error}");
        }
    }
}

/// The same by `login` and `su`, where the console logs somebody in by itself.
#[tokio::test]
async fn a_session_that_ends_at_once_is_told_on_a_console_that_logs_in_by_itself() {
    let vm = FakeVm::new().user("root", "toor").user("alice", "test");
    let vm =
        vm.setting("autologin", "root").setting("end-login", "This account is currently not available.\n");
    let fake = Fake::boot(vm).await;
    for _ in 0..2 {
        let error = fake.machine.login("alice", "test").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LoginRefused, "{error}");
        assert!(error.summary().contains("currently not available"), "{error}");
    }
    fake.machine.login("root", "").await.unwrap();
}

/// What looks like the end of the session is the output of a program, which goes on.
#[tokio::test]
async fn a_program_that_prints_a_login_prompt_is_no_logout() {
    let prints = async |words: &str| {
        let fake = Fake::boot(FakeVm::new()).await;
        let alice = fake.alice().await;
        let command = format!("printf '{}'; sleep 2; echo done", words.replace('\n', "\\n"));
        let output = alice.succeed(&command).await.unwrap();
        assert_eq!(output.text(), format!("{words}done\n"));
        assert_eq!(alice.succeed("echo still here").await.unwrap().text(), "still here\n");
        // The end is still known.
        assert_eq!(alice.execute("exit").await.unwrap_err().kind(), ErrorKind::SessionEnded);
        fake.alice().await.succeed("true").await.unwrap();
    };
    tokio::join!(
        prints("Your login: "),
        prints("client login: "),
        prints("login: "),
        prints("<<< Welcome >>>\n\nnixos login: "),
        prints("nixos login: root (automatic login)\n\n[root@nixos:~]# "),
    );
}

/// A program that asks for a name as login does prints its question again after an empty one.
#[tokio::test]
async fn a_login_that_a_command_runs_is_no_logout() {
    let fake = Fake::boot(FakeVm::new()).await;
    let alice = fake.alice().await;
    let asks = r#"n=0; while [ $n -lt 2 ]; do printf '\nnixos login: '; read -r -t 3 name; n=$((n+1)); done; echo done"#;
    let output = alice.succeed(asks).await.unwrap();
    assert!(output.text().ends_with("done\n"), "{output:?}");
}
