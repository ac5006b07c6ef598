//! Consoles that log somebody in by themselves: whoever is asked for is who comes, and passwords are checked.

use super::Fake;
use nixvm_fake_guest::{FakeVm, installed};
use nixvm_test::ErrorKind;
use nixvm_test::machine::{Machine, Session};
use std::time::Duration;

/// emma and alice, who have passwords, root, who has one, too, and bob, who has none.
fn vm(autologin: &str) -> FakeVm {
    FakeVm::new()
        .user("root", "toor")
        .user("alice", "test")
        .user("emma", "sesame")
        .user("bob", "")
        .setting("autologin", autologin)
}

async fn name(session: &Session) -> String {
    session.succeed("whoami").await.unwrap().text().trim().to_owned()
}

async fn refused(machine: &Machine, user: &str, password: &str) -> String {
    let error = machine.login(user, password).await.expect_err("the login is refused");
    assert_eq!(error.kind(), ErrorKind::LoginRefused, "{error}");
    let text = error.to_string();
    assert!(password.len() < 3 || !text.contains(password), "a password is in the error: {text}");
    text
}

#[tokio::test]
async fn a_wrong_password_is_refused_whoever_is_there_and_the_right_one_works_afterwards() {
    for autologin in ["root", "emma"] {
        let fake = Fake::boot(vm(autologin)).await;
        for (user, right) in [("alice", "test"), ("emma", "sesame"), ("root", "toor")] {
            refused(&fake.machine, user, "wrong-one").await;
            let session = fake.machine.login(user, right).await.unwrap();
            assert_eq!(
                (name(&session).await.as_str(), session.user()),
                (user, user),
                "on {autologin}'s console"
            );
        }
        refused(&fake.machine, "mallory", "test").await;
        let again = fake.machine.login("alice", "test").await.unwrap();
        assert_eq!(name(&again).await, "alice");
    }
}

#[tokio::test]
async fn whoever_is_there_is_had_without_a_password_at_once() {
    for autologin in ["root", "emma"] {
        let fake = Fake::boot(vm(autologin)).await;
        let session = fake.machine.login(autologin, "").await.unwrap();
        assert_eq!(name(&session).await, autologin);
        session.log_out().await.unwrap();
        let session = fake.machine.login(autologin, "").await.unwrap();
        assert_eq!(name(&session).await, autologin);
        // `login` asks for another name after a refusal; that is not the console's own prompt.
        for (user, password) in [("mallory", "x"), ("alice", "wrong-one")] {
            refused(&fake.machine, user, password).await;
            let session = fake.machine.login(autologin, "").await.unwrap();
            assert_eq!(name(&session).await, autologin, "after {user}");
        }
    }
}

#[tokio::test]
async fn nobody_else_is_had_without_their_password() {
    let fake = Fake::boot(vm("emma")).await;
    refused(&fake.machine, "root", "").await;
    refused(&fake.machine, "alice", "").await;
    let fake = Fake::boot(vm("root")).await;
    refused(&fake.machine, "alice", "").await;
    // bob has none, and login(1) asks for none.
    let bob = fake.machine.login("bob", "").await.unwrap();
    assert_eq!(name(&bob).await, "bob");
    let bob = fake.machine.login("bob", "anything").await.unwrap();
    assert_eq!(name(&bob).await, "bob");
}

#[tokio::test]
async fn a_console_that_logs_in_by_itself_is_one_whatever_it_prints_and_however_slowly() {
    for vm in [
        vm("root").chunk("1"),
        vm("root").chunk("random"),
        vm("root").kernel_noise("bytes:5"),
        vm("root").setting("motd", "Password: \n100 % of $HOME > all\n# "),
        vm("root").setting("motd", "bytes:20000"),
        vm("root").setting("ps1", "λ "),
        vm("root").setting("flavour", "systemd-258"),
    ] {
        let fake = Fake::boot(vm).await;
        refused(&fake.machine, "alice", "wrong-one").await;
        assert_eq!(name(&fake.alice().await).await, "alice");
    }
}

#[tokio::test]
async fn every_shell_is_asked_who_it_is() {
    for shell in ["bash", "dash", "zsh", "fish"] {
        if !installed(shell) {
            eprintln!("{shell} is not installed here: not tried");
            continue;
        }
        for autologin in ["root", "emma"] {
            let fake = Fake::boot(vm(autologin).setting("shell", shell)).await;
            refused(&fake.machine, "alice", "wrong-one").await;
            assert_eq!(name(&fake.alice().await).await, "alice", "{shell}");
            assert_eq!(name(&fake.machine.login(autologin, "").await.unwrap()).await, autologin, "{shell}");
        }
    }
}

#[tokio::test]
async fn a_function_called_id_does_not_answer_for_the_machine() {
    let fake = Fake::boot(vm("root").setting("env", "BASH_FUNC_id%%=() { echo alice; }")).await;
    refused(&fake.machine, "alice", "wrong-one").await;
    assert_eq!(name(&fake.alice().await).await, "alice");
}

#[tokio::test]
async fn a_password_that_nothing_asked_for_is_an_error_but_where_there_is_none() {
    let vm = FakeVm::new().setting("user", "alice:test:unasked").user("bob", "");
    let fake = Fake::boot(vm).await;
    let text = refused(&fake.machine, "alice", "test").await;
    assert!(text.contains("the password was not checked"), "{text}");
    assert_eq!(name(&fake.machine.login("alice", "").await.unwrap()).await, "alice");
    assert_eq!(name(&fake.machine.login("bob", "anything").await.unwrap()).await, "bob");
    // The same where login is run by root, whom the console has logged in.
    let vm = FakeVm::new().setting("user", "alice:test:unasked").setting("autologin", "root");
    let fake = Fake::boot(vm).await;
    let text = refused(&fake.machine, "alice", "test").await;
    assert!(text.contains("logs root in automatically"), "{text}");
    assert!(text.contains("the password was not checked"), "{text}");
}

#[tokio::test]
async fn a_greeting_that_looks_like_a_question_is_no_check_of_a_password() {
    let greeting = "Last login: today\nPassword: \nhello\n";
    let fake =
        Fake::boot(FakeVm::new().setting("user", "alice:test:unasked").setting("motd", greeting)).await;
    refused(&fake.machine, "alice", "test").await;
}

/// PAM asks nothing, and the start-up files do: what they got was not checked by PAM, so it is checked afterwards.
#[tokio::test]
async fn a_question_of_start_up_files_is_no_check_of_a_password() {
    let vm = FakeVm::new().setting("user", "alice:test:unasked");
    let vm = vm.setting("startup", "read -r -p 'Project: ' project");
    let fake = Fake::boot(vm.clone()).await;
    let text = refused(&fake.machine, "alice", "wrong-one").await;
    assert!(text.contains("unix_chkpwd refused") && !text.contains("wrong-one"), "{text}");
    assert_eq!(name(&fake.alice().await).await, "alice");
    let shown = fake.machine.console().tail(200);
    assert!(!shown.contains("wrong-one"), "{shown}");
    // The same where login is run by root, whom the console has logged in.
    let fake = Fake::boot(vm.user("root", "toor").setting("autologin", "root")).await;
    refused(&fake.machine, "alice", "wrong-one").await;
}

#[tokio::test]
async fn another_name_of_the_same_user_is_that_user() {
    let vm = FakeVm::new().user("root", "toor").setting("user", "admin:secret:uid-0");
    let fake = Fake::boot(vm.clone()).await;
    let admin = fake.machine.login("admin", "secret").await.unwrap();
    assert_eq!(admin.user(), "admin");
    // The same number is not the same password.
    let fake = Fake::boot(vm.setting("autologin", "root")).await;
    refused(&fake.machine, "admin", "toor").await;
    fake.machine.login("admin", "secret").await.unwrap();
}

#[tokio::test]
async fn a_shell_of_somebody_else_is_refused_by_name() {
    // alice's start-up goes on as bob: what the shell says counts, and not what was typed.
    let vm = FakeVm::new().user("alice", "test").user("bob", "b").setting("env", "FAKE_GUEST_USER=bob");
    let fake = Fake::boot(vm).await;
    let text = refused(&fake.machine, "alice", "test").await;
    assert!(text.contains("belongs to bob (uid 1001)"), "{text}");
}

#[tokio::test]
async fn a_session_that_ends_on_such_a_console_is_not_served_by_who_comes_then() {
    for autologin in ["root", "alice"] {
        let fake = Fake::boot(vm(autologin)).await;
        let alice = fake.alice().await;
        let error = alice.execute("exit").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::SessionEnded, "{error}");
        assert_eq!(alice.execute("whoami").await.unwrap_err().kind(), ErrorKind::SessionEnded);
        assert_eq!(name(&fake.alice().await).await, "alice");
    }
}

#[tokio::test]
async fn a_shell_within_the_session_does_not_serve_for_it() {
    let fake = Fake::boot(FakeVm::new()).await;
    let alice = fake.alice().await;
    alice.succeed("variable=kept").await.unwrap();
    let error = alice.within(Duration::from_millis(500)).execute("sudo -i").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CommandTimeout, "{error}");
    assert_eq!(alice.succeed("whoami; echo $variable").await.unwrap().text(), "alice\nkept\n");
}

#[tokio::test]
async fn the_machine_of_such_a_console_reboots_and_logs_in_again() {
    let fake = Fake::boot(vm("root")).await;
    let _root = fake.machine.login("root", "").await.unwrap();
    fake.machine.reboot().await.unwrap();
    refused(&fake.machine, "alice", "wrong-one").await;
    assert_eq!(name(&fake.alice().await).await, "alice");
}

/// The guest has booted when QEMU's event comes to a process that had no processor meanwhile.
#[tokio::test]
async fn a_reboot_of_which_qemu_tells_late_is_one() {
    let fake = Fake::boot(vm("root").setting("late-reset", "yes")).await;
    let _root = fake.machine.login("root", "").await.unwrap();
    fake.machine.reboot().await.unwrap();
    assert_eq!(name(&fake.alice().await).await, "alice");
}

#[tokio::test]
async fn a_console_that_logs_in_without_a_word_is_one_too() {
    let fake = Fake::boot(vm("root").setting("greeting", "no")).await;
    refused(&fake.machine, "alice", "wrong-one").await;
    assert_eq!(name(&fake.alice().await).await, "alice");
}
