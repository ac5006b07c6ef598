//! The real thing: QEMU, a real kernel, systemd, login, PAM, sudo and shell, on VMs that are built by the stand-in for
//! nixpkgs. What the fake guest shows in milliseconds must hold here.
//!
//! A boot costs half a minute of a processor, so machines are clones of the templates that the whole suite shares. A test
//! that boots a machine says why.

mod automatic;
mod checks;
mod control;
mod deploy_trouble;
mod hardware;
mod init;
mod iterate;
mod kept;
mod rehearse;
mod replay;
mod session;
mod snapshots;
mod switching;
mod templates;
mod terminal;
mod trouble;

use std::path::{Path, PathBuf};

use nixvm_test::internals::BuiltVm;
use nixvm_test::internals::nix::{Builder, Source};
use nixvm_test::internals::template::{self, Moment};
use nixvm_test::internals::{Event, Events};
use nixvm_test::machine::{Machine, MachineOptions};

/// A file of this repository.
fn root(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}

/// What happens, for whoever reads why a test failed.
fn events() -> Events {
    Events::new(|event| match event {
        Event::Note { text } | Event::BuildLine { text } => eprintln!("{text}"),
        Event::Phase { phase, at, .. } => eprintln!("{:6.1} s  {phase}", at.as_secs_f64()),
        Event::StepStarted { text, .. } => eprintln!("          {text}"),
        _ => {}
    })
}

/// The VM of a configuration.
async fn built(configuration: PathBuf, events: &Events) -> BuiltVm {
    Builder::new().nixpkgs("standin").build(&Source::Configuration(configuration), events).await.unwrap()
}

/// The VM of this repository's configuration.nix.
async fn sample(events: &Events) -> BuiltVm {
    built(root("configuration.nix"), events).await
}

/// A machine of the sample at this moment.
async fn machine_at(moment: &Moment, events: &Events) -> Machine {
    let options = MachineOptions::new("nixos").events(events.clone());
    template::machine(&sample(events).await, options, moment, events).await.unwrap()
}

/// A machine of the sample on whose console nobody has logged in.
async fn at_the_login_prompt() -> Machine {
    machine_at(&Moment::Booted, &events()).await
}

/// alice is logged in.
fn alice() -> Moment {
    Moment::LoggedIn { user: "alice".to_owned(), password: "test".to_owned() }
}

/// What root's command prints.
async fn said_by(machine: &Machine, command: &str) -> String {
    machine.succeed(command).await.unwrap().text().to_owned()
}
