//! Compiles a scenario's package and makes something readable of what the compiler says.

use std::path::Path;
use std::time::Instant;

use super::cargo::{Call, Cargo, compiler_version};
use super::manifest::{self, Needs, Root};
use super::own_build::Linked;
use super::record::{Before, Record};
use super::workshop::Package;
use super::{Compiled, Compiler, complete, frontmatter, lock, source};
use crate::{Error, Event, Events, Result};

/// Compiles `file`, unless another process just did.
pub(super) async fn run(compiler: &Compiler, file: &Path, events: &Events) -> Result<Compiled> {
    let Compiler { workshop, library, .. } = compiler;
    let text = source::text(file)?;
    // Above the packages' folders, where no toolchain file is.
    let asked_in = compiler.own_build.as_ref().map_or(workshop.folder(), |own| own.folder());
    let version = compiler_version(asked_in).await?;
    if !workshop.is_made_for(&version)? {
        let _alone = lock::exclusive(&workshop.lock_file(), events).await?;
        workshop.made_for(&version)?;
    }
    let compiling = lock::shared(&workshop.lock_file(), events).await?;
    let package = workshop.package(file);
    std::fs::create_dir_all(package.folder())
        .map_err(|source| Error::io(format_args!("make {}", package.folder().display()), &source))?;
    let _this_one = lock::exclusive(&package.lock_file(), events).await?;
    if let Some(binary) = package.fresh(library) {
        return Ok(Compiled { diagnostics: String::new(), binary: Ok(binary) });
    }

    // What changes from here on is not in the binary, or not all of it.
    let before = Before::now(text, library);
    let what = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let started = Instant::now();
    let front = frontmatter::split(&before.text)?;
    let linked = match own_library(compiler, front.is_some(), events).await? {
        Ok(linked) => linked,
        Err(cargo) => {
            let diagnostics = as_given(&cargo.diagnostics, file);
            return Ok(Compiled { diagnostics, binary: Err(cargo.failure("the library of nixvm-test")) });
        }
    };
    if linked.is_none() && workshop.is_new() {
        events.note("compiling the library for scenarios: the first time only");
    }
    events.send(Event::BuildStarted { what: what.clone() });
    let as_built = compiler.own_build.is_some();
    let needs = linked.is_none().then_some(Needs { library, as_built });
    let root = manifest::write(&package, needs, file, front.as_ref())?;
    // What is there already first: it works without a network, and is faster.
    let mut cargo = run_cargo(compiler, &package, &root, linked.as_ref(), true, events).await?;
    if cargo.executable(package.name()).is_none() && cargo.diagnostics.is_empty() {
        tracing::debug!(said = cargo.said, "not offline");
        cargo = run_cargo(compiler, &package, &root, linked.as_ref(), false, events).await?;
    }
    workshop.touch();
    let diagnostics = as_given(&cargo.diagnostics, file);
    let binary = match cargo.executable(package.name()).map(Path::to_owned) {
        Some(binary) if cargo.status.success() => {
            complete::check(file, &binary, &package.files_read(&binary)).await?;
            package.record(&Record::of(file, before, &binary, library, &package))?;
            events.send(Event::BuildFinished { what, result: binary.clone(), took: started.elapsed() });
            Ok(binary)
        }
        _ => Err(cargo.failure(&what)),
    };
    drop(compiling);
    if let Some(_alone) = lock::try_exclusive(&workshop.lock_file()) {
        workshop.prune();
    }
    Ok(Compiled { diagnostics, binary })
}

/// The library that this program was built with, up to date; `None` where there is none, and the file's package has to
/// depend on one. `Err` is what cargo said of a library that does not compile.
///
/// A file that brings dependencies of its own has them in common with the library (what runs on its tokio has to be that
/// tokio), so cargo puts the crates of both together.
async fn own_library(
    compiler: &Compiler,
    has_dependencies: bool,
    events: &Events,
) -> Result<std::result::Result<Option<Linked>, Cargo>> {
    let Some(own) = compiler.own_build.as_ref().filter(|_| !has_dependencies) else { return Ok(Ok(None)) };
    let cargo = own.library(compiler.colour, compiler.own_group, events).await?;
    if cargo.status.success() {
        return Ok(Ok(own.linked(&cargo)));
    }
    tracing::debug!(said = cargo.said, "this program's own build can't be used");
    Ok(if cargo.diagnostics.is_empty() { Ok(None) } else { Err(cargo) })
}

async fn run_cargo(
    compiler: &Compiler,
    package: &Package,
    root: &Root,
    linked: Option<&Linked>,
    offline: bool,
    events: &Events,
) -> Result<Cargo> {
    // In the package's folder no toolchain file or cargo settings of the user's folder apply, which would make the
    // library be compiled again for each. What is compiled already is used with the settings that it was compiled with.
    let folder = compiler.own_build.as_ref().map_or(package.folder(), |own| own.folder());
    let mut call = Call::new("rustc", &package.manifest(), folder)
        .args(["--bin", package.name()])
        .target(compiler.workshop.target())
        .args(offline.then_some("--offline"))
        .colour(compiler.colour)
        .own_group(compiler.own_group)
        .args(["--"])
        .args(linked.map(Linked::arguments).unwrap_or_default());
    if let Some((copied, shown)) = &root.shown_as {
        // The compiler is told of files in the package's own folder by their relative paths.
        let relative = copied.strip_prefix(package.folder()).unwrap_or(copied);
        for copied in [copied, relative] {
            call = call.args([format!("--remap-path-prefix={}={}", copied.display(), shown.display())]);
        }
    }
    call.run(package.name(), events).await
}

/// The compiler's messages with paths as the user has them: without the folder they are in.
fn as_given(diagnostics: &str, file: &Path) -> String {
    match std::env::current_dir() {
        Ok(here) if file.starts_with(&here) => diagnostics.replace(&format!("{}/", here.display()), ""),
        _ => diagnostics.to_owned(),
    }
}
