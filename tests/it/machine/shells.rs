//! Any shell, with any prompt and any options.

use super::Fake;
use nixvm_fake_guest::{FakeVm, installed, write_executable};
use nixvm_test::ErrorKind;
use nixvm_test::machine::Session;

/// The shells that serve, as far as this host has them.
fn shells() -> impl Iterator<Item = &'static str> {
    ["bash", "dash", "zsh", "fish"].into_iter().filter(|shell| {
        let is_there = installed(shell);
        if !is_there {
            eprintln!("{shell} is not installed here: not tried");
        }
        is_there
    })
}

async fn says(alice: &Session, command: &str) -> String {
    alice.execute(command).await.unwrap_or_else(|error| panic!("{command}: {error}")).text().to_owned()
}

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
    for shell in shells() {
        serves(FakeVm::new().setting("shell", shell)).await;
    }
}

/// A command, for any shell, that ends when a job has written its process id to `pid`.
const RUNS: &str = "sh -c 'until [ -s pid ]; do sleep 0.01; done'";
/// The same, when that process has ended.
const IS_GONE: &str =
    "sh -c 'while [ -s pid ] && grep -qv \") Z \" /proc/$(cat pid)/stat 2>/dev/null; do sleep 0.01; done'";

/// A job that ends while a later command runs is no matter of that command's, in any shell.
#[tokio::test]
async fn what_a_shell_says_of_a_job_stands_in_no_other_output() {
    for shell in shells() {
        let fake = Fake::boot(FakeVm::new().setting("shell", shell)).await;
        let alice = fake.alice().await;
        // It ends by itself, it is killed, and it fails, each within the next command or between two.
        says(&alice, "rm -f pid; sh -c 'echo $$ >pid; until [ -e end ]; do sleep 0.01; done' &").await;
        let next = format!("{RUNS}; touch end; {IS_GONE}; printf no; /bin/true; echo thing");
        assert_eq!(says(&alice, &next).await, "nothing\n", "{shell}");
        says(&alice, "rm -f pid; sh -c 'echo $$ >pid; exec sleep 1000' &").await;
        let pid = if shell == "fish" { "(cat pid)" } else { "$(cat pid)" };
        let killing = format!("{RUNS}; kill -9 {pid}; /bin/true; {IS_GONE}; echo killed");
        assert_eq!(says(&alice, &killing).await, "killed\n", "{shell}");
        assert_eq!(says(&alice, "/bin/true; echo after").await, "after\n", "{shell}");
        says(&alice, "rm -f pid; sh -c 'echo $$ >pid; exit 3' &").await;
        says(&alice, &format!("{RUNS}; {IS_GONE}")).await;
        assert_eq!(says(&alice, "/bin/true; echo after").await, "after\n", "{shell}");
        // A command that was broken off, which is a job by then.
        let short = alice.within(std::time::Duration::from_millis(300));
        short.execute("sh -c 'trap \"\" INT QUIT; sleep 1000'").await.expect_err("it is broken off");
        assert_eq!(says(&alice, "/bin/true; echo again").await, "again\n", "{shell}");
        assert_eq!(says(&alice, "/bin/true; echo again").await, "again\n", "{shell}");
    }
}

/// A shell says of a job what the command that started it, or one that asks, is to be told.
#[tokio::test]
async fn who_starts_a_job_or_asks_for_jobs_is_told() {
    let fake = Fake::boot(FakeVm::new()).await;
    let alice = fake.alice().await;
    let started = format!("rm -f pid; sh -c 'echo $$ >pid' & {RUNS}; {IS_GONE}; true");
    assert!(says(&alice, &started).await.contains("Done"));
    says(&alice, "rm -f pid; sh -c 'echo $$ >pid; exec sleep 1000' &").await;
    assert!(says(&alice, &format!("{RUNS}; jobs")).await.contains("Running"));
    assert!(says(&alice, &format!("kill %1; {IS_GONE}; jobs")).await.contains("Terminated"));
}

/// Start-up files with options, traps and names that the library uses itself.
#[tokio::test]
async fn what_start_up_files_do_to_a_shell_is_no_obstacle() {
    let posix = "set -u; set -C; set -f; IFS=0; read() { echo no; }; printf() { echo no; }; jobs() { echo no; }; \
                 stty() { echo no; }; id() { echo no; }; alias read=false printf=false eval=false command=false";
    for (shell, startup) in [
        ("bash", posix.to_owned()),
        ("bash", format!("{posix}; set -e; alias builtin=false")),
        (
            "bash",
            "shopt -s failglob nullglob; set -o vi; PROMPT_COMMAND='echo prompt'; set -o posix".to_owned(),
        ),
        ("bash", "set -eu -o pipefail; trap 'echo trap >/dev/null' DEBUG ERR".to_owned()),
        ("dash", "set -u; set -C; set -f; IFS=0; set -e; alias read=false printf=false".to_owned()),
        ("zsh", format!("{posix}; setopt KSH_ARRAYS NO_UNSET EXTENDED_GLOB")),
        (
            "zsh",
            "set -e; bindkey -v; setopt SH_WORD_SPLIT NULL_GLOB NO_NOMATCH; alias -g S=x E=x R=x J=x"
                .to_owned(),
        ),
        (
            "fish",
            "function sh; echo no; end; alias stty false; set -gx IFS 0; fish_vi_key_bindings".to_owned(),
        ),
    ] {
        if !installed(shell) {
            eprintln!("{shell} is not installed here: not tried");
            continue;
        }
        let fake = Fake::boot(FakeVm::new().setting("shell", shell).setting("startup", &startup)).await;
        let alice = fake.alice().await;
        assert_eq!(says(&alice, "echo out").await, "out\n", "{shell}: {startup}");
        let status = alice.execute("sh -c 'exit 5' || sh -c 'exit 0'").await.expect(&startup).status();
        assert_eq!(status, 0, "{shell}: {startup}");
        // With `set -e` a command that is broken off ends the shell, as a person would find.
        if startup.contains("set -e") {
            continue;
        }
        // The shell is found again at its prompt.
        let short = alice.within(std::time::Duration::from_millis(300));
        short.execute("sleep 1000").await.expect_err("sleep is broken off");
        assert_eq!(says(&alice, "echo after").await, "after\n", "{shell}: {startup}");
    }
}

/// The same, where it is typed.
#[tokio::test]
async fn what_is_typed_into_a_shell_is_no_obstacle() {
    for shell in shells().filter(|shell| *shell != "fish") {
        let fake = Fake::boot(FakeVm::new().setting("shell", shell)).await;
        let alice = fake.alice().await;
        let mut typed = vec![
            "set -u",
            "IFS=0",
            "set -C",
            "set -f",
            "set -e; true",
            "printf() { echo no; }",
            "read() { echo no; }",
        ];
        if shell != "dash" {
            typed.extend(["set -o vi", "alias read=false printf=false jobs=false"]);
        }
        for command in typed {
            alice.execute(command).await.unwrap_or_else(|error| panic!("{shell}: {command}: {error}"));
            assert_eq!(says(&alice, "echo out").await, "out\n", "{shell}: {command}");
            if command.contains("set -e") {
                says(&alice, "set +e").await;
            }
            let short = alice.within(std::time::Duration::from_millis(300));
            short.execute("sleep 1000").await.expect_err("sleep is broken off");
            assert_eq!(says(&alice, "echo after").await, "after\n", "{shell}: {command}");
        }
    }
}

/// Pagers wait for a key. What a scenario sets stays, and a person who gets the shell has what they had.
#[tokio::test]
async fn pagers_are_cat_for_commands_and_a_persons_own_for_a_person() {
    let show = "echo \"$PAGER.$SYSTEMD_PAGER.$GIT_PAGER.$MANPAGER\"";
    for shell in shells() {
        let startup = if shell == "fish" { "set -gx PAGER less" } else { "export PAGER=less" };
        let fake = Fake::boot(FakeVm::new().setting("shell", shell).setting("startup", startup)).await;
        let alice = fake.alice().await;
        assert_eq!(says(&alice, show).await, "cat.cat.cat.cat\n", "{shell}");
        if shell != "fish" {
            says(&alice, "export GIT_PAGER=more").await;
        }
        let short = alice.within(std::time::Duration::from_millis(300));
        short.execute("sleep 1000").await.expect_err("sleep is broken off");
        let kept = if shell == "fish" { "cat.cat.cat.cat\n" } else { "cat.cat.more.cat\n" };
        assert_eq!(says(&alice, show).await, kept, "{shell}");
        let mut console = fake.machine.raw_console().await;
        console.send(format!("{show}\r").as_bytes()).await.unwrap();
        let theirs = if shell == "fish" { "less...\r\n" } else { "less..more.\r\n" };
        let mut said = String::new();
        while !said.contains(theirs) {
            let next = tokio::time::timeout(crate::hang::HANG, console.next()).await;
            let next = next.unwrap_or_else(|_| panic!("{shell}: {said}")).expect("the machine is on");
            said.push_str(&String::from_utf8_lossy(&next));
        }
        drop(console);
        assert_eq!(says(&alice, "echo again").await, "again\n", "{shell}");
    }
}

/// A shell that is started by a script of this name; what a line says is run by sh.
fn imitated(folder: &std::path::Path, name: &str, begin: &str) -> String {
    let path = folder.join(name);
    let text = format!("#!/bin/sh\n{begin}\nwhile printf '~> ' && read -r line; do eval \"$line\"; done\n");
    write_executable(&path, text).expect("a script");
    path.to_str().expect("a path").to_owned()
}

#[tokio::test]
async fn a_shell_that_can_not_serve_is_refused_by_name_and_the_console_is_usable() {
    let folder = tempfile::tempdir().unwrap();
    let mut cases =
        vec![("nu", imitated(folder.path(), "nu", ":")), ("xonsh", imitated(folder.path(), "xonsh", ":"))];
    if installed("tcsh") {
        cases.push(("tcsh", "tcsh".to_owned()));
    } else {
        eprintln!("tcsh is not installed here: not tried");
    }
    for (name, shell) in cases {
        let fake = Fake::boot(FakeVm::new().setting("shell", &shell)).await;
        for _ in 0..2 {
            let error = fake.machine.login("alice", "test").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::LoginRefused, "{error}");
            assert!(error.to_string().contains(&format!("the shell of alice is {name}")), "{error}");
        }
    }
}

#[tokio::test]
async fn a_shell_within_a_multiplexer_is_refused_by_name() {
    for (variable, name) in [("TMUX=/tmp/tmux-0/default,1,0", "tmux"), ("STY=123.pts-0.nixos", "screen")] {
        let fake = Fake::boot(FakeVm::new().setting("env", variable)).await;
        let error = fake.machine.login("alice", "test").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LoginRefused, "{error}");
        let said = error.to_string();
        assert!(said.contains(&format!("runs within {name}")) && said.contains("start-up files"), "{said}");
    }
}

/// fish from 4.1 on asks which terminal it is on, and waits 10 s.
#[tokio::test]
async fn a_shell_that_asks_its_terminal_which_it_is_gets_an_answer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("asking");
    // It waits for the answer for ever.
    let asks = "#!/bin/sh\nmodes=$(stty -g); stty raw -echo; printf '\\033[c'; head -c 6 >\"$HOME/answer\"; stty \"$modes\"\n\
                exec bash --norc --noprofile -i\n";
    write_executable(&path, asks).unwrap();
    let fake = Fake::boot(FakeVm::new().setting("shell", path.to_str().unwrap())).await;
    let alice = fake.alice().await;
    let answer = alice.execute("cat answer").await.unwrap();
    assert_eq!(answer.bytes(), b"\x1b[?62c");
    // A session is no terminal that answers.
    assert_eq!(
        says(&alice, "printf '\\033[c'; read -t 0.3 -n 1 && echo answered || echo nothing").await,
        "nothing\n"
    );
}

/// What start-up files ask is told by name in seconds, and nothing answers it.
#[tokio::test]
async fn a_question_of_start_up_files_is_told_and_not_answered() {
    let asks = async |shell: &str, startup: &str, question: &str| {
        if !installed(shell) {
            eprintln!("{shell} is not installed here: not tried");
            return;
        }
        let startup = format!("{startup}; echo \"[x=$x]\"");
        let fake = Fake::boot(FakeVm::new().setting("shell", shell).setting("startup", &startup)).await;
        for _ in 0..2 {
            let mark = fake.machine.console().mark();
            let error = fake.machine.login("alice", "test").await.unwrap_err();
            assert_eq!(error.kind(), nixvm_test::ErrorKind::LoginRefused, "{error}");
            assert!(error.summary().contains(&format!("asks \"{question}\"")), "{startup}: {error}");
            let said = fake.machine.console().text_since(mark).text;
            let behind = said.rsplit(question).next().unwrap_or_default();
            assert!(!behind.contains("stty") && !behind.contains("[x="), "{startup}: {said:?}");
        }
    };
    tokio::join!(
        asks("bash", "read -r -p 'Continue? ' x", "Continue?"),
        asks(
            "bash",
            "read -r -n 1 -p '[oh-my] Would you like to update? [Y/n] ' x",
            "[oh-my] Would you like to update? [Y/n]"
        ),
        asks(
            "bash",
            "printf 'Enter passphrase for /home/alice/.ssh/id: '; read -r -s x",
            "Enter passphrase for /home/alice/.ssh/id:"
        ),
        asks("bash", "read -r -p 'Project name: ' x", "Project name:"),
        asks("bash", "read -r -p 'Press Enter to go on...' x", "Press Enter to go on..."),
        asks("bash", "read -r -p 'Menu (1-3) > ' x", "Menu (1-3) >"),
        asks("zsh", "read -k 1 'x?Update now? [Y/n] '", "Update now? [Y/n]"),
        asks("dash", "printf 'Continue (y/n) '; read -r x", "Continue (y/n)"),
    );
}

/// The same where the console logs somebody in by itself.
#[tokio::test]
async fn a_question_of_the_start_up_files_of_an_automatic_login_is_told() {
    let vm = FakeVm::new()
        .setting("autologin", "alice")
        .setting("startup", "read -r -p 'Continue? ' x; echo \"[x=$x]\"");
    let fake = Fake::boot(vm).await;
    let error = fake.machine.login("alice", "").await.unwrap_err();
    assert!(error.summary().contains("asks \"Continue?\""), "{error}");
    let said = fake.machine.console().tail(50);
    assert!(!said.contains("[x="), "{said}");
}

/// A prompt is none, and neither is a program that takes its time.
#[tokio::test]
async fn a_prompt_and_a_slow_start_are_no_questions() {
    tokio::join!(
        serves(FakeVm::new().setting("ps1", "what now? ")),
        serves(FakeVm::new().setting("ps1", "Ready: ")),
        serves(FakeVm::new().setting("ps1", "alice: ").setting("shell", "dash")),
        serves(FakeVm::new().setting("startup", "printf 'Loading modules: '; sleep 3; echo done")),
        serves(FakeVm::new().setting("startup", "printf 'Profile: '; sleep 2; echo done")),
    );
}
