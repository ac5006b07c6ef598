use std::time::Instant;

use nixvm_test::prelude::*;
use nixvm_test::tokio;

/// What commands over the control channel give back, and to whom they belong.
#[scenario]
async fn commands(machine: Machine) -> Result {
    // Nobody is root yet.
    assert_eq!(machine.succeed("true").await.unwrap_err().kind(), ErrorKind::NoRoot);
    machine.login("alice", "test").await?;

    machine
        .subtest("outputs are exact and apart", async {
            let output =
                machine.execute("printf 'a\\0b\\r\\n\\377'; printf 'no newline' >&2; exit 3").await?;
            assert_eq!(output.status(), 3);
            assert_eq!(output.bytes(), b"a\0b\r\n\xff");
            assert_eq!(output.stderr(), b"no newline");
            let flood = machine.succeed("set +o pipefail; yes 0123456789abcdef | head -c 10000000").await?;
            assert_eq!(flood.bytes().len(), 10_000_000);
            assert!(flood.bytes().chunks(17).all(|line| b"0123456789abcdef\n".starts_with(line)));
            machine.succeed("echo into the same file >/dev/stdout; echo and here >/dev/stderr").await
        })
        .await?;

    machine
        .subtest("each command has a shell of its own", async {
            assert_eq!(machine.succeed("id -un").await?.text(), "root\n");
            machine.succeed(["cd /tmp", "export LEAKS=yes", "set +e"]).await?;
            assert_eq!(machine.succeed("pwd; echo ${LEAKS:-no}").await?.text(), "/root\nno\n");
            // bash with set -euo pipefail.
            machine.fail(["false; true", "false | true", "echo $nobody_set_this"]).await?;
            assert_eq!(machine.execute("kill -TERM $BASHPID").await?.signal(), Some(15));
            assert_eq!(machine.execute("no_such_program").await?.status(), 127);
            let failed = machine.succeed("echo out; echo err >&2; exit 7").await.unwrap_err();
            assert_eq!(failed.kind(), ErrorKind::CommandFailed);
            for word in ["status 7", "out", "err", "last lines of the console"] {
                assert!(failed.to_string().contains(word), "{word}: {failed}");
            }
            Ok(())
        })
        .await?;

    machine
        .subtest("a user has their own environment and manager", async {
            let alice = machine.as_user("alice");
            assert_eq!(alice.succeed("id -un; pwd; echo $HOME $XDG_RUNTIME_DIR").await?.lines().count(), 3);
            assert_eq!(alice.succeed("cowsay moo | grep -c moo").await?.text(), "1\n");
            alice.succeed("echo > /dev/stdout; systemctl --user show-environment").await?;
            let nobody = machine.as_user("nobody-of-that-name").succeed("true").await.unwrap_err();
            assert!(nobody.to_string().contains("nobody-of-that-name"), "{nobody}");
            assert!(
                machine.as_user("alice").in_own_shell().succeed("echo $0").await?.text().contains("bash")
            );
            Ok(())
        })
        .await?;

    machine
        .subtest("input, and output as it comes", async {
            let sorted = machine.command("sort; echo done >&2").stdin("b\na\n").output().await?;
            assert_eq!((sorted.text(), sorted.stderr()), ("a\nb\n", &b"done\n"[..]));
            let unread = machine.command("true").stdin(vec![0; 1 << 20]).output().await?;
            assert!(unread.success());
            let begun = Instant::now();
            let (sender, first) = std::sync::mpsc::channel();
            machine
                .command("echo first; sleep 3; echo second")
                .watch(move |_, bytes| drop(sender.send((begun.elapsed(), bytes.to_vec()))))
                .output()
                .await?;
            let ended = begun.elapsed();
            let (came, what) = first.recv().expect("something came");
            assert_eq!(what, b"first\n");
            assert!(came + Duration::from_secs(2) < ended, "{came:?} {ended:?}");
            Ok(())
        })
        .await?;

    machine
        .subtest("a command that does not end is killed with all it started", async {
            let hurry = machine.within(Duration::from_millis(200));
            let error = hurry.succeed("echo begun; (sleep 1000 & sleep 1000); true").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::CommandTimeout);
            assert!(error.to_string().contains("begun"), "{error}");
            machine.fail("pgrep -x sleep").await?;
            // One that goes on in the background is no reason to wait, and lives.
            machine.succeed("(while :; do sleep 0.1; echo late; done) & echo $! > /tmp/pid").await?;
            assert_eq!(machine.succeed("sleep 0.5; echo mine").await?.text(), "mine\n");
            machine.succeed("kill $(cat /tmp/pid)").await
        })
        .await?;

    machine
        .subtest("several at once", async {
            let begun = Instant::now();
            let mut tasks = Vec::new();
            for number in 0..20 {
                let machine = machine.clone();
                tasks.push(tokio::spawn(
                    async move { machine.succeed(format!("sleep 3; echo {number}")).await },
                ));
            }
            for (number, task) in tasks.into_iter().enumerate() {
                assert_eq!(task.await.expect("no panic")?.text(), format!("{number}\n"));
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
            Ok(())
        })
        .await?;

    machine
        .subtest("the channel outlives the session, and ends with the machine", async {
            machine.login("alice", "test").await?.log_out().await?;
            machine.succeed("true").await?;
            let (lost, ()) = tokio::join!(machine.succeed("sleep 1000"), async {
                machine.wait_until_succeeds("pgrep -x sleep").await.expect("it runs");
                machine.crash().await;
            });
            assert_eq!(lost.unwrap_err().kind(), ErrorKind::ChannelLost);
            Ok(())
        })
        .await
}

nixvm_test::main!();
