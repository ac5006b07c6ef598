//! Store paths of this host, copied or made into an image for a running machine.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::store::Store;
use crate::{Error, ErrorKind, Events, Result};

/// The limit for each program. Copying some gigabytes takes minutes on a slow disk.
const LIMIT: Duration = Duration::from_secs(20 * 60);
/// Maximum number of paths in one command line.
const PATHS: usize = 200;
/// The mode of a Nix store.
const STORE: u32 = 0o1775;

/// Returns what the Nix database knows about paths, for `nix-store --load-db`.
///
/// # Errors
/// [`ErrorKind::Host`] when `nix-store` can't be run or fails.
pub(crate) async fn registration(paths: &[PathBuf], events: &Events) -> Result<Vec<u8>> {
    let mut known = Vec::new();
    for paths in paths.chunks(PATHS) {
        let mut command = nix_store()?;
        command.arg("--dump-db").args(paths);
        known.extend(run(command, "read Nix's database", events).await?);
    }
    Ok(known)
}

/// Copies of store paths side by side in a folder, which is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct Staged(tempfile::TempDir);

impl Drop for Staged {
    fn drop(&mut self) {
        // The folders in a store can't be written, also not to remove something in them.
        make_writable(self.0.path());
    }
}

impl Staged {
    /// Returns the folder.
    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

fn make_writable(folder: &Path) {
    let _ = fs::set_permissions(folder, fs::Permissions::from_mode(0o700));
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            make_writable(&entry.path());
        }
    }
}

/// Copies store paths to a new folder in `folder`.
///
/// # Errors
/// [`ErrorKind::Host`] when they can't be copied, for example because the disk is full.
pub(crate) async fn stage(paths: &[&PathBuf], folder: &Path) -> Result<Staged> {
    let made = tempfile::Builder::new().prefix("store.").tempdir_in(folder).and_then(|made| {
        fs::set_permissions(made.path(), fs::Permissions::from_mode(STORE))?;
        Ok(made)
    });
    let staged = Staged(
        made.map_err(|error| Error::io(format_args!("make a folder in {}", folder.display()), &error))?,
    );
    for paths in paths.chunks(PATHS) {
        let mut command = Command::new("cp");
        command.args(["-a", "--reflink=auto", "-t"]).arg(staged.path()).arg("--").args(paths);
        run(command, "copy store paths", &Events::none()).await?;
    }
    Ok(staged)
}

/// Makes an image of a folder with the `mkfs.erofs` at `maker`. Its files belong to root, and have the times of a store.
///
/// # Errors
/// [`ErrorKind::Host`] when it can't be made.
pub(crate) async fn store_image(maker: &Path, folder: &Path, image: &Path) -> Result {
    let mut command = Command::new(maker);
    command.args(["--all-root", "-T", "0"]).arg(image).arg(folder);
    run(command, "make an image of store paths", &Events::none()).await.map(drop)
}

fn nix_store() -> Result<Command> {
    let mut command = Command::new("nix-store");
    for (name, value) in Store::find()?.options(false) {
        command.args(["--option", name, value]);
    }
    Ok(command)
}

/// Runs a program to its end and returns what it printed.
async fn run(mut command: Command, doing: &str, events: &Events) -> Result<Vec<u8>> {
    tracing::debug!(?command, "run");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let name = command.as_std().get_program().to_string_lossy().into_owned();
    let child =
        command.spawn().map_err(|error| Error::host(format_args!("{doing}: start {name}"), &error))?;
    let output = match crate::stopped::timeout(LIMIT, child.wait_with_output()).await {
        Ok(output) => output.map_err(|error| Error::host(doing, &error))?,
        Err(_) => {
            let summary = format!("{name} did not end: it was to {doing}");
            return Err(Error::new(ErrorKind::Host, summary).took(LIMIT, LIMIT));
        }
    };
    let said = crate::text::lines(String::from_utf8_lossy(&output.stderr).trim());
    if output.status.success() {
        if !said.is_empty() {
            events.note(format!("{name}: {said}"));
        }
        return Ok(output.stdout);
    }
    Err(Error::new(ErrorKind::Host, format!("could not {doing}: {name} ended with {}", output.status))
        .section("its errors", said))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn copies_of_store_paths_lie_side_by_side_and_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("a-store");
        fs::create_dir_all(store.join("x-one/bin")).unwrap();
        fs::write(store.join("x-one/bin/run"), "#!/bin/sh\n").unwrap();
        fs::write(store.join("y-two"), "two").unwrap();
        fs::set_permissions(store.join("x-one/bin"), fs::Permissions::from_mode(0o555)).unwrap();
        let paths = [store.join("x-one"), store.join("y-two")];
        let staged = stage(&paths.iter().collect::<Vec<_>>(), folder.path()).await.unwrap();
        let copy = staged.path().to_owned();
        assert_eq!(fs::read_to_string(copy.join("x-one/bin/run")).unwrap(), "#!/bin/sh\n");
        assert_eq!(fs::read_to_string(copy.join("y-two")).unwrap(), "two");
        drop(staged);
        assert!(!copy.exists());
        make_writable(&store);
    }

    #[tokio::test]
    async fn a_path_that_is_gone_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = stage(&[&folder.path().join("none")], folder.path()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Host);
        assert!(error.to_string().contains("none"), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left");
    }
}
