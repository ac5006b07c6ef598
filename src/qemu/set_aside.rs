//! Preserves images with snapshots that a run script would replace.
//!
//! A machine that is off is started by its run script, which reuses the root image and may create the others
//! again (NixOS's script does so with the image of the Nix store). Their snapshots would be lost with them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::RunDirectory;
use super::template::snapshots;
use crate::{Error, Result, sparse_copy, threads};

/// Copies the images of a run directory that hold snapshots, except the root image. Call it before the run
/// script.
///
/// # Errors
/// [`crate::ErrorKind::Io`] when they can't be copied.
pub(crate) async fn set_aside(run_dir: &RunDirectory) -> Result {
    let (tmp, folder) = (run_dir.tmp(), folder(run_dir));
    on_disk("set aside images with snapshots", move || {
        for entry in fs::read_dir(tmp)? {
            let image = entry?.path();
            if image.symlink_metadata()?.is_file() && !snapshots(&image).unwrap_or_default().is_empty() {
                sparse_copy::over(&image, &free(&folder, &image)?)?;
            }
        }
        Ok(())
    })
    .await
}

/// Makes sure that each of `images` holds the snapshot `tag`: an image that was replaced since then is
/// exchanged for the one that has it.
///
/// # Errors
/// [`crate::ErrorKind::Io`] when an image can't be moved.
pub(super) async fn put_back(images: Vec<PathBuf>, tag: &str, run_dir: &RunDirectory) -> Result {
    let (tag, folder) = (tag.to_owned(), folder(run_dir));
    on_disk("put back images with snapshots", move || {
        for image in &images {
            let holds = |image: &Path| snapshots(image).is_ok_and(|names| names.contains(&tag));
            if holds(image) {
                continue;
            }
            // If no image has it, QEMU reports that.
            let Some(aside) = all_of(&folder, image)?.into_iter().find(|aside| holds(aside)) else {
                continue;
            };
            if !snapshots(image).unwrap_or_default().is_empty() {
                fs::rename(image, free(&folder, image)?)?;
            }
            fs::rename(aside, image)?;
        }
        Ok(())
    })
    .await
}

fn folder(run_dir: &RunDirectory) -> PathBuf {
    run_dir.tmp().join(".aside")
}

/// Returns an unused path in the folder for an image.
fn free(folder: &Path, image: &Path) -> io::Result<PathBuf> {
    fs::create_dir_all(folder)?;
    let name = image.file_name().unwrap_or_default();
    let number = fs::read_dir(folder)?.count();
    let mut path = folder.join(number.to_string());
    while path.exists() {
        path.as_mut_os_string().push("+");
    }
    fs::create_dir(&path)?;
    Ok(path.join(name))
}

/// Returns the paths in the folder that belong to an image.
fn all_of(folder: &Path, image: &Path) -> io::Result<Vec<PathBuf>> {
    let name = image.file_name().unwrap_or_default();
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let paths = entries.map(|entry| Ok(entry?.path().join(name)));
    paths.filter(|path| path.as_ref().map_or(true, |path| path.is_file())).collect()
}

async fn on_disk(what: &str, work: impl FnOnce() -> io::Result<()> + Send + 'static) -> Result {
    let done = threads::aside(work).await;
    done.flatten().map_err(|error| Error::io(what, &error))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn qemu_img(arguments: &[&str]) {
        assert!(Command::new("qemu-img").args(arguments).status().unwrap().success());
    }

    #[tokio::test]
    async fn a_snapshot_outlives_the_image_that_a_script_makes_anew() {
        let run = RunDirectory::create().unwrap();
        let path = run.tmp().join("store.img");
        let image = path.to_str().unwrap().to_owned();
        let images = || vec![path.clone()];
        let made = |tag: &str| {
            qemu_img(&["create", "-q", "-f", "qcow2", &image, "1M"]);
            qemu_img(&["snapshot", "-c", tag, &image]);
        };
        fs::write(run.tmp().join("socket"), "no image").unwrap();
        made("first");
        set_aside(&run).await.unwrap();
        fs::write(&path, "raw").unwrap();
        put_back(images(), "first", &run).await.unwrap();
        assert_eq!(snapshots(&path).unwrap(), ["first"]);
        set_aside(&run).await.unwrap();
        made("second");
        for tag in ["first", "second", "second", "first"] {
            put_back(images(), tag, &run).await.unwrap();
            assert_eq!(snapshots(&path).unwrap(), [tag]);
        }
        put_back(images(), "third", &run).await.unwrap();
        assert_eq!(snapshots(&path).unwrap(), ["first"], "no image has that one");
    }
}
