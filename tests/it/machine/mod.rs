//! Machines and sessions against the fake guest: real shells on real terminals behind a console that
//! speaks as a NixOS guest does, without the minutes.

mod automatic;
mod booting;
mod commands;
mod elevation;
mod halted;
mod lifecycle;
mod limits;
mod login;
mod power;
mod shells;
mod snapshots;
mod steps;

use nixvm_fake_guest::FakeVm;
use nixvm_test::Result;
use nixvm_test::internals::BuiltVm;
use nixvm_test::internals::{Event, Events};
use nixvm_test::machine::{Machine, MachineOptions, Session};
use std::sync::{Arc, Mutex};

/// A fake machine, booted, with what its events said.
struct Fake {
    machine: Machine,
    events: Arc<Mutex<Vec<Event>>>,
    _folder: tempfile::TempDir,
}

impl Fake {
    async fn boot(vm: FakeVm) -> Self {
        Self::try_boot(vm).await.expect("the machine boots")
    }

    async fn try_boot(vm: FakeVm) -> Result<Self> {
        Self::try_boot_with(vm, |options| options).await
    }

    async fn boot_with(vm: FakeVm, change: impl FnOnce(MachineOptions) -> MachineOptions) -> Self {
        Self::try_boot_with(vm, change).await.expect("the machine boots")
    }

    async fn try_boot_with(
        vm: FakeVm,
        change: impl FnOnce(MachineOptions) -> MachineOptions,
    ) -> Result<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let vm = BuiltVm::open(vm.write_to(folder.path())).expect("a built VM");
        let events = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&events);
        let options = MachineOptions::new("nixos")
            .events(Events::new(move |event| sink.lock().unwrap().push(event.clone())));
        let machine = Machine::boot(&vm, change(options)).await?;
        Ok(Self { machine, events, _folder: folder })
    }

    async fn alice(&self) -> Session {
        match self.machine.login("alice", "test").await {
            Ok(session) => session,
            // The last lines alone do not tell why a console was silent.
            Err(error) => panic!("alice does not log in: {error:?}\n{}", self.machine.console().tail(200)),
        }
    }

    /// The phases of its boots.
    fn phases(&self) -> Vec<String> {
        let events = self.events.lock().unwrap();
        let phases = events.iter().filter_map(|event| match event {
            Event::Phase { phase, .. } => Some(phase.clone()),
            _ => None,
        });
        phases.collect()
    }

    /// How the machine was ended, as its events say.
    fn stopped(&self) -> Vec<String> {
        let events = self.events.lock().unwrap();
        let how = events.iter().filter_map(|event| match event {
            Event::MachineStopped { how, .. } => Some(how.clone()),
            _ => None,
        });
        how.collect()
    }
}
