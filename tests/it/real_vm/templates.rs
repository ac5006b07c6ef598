//! Templates and clones of the real VM.

use std::sync::{Arc, Mutex};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use nixvm_test::ErrorKind;
use nixvm_test::internals::BuiltVm;
use nixvm_test::internals::template::{self, Moment};
use nixvm_test::internals::{Event, Events};
use nixvm_test::machine::{Machine, MachineOptions};

use super::{alice, machine_at, said_by, sample};

/// What was said, and where it goes.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<String>>>);

impl Said {
    fn events(&self) -> Events {
        let said = self.clone();
        Events::new(move |event| {
            let text = match event {
                Event::Note { text } | Event::BuildLine { text } | Event::StepStarted { text, .. } => {
                    text.clone()
                }
                Event::Phase { phase, at, .. } => format!("{phase} after {at:?}"),
                _ => return,
            };
            eprintln!("{text}");
            said.0.lock().unwrap().push(text);
        })
    }

    /// How often a machine was booted.
    fn boots(&self) -> usize {
        self.0.lock().unwrap().iter().filter(|text| text.starts_with("login prompt after")).count()
    }
}

async fn clone(vm: &BuiltVm, events: &Events) -> Machine {
    let options = MachineOptions::new("clone").events(events.clone());
    template::machine(vm, options, &alice(), events).await.unwrap()
}

/// A clone at the login prompt has the time of its template until somebody logs in who can become root.
#[tokio::test(flavor = "multi_thread")]
async fn the_clock_is_right_for_the_first_who_logs_in() {
    let events = Said::default().events();
    let machine = machine_at(&Moment::Booted, &events).await;
    assert!(machine.session().await.is_none());
    let alice = machine.login("alice", "test").await.unwrap();
    let before = now();
    let guest: f64 = alice.succeed("echo $EPOCHREALTIME").await.unwrap().text().trim().parse().unwrap();
    let after = now();
    assert!(before - 0.05 <= guest && guest <= after + 0.05, "{before} {guest} {after}");
}

/// Seconds since 1970, here.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

#[tokio::test(flavor = "multi_thread")]
async fn clones_of_a_logged_in_machine_are_apart_and_right() {
    let said = Said::default();
    let events = said.events();
    let vm = sample(&events).await;
    let one = clone(&vm, &events).await;
    let boots = said.boots();
    assert!(boots <= 1, "one boot at most makes both templates");

    // Nobody had to log in, and nothing stale comes.
    let begun = Instant::now();
    let other = clone(&vm, &events).await;
    let session = other.session().await.expect("alice is logged in");
    assert_eq!(session.succeed("whoami; pwd").await.unwrap().text(), "alice\n/home/alice\n");
    eprintln!("first answer of a clone after {:?}", begun.elapsed());
    assert_eq!(said.boots(), boots, "a clone is not booted");
    assert_eq!(session.succeed("sudo id -un").await.unwrap().text(), "root\n");

    // The clock, the network, random numbers.
    for machine in [&one, &other] {
        let before = now();
        let guest: f64 = said_by(machine, "echo $EPOCHREALTIME").await.trim().parse().unwrap();
        let after = now();
        assert!(before - 0.05 <= guest && guest <= after + 0.05, "{before} {guest} {after}");
        machine.succeed("ip -4 address show eth0 | grep 10.0.2.15").await.unwrap();
        machine.succeed("ping -c 1 -W 5 10.0.2.2").await.unwrap();
        machine
            .succeed("t=$(cut -d' ' -f1 /proc/uptime); sleep 1; [ $(cut -d' ' -f1 /proc/uptime) != $t ]")
            .await
            .unwrap();
    }
    let random = "head -c 16 /dev/urandom | od -An -tx1";
    assert_ne!(said_by(&one, random).await, said_by(&other, random).await);
    let identity = "cat /etc/machine-id";
    assert_eq!(said_by(&one, identity).await, said_by(&other, identity).await, "is kept");

    // What one does is not seen by the other, nor by the next.
    one.succeed("rm -rf /home/alice; sync").await.unwrap();
    other.succeed("test -d /home/alice").await.unwrap();
    one.crash().await;
    clone(&vm, &events).await.succeed("test -d /home/alice").await.unwrap();

    // Back to an earlier moment.
    let session = other.session().await.unwrap();
    session.succeed("cd /tmp; echo before > note").await.unwrap();
    let before = other.snapshot().await.unwrap();
    session.succeed("echo after > note; sync").await.unwrap();
    other.as_user("alice").succeed("sleep 1000 & disown").await.unwrap();
    for _ in 0..2 {
        other.restore(&before).await.unwrap();
        assert_eq!(session.succeed("true").await.unwrap_err().kind(), ErrorKind::SessionEnded);
        let session = other.session().await.expect("alice is logged in then");
        assert_eq!(session.succeed("pwd; cat note").await.unwrap().text(), "/tmp\nbefore\n");
        other.fail("pgrep -x sleep").await.unwrap();
        session.succeed("echo again > note; sync").await.unwrap();
    }
    let foreign = clone(&vm, &events).await.restore(&before).await.unwrap_err();
    assert_eq!(foreign.kind(), ErrorKind::Usage);
}
