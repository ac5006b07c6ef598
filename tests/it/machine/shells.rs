//! Whatever the shell, whatever its prompt.

use super::Fake;
use nixvm_fake_guest::{FakeVm, installed};

async fn serves(vm: FakeVm) {
    let fake = Fake::boot(vm).await;
    let alice = fake.alice().await;
    assert_eq!(alice.execute("echo out; sh -c 'exit 5'").await.unwrap().text(), "out\n");
    assert_eq!(alice.execute("sh -c 'exit 5'").await.unwrap().status(), 5);
    let again = alice.within(std::time::Duration::from_millis(300)).execute("sleep 1000").await;
    again.expect_err("sleep is interrupted");
    assert_eq!(alice.execute("echo after").await.unwrap().text(), "after\n");
    alice.log_out().await.unwrap();
}

#[tokio::test]
async fn any_prompt_will_do() {
    for prompt in ["λ ", "two\\nlines> ", "no-space$", "", "100% ", "\\[\\e[?25h\\]fancy » "] {
        serves(FakeVm::new().setting("ps1", prompt)).await;
    }
}

#[tokio::test]
async fn a_long_greeting_is_no_obstacle() {
    serves(FakeVm::new().setting("motd", "bytes:200000")).await;
    serves(FakeVm::new().setting("motd", "100 % of $HOME > all\nPassword: \n# ")).await;
}

#[tokio::test]
async fn dash_zsh_and_fish_serve_too() {
    for shell in ["dash", "zsh", "fish"] {
        if installed(shell) {
            serves(FakeVm::new().setting("shell", shell)).await;
        } else {
            eprintln!("{shell} is not installed here: not tried");
        }
    }
}
