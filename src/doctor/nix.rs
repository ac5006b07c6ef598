//! Checks Nix's store, and which nixpkgs configurations are built with.

use super::{Finding, State};
use crate::nix::{Nixpkgs, Source, Store};
use crate::settings::Settings;
use crate::{ErrorKind, Events};

/// The finding about nixpkgs.
pub(super) struct Chosen {
    pub(super) finding: Finding,
    /// Whether machines are built from Debian's packages, with programs of this host.
    pub(super) uses_the_stand_in: bool,
}

pub(super) async fn nixpkgs(settings: &Settings, events: &Events) -> Chosen {
    let brings_its_own = match &settings.source {
        Some(Source::Flake(flake)) => Some(format!("that of the flake {flake}")),
        Some(Source::Built(vm)) => Some(format!("none is needed: {} is built already", vm.display())),
        _ => None,
    };
    if let Some(found) = brings_its_own {
        return Chosen { finding: Finding::ok("nixpkgs", found), uses_the_stand_in: false };
    }
    let given = settings.nixpkgs.as_deref();
    let chosen = Nixpkgs::choose(given, events).await;
    let uses_the_stand_in = chosen.as_ref().is_ok_and(Nixpkgs::is_stand_in);
    let finding = match chosen {
        Ok(Nixpkgs::StandIn(folder)) if given.is_some() => {
            Finding::ok("nixpkgs", format!("the stand-in, as requested ({})", folder.display()))
        }
        Ok(Nixpkgs::StandIn(_)) => Finding::new(
            "nixpkgs",
            State::Warning,
            "there is no channel, so the stand-in is used: Debian's packages, not NixOS",
            "nix-channel --add https://nixos.org/channels/nixos-26.05 nixpkgs && nix-channel --update (or \
             nixpkgs = \"channel:nixos-26.05\" in nixvm.toml)",
        ),
        Ok(Nixpkgs::Given(given)) => Finding::ok("nixpkgs", given),
        Ok(_) => Finding::ok("nixpkgs", "<nixpkgs>, from NIX_PATH or a channel"),
        Err(error) => {
            let fix = error.advice().1.unwrap_or("choose one: --nixpkgs channel:nixos-26.05").to_owned();
            Finding::new("nixpkgs", State::Missing, error.summary(), fix)
        }
    };
    Chosen { finding, uses_the_stand_in }
}

pub(super) fn store() -> Finding {
    match Store::find() {
        Ok(Store::Daemon) => Finding::ok("Nix store", "/nix, through the nix daemon"),
        Ok(_) => Finding::ok("Nix store", "/nix, owned by this user"),
        Err(error) => {
            debug_assert!(matches!(error.kind(), ErrorKind::Host | ErrorKind::Io));
            let fix = error.advice().1.unwrap_or("make /nix writable").to_owned();
            Finding::new("Nix store", State::Missing, error.summary(), fix)
        }
    }
}
