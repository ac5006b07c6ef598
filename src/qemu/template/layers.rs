//! Gathers the backing images of an image in its folder.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::overlay::{self, Below, Format};
use crate::{Error, Result, shared_file, threads};

/// Puts the backing images of `image` beside it, and makes it name them by relative paths. `origin` is the
/// folder that the image's own relative backing name refers to. A backing image for which `stays` returns
/// true stays in its place, with all images below it.
///
/// The lowest image is not modified, so it gets a hard link if it is shared and the file system allows that.
/// The others are copied.
pub(super) async fn gather(
    image: &Path,
    format: Format,
    origin: &Path,
    stays: impl Fn(&Path) -> bool + Send + 'static,
) -> Result {
    let (top, origin) = (image.to_owned(), origin.to_owned());
    let gathered = threads::aside(move || gather_now(&top, format, origin, stays)).await;
    gathered
        .flatten()
        .map_err(|error| Error::io(format_args!("gather the disks of {}", image.display()), &error))
}

fn gather_now(
    image: &Path,
    format: Format,
    mut origin: PathBuf,
    stays: impl Fn(&Path) -> bool,
) -> io::Result<()> {
    let name = image.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut top = image.to_owned();
    let mut below = below(image, format)?;
    for level in 1.. {
        let Some(found) = below else { break };
        let from = origin.join(&found.name);
        if stays(&from) {
            break;
        }
        let format = match found.format {
            Some(format) => format,
            // This is QEMU's own guess. The image was only read, so the guest did not write the bytes that
            // decide.
            None => overlay::format_of(&from)?,
        };
        origin = from.parent().unwrap_or(Path::new("/")).to_owned();
        below = self::below(&from, format)?.filter(|next| !stays(&origin.join(&next.name)));
        // All names have the same length: an image has room for a name no longer than its present one, and it
        // may be gathered again.
        let name = format!("{name}-{level:02}");
        let base = top.with_file_name(&name);
        match below {
            // Its name for its own backing image is about to change, so it is copied.
            Some(_) => crate::sparse_copy::copy(&from, &base)?,
            None => shared_file::hold(&from, &base)?,
        }
        overlay::set_below(&top, &name)?;
        top = base;
    }
    Ok(())
}

fn below(image: &Path, format: Format) -> io::Result<Option<Below>> {
    match format {
        Format::Raw => Ok(None),
        Format::Qcow2 => Below::read(&File::open(image)?),
    }
}

/// Whether an image in a template's folder has its backing image in the same folder.
pub(super) fn lies_over_its_neighbour(image: &Path, format: Format) -> io::Result<bool> {
    Ok(below(image, format)?.is_some_and(|below| Path::new(&below.name).is_relative()))
}

/// Makes `image`, which was moved here from a clone, independent of the template in `store` that the clone's
/// layer is based on. A layer without any write is replaced by its backing image. Returns the format that the
/// image has afterwards.
pub(super) async fn settle(image: &Path, format: Format, store: &Path) -> Result<Format> {
    let failed =
        |error: io::Error| Error::io(format_args!("gather the disks of {}", image.display()), &error);
    let Some(found) = below(image, format).map_err(failed)? else { return Ok(format) };
    let base = PathBuf::from(&found.name);
    // A backing image outside of the template came from the run script, and stays in its place.
    if !base.starts_with(store) {
        return Ok(format);
    }
    let (to, its) = (image.to_owned(), found.format.unwrap_or(Format::Qcow2));
    let origin = base.parent().unwrap_or(store).to_owned();
    let settled = threads::aside(move || {
        if !overlay::is_empty(&to)? {
            return Ok(format);
        }
        fs::remove_file(&to)?;
        match lies_over_its_neighbour(&base, its)? {
            true => crate::sparse_copy::copy(&base, &to)?,
            false => shared_file::hold(&base, &to)?,
        }
        Ok(its)
    });
    let format = settled.await.flatten().map_err(failed)?;
    let store = store.to_owned();
    gather(image, format, &origin, move |below| !below.starts_with(&store)).await?;
    Ok(format)
}
