//! Builds the VM of a flake: a host with what is added to it, or an attribute as it is.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::additions::Additions;
use super::builder::{BuildFiles, Builder};
use super::process::Ended;
use super::refused::Refused;
use super::run::Run;
use super::source::{FlakeVm, Source};
use super::store::Store;
use super::{commands, host};
use crate::{BuiltVm, Error, ErrorKind, Events, Result};

/// The words by which Nix refuses to build while it evaluates.
const NO_BUILD_WHILE_EVALUATING: &str = "allow-import-from-derivation";

/// What a host with additions evaluates to.
#[derive(Debug, Deserialize)]
pub(super) struct Extended {
    /// The path of the VM's derivation.
    pub(super) derivation: PathBuf,
    /// The path that it will have when it is built.
    pub(super) output: PathBuf,
}

/// One build of a flake.
struct Build<'a> {
    source: &'a Source,
    flake: &'a FlakeVm,
    place: &'a BuildFiles,
    store: Store,
    events: &'a Events,
}

impl Builder {
    /// Builds the VM of a flake.
    pub(super) async fn flake(&self, source: &Source, reference: &str, events: &Events) -> Result<BuiltVm> {
        let flake: FlakeVm = reference.parse()?;
        host::check_build(source, None)?;
        if flake.own_host {
            events.note(format!(
                "no host is named, so the one with this machine's name is used: {}",
                flake.installable
            ));
        }
        let here = std::env::current_dir().unwrap_or_default();
        let mut parts: Vec<&[u8]> =
            vec![b"flake", here.as_os_str().as_encoded_bytes(), flake.installable.as_bytes()];
        if self.networked {
            parts.push(b"on networks");
        }
        let place = self.place(&parts)?;
        let mut additions = Additions {
            clones: self.clonable,
            network: self.networked,
            root_password: self.root_password,
            ..Additions::default()
        };
        let build = Build { source, flake: &flake, place: &place, store: Store::find()?, events };
        let vm = loop {
            match self.with_additions(&build, &additions).await {
                Err(error) if additions.leave_out_the_cause_of(&error) => {}
                built => break built?,
            }
        };
        additions.tell_what_was_left_out(events);
        Ok(vm)
    }

    async fn with_additions(&self, build: &Build<'_>, additions: &Additions) -> Result<BuiltVm> {
        let as_it_is = || commands::flake(build.flake, build.store, &build.place.link);
        let unchanged = |what: &str, why: &str| {
            let note = format!("{what} {why}, so it is built without {}", additions.described());
            build.events.note(note);
        };
        let Some(module) = additions.module() else {
            return self.run(build.source, None, as_it_is(), build.place, build.events).await;
        };
        let Some(host) = build.flake.host() else {
            unchanged(&build.flake.installable, "is an attribute that can't be extended");
            return self.run(build.source, None, as_it_is(), build.place, build.events).await;
        };
        let mut run = Run::begin(build.source, None, self.limit, build.place, build.events)?;
        let extended = match evaluate(&mut run, build, host, &module).await {
            Ok(Some(extended)) => realise(&mut run, build, host, &extended).await,
            Ok(None) => {
                unchanged(host, "has no `extendModules`");
                run.nix(as_it_is()).await
            }
            Err(refused) => Err(refused),
        };
        self.end(build.source, run, extended).map_err(|refused| refused.error)
    }
}

/// Evaluates a host to the derivation of its VM with this module. Nix itself names the flake, so its inputs, its revision
/// and its purity are as in a build of the host. Returns `None` if the host can't be extended.
async fn evaluate(
    run: &mut Run<'_>,
    build: &Build<'_>,
    host: &str,
    module: &str,
) -> Result<Option<Extended>, Refused> {
    let ended = run.nix(commands::extended_host(host, module, build.store)).await?;
    let answer: Option<Extended> = serde_json::from_str(ended.stdout.trim())
        .map_err(|error| unexpected(host, &ended).caused_by(error))?;
    match answer {
        Some(paths) if ![&paths.derivation, &paths.output].into_iter().all(|path| is_store_path(path)) => {
            Err(unexpected(host, &ended).into())
        }
        answer => Ok(answer),
    }
}

fn unexpected(host: &str, ended: &Ended) -> Error {
    let summary = format!("Nix evaluated {host}, and did not answer with the paths of a derivation");
    Error::new(ErrorKind::Build, summary).section("it printed", ended.stdout.clone())
}

/// Returns whether a path is absolute and has only characters of names in the Nix store, so that it can stand in a Nix
/// expression and on a command line.
fn is_store_path(path: &Path) -> bool {
    let text = path.as_os_str().as_encoded_bytes();
    path.is_absolute() && text.iter().all(|&byte| byte.is_ascii_alphanumeric() || b"/+-._?=".contains(&byte))
}

/// Builds the derivation.
async fn realise(
    run: &mut Run<'_>,
    build: &Build<'_>,
    host: &str,
    extended: &Extended,
) -> Result<Ended, Refused> {
    // Only a command that evaluates the flake has the flake's own settings (`nixConfig`), such as its binary caches.
    if !extended.output.exists() {
        match run.nix(commands::build_within_flake(host, extended, build.store)).await {
            Err(refused) if !refused.error.to_string().contains(NO_BUILD_WHILE_EVALUATING) => {
                return Err(refused);
            }
            _ => {}
        }
    }
    run.nix(commands::realise(&extended.derivation, false, build.store, &build.place.link)).await
}
