//! Compiles a scenario's package and makes the compiler's messages readable.

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
    // Run in the workshop, above the packages' folders, where there is no toolchain file.
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

    // Later changes are not in the binary, or only in part.
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
    // Try without the network first: it is faster, and works if all crates are already downloaded.
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

/// Brings the library that this program was built with up to date. Returns `None` if there is none, so that the file's
/// package must depend on the library. `Err` has cargo's messages for a library that does not compile.
///
/// A file with its own dependencies shares them with the library (code that runs on the library's tokio must use the
/// same tokio), so cargo resolves the crates of both together.
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
    // In the package's folder no toolchain file or cargo settings of the user's folder apply. They would cause the
    // library to be compiled again for each. Crates that are already compiled are used with the settings of their
    // compilation.
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
        // The compiler gets files in the package's own folder as relative paths.
        let relative = copied.strip_prefix(package.folder()).unwrap_or(copied);
        for copied in [copied, relative] {
            call = call.args([format!("--remap-path-prefix={}={}", copied.display(), shown.display())]);
        }
    }
    call.run(package.name(), events).await
}

/// Returns the compiler's messages with paths as the user wrote them, without the folder.
fn as_given(diagnostics: &str, file: &Path) -> String {
    match std::env::current_dir() {
        Ok(here) if file.starts_with(&here) => diagnostics.replace(&format!("{}/", here.display()), ""),
        _ => diagnostics.to_owned(),
    }
}
