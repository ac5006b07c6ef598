//! The images that an image lies over, brought into its folder.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::overlay::{self, Below, Format};
use crate::{Error, Result, shared_file, threads};

/// Brings what an image lies over beside it, and has it named there by a path that is relative; `origin` is the folder
/// that its own relative name starts at. An image for which `stays` is true stays where it is, with all below it.
///
/// The lowest one is not changed, so a shared file gets another name where that is possible. The others are copied.
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
            // As QEMU itself found out. It was only read, so the guest did not write what is guessed from.
            None => overlay::format_of(&from)?,
        };
        origin = from.parent().unwrap_or(Path::new("/")).to_owned();
        below = self::below(&from, format)?.filter(|next| !stays(&origin.join(&next.name)));
        // Names of one length: an image has room for a name as long as the one that it has, and is gathered again.
        let name = format!("{name}-{level:02}");
        let base = top.with_file_name(&name);
        match below {
            // What it lies over gets another name in it.
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

/// Whether an image in a template's folder lies over another one there.
pub(super) fn lies_over_its_neighbour(image: &Path, format: Format) -> io::Result<bool> {
    Ok(below(image, format)?.is_some_and(|below| Path::new(&below.name).is_relative()))
}

/// Makes `image`, which was moved here from a clone, independent of the template in `store` that the clone's layer lies
/// over: a layer that nothing was written to gives way to what it lies over. Gives the format that it has then.
pub(super) async fn settle(image: &Path, format: Format, store: &Path) -> Result<Format> {
    let failed =
        |error: io::Error| Error::io(format_args!("gather the disks of {}", image.display()), &error);
    let Some(found) = below(image, format).map_err(failed)? else { return Ok(format) };
    let base = PathBuf::from(&found.name);
    // What a run script laid an image over stays where it is.
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
