//! Checks kept machines that come from another host. Nothing that their files name is run, and QEMU opens
//! only their files and those of the Nix store.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Component, Path};

use super::overlay::{self, Format};
use super::properties::Properties;
use super::save::{Description, SavedImage};
use super::{MACHINE_FILE, allowed, program, resume};
use crate::beneath::Beneath;
use crate::text;
use crate::{Error, Result};

/// The longest chain of backing images.
const DEEPEST: usize = 16;
/// The most disks that a machine may have.
const IMAGES: usize = 64;

/// Returns what the moment in `folder` asks for that only a trusted moment may have. There is one line for
/// each finding, without escape sequences. No other user may be able to change the folder during the call.
///
/// # Errors
/// [`crate::ErrorKind::Io`] when its files can't be read.
pub(crate) fn suspicious(folder: &Path) -> Result<Vec<String>> {
    let failed = |error| Error::io(format_args!("read {}", folder.display()), &error);
    let beneath = Beneath::open(folder).map_err(failed)?;
    let description = resume::read(&folder.join(MACHINE_FILE))?;
    let mut found = Vec::new();
    if program::name_of(&description.command.program).is_none() {
        found.push(format!("the program {}", description.command.program.display()));
    }
    if !description.whole || description.images.len() > IMAGES {
        found.push("it is not a kept machine".to_owned());
        return Ok(found);
    }
    let mut own = Vec::new();
    let mut places = BTreeSet::new();
    for image in &description.images {
        match of_image(&beneath, &description, image) {
            Ok(()) if places.insert(&image.own) => own.push(image.at),
            Ok(()) => found.push(format!("two disks at {}", image.own.display())),
            Err(error) => found.push(format!("the disk {}: {error}", image.saved)),
        }
    }
    found.extend(allowed::refused(&description.command, &own));
    Ok(found.iter().map(|line| text::line(line)).collect())
}

/// Whether a run script lies in the Nix store as `/nix/store/HASH-NAME/bin/run-NAME-vm`.
pub(crate) fn is_script_in_store(script: &Path) -> bool {
    let name = script.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.starts_with("run-") && name.ends_with("-vm") && allowed::is_in_store(script)
}

/// Checks that an image is one of the moment's, and that its place in the run directory is allowed.
fn of_image(folder: &Beneath, description: &Description, image: &SavedImage) -> io::Result<()> {
    let arguments = &description.command.arguments;
    let option = image.at.checked_sub(1).and_then(|at| arguments.get(at)).map(String::as_str);
    let drive = arguments.get(image.at).map(|value| Properties::parse(value));
    if !matches!(option, Some("-drive" | "--drive")) || drive.is_none_or(|drive| drive.get("file").is_none())
    {
        return Err(io::Error::other("it is not the image of a drive"));
    }
    // Run scripts put images in two places: the root disk, and files in their TMPDIR.
    let parts: Vec<_> = image.own.components().collect();
    let belongs = match parts.as_slice() {
        [Component::Normal(name)] => *name == "disk.qcow2",
        [Component::Normal(name), rest @ ..] => {
            *name == "tmp" && rest.iter().all(|part| matches!(part, Component::Normal(_)))
        }
        _ => false,
    };
    if !belongs || image.own.to_str().is_none_or(|text| text.contains(char::is_control)) {
        return Err(io::Error::other(format!("its place {}", image.own.display())));
    }
    of_chain(folder, &image.saved, description.format_of(image))
}

/// Checks that an image and its whole chain of backing images have known formats and lie in the folder or in
/// the Nix store.
fn of_chain(folder: &Beneath, name: &str, format: Format) -> io::Result<()> {
    let (mut name, mut format) = (name.to_owned(), format);
    for _ in 0..DEEPEST {
        if !is_plain(&name) {
            return Err(io::Error::other(format!("its backing image {name} is not allowed")));
        }
        let (file, _) = folder.file(&name)?;
        let Some((below, its)) = below(&file, &name, format)? else { return Ok(()) };
        if Path::new(&below).is_absolute() {
            return in_store(below, its);
        }
        (name, format) = (below, its);
    }
    Err(io::Error::other("its chain of backing images is too long"))
}

/// Does the same check for an image in the store. Every user of this host may add images to the store.
fn in_store(name: String, format: Format) -> io::Result<()> {
    let (mut name, mut format) = (name, format);
    for _ in 0..DEEPEST {
        let path = Path::new(&name);
        if !path.is_absolute() || !allowed::is_in_store(path) {
            return Err(io::Error::other(format!("its backing image {name} is not allowed")));
        }
        let file = match File::open(path) {
            // [`super::unfit`] reports a missing file.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            opened => opened?,
        };
        let Some(below) = below(&file, &name, format)? else { return Ok(()) };
        (name, format) = below;
    }
    Err(io::Error::other("its chain of backing images is too long"))
}

/// Returns the name and the format of an image's backing image.
fn below(file: &File, name: &str, format: Format) -> io::Result<Option<(String, Format)>> {
    if format == Format::Raw {
        let mut magic = [0; 4];
        // An image that is called raw must not begin like a qcow2 image, so that it does not matter which of
        // the two QEMU goes by.
        return match file.read_exact_at(&mut magic, 0) {
            Ok(()) if &magic == overlay::MAGIC => {
                Err(io::Error::other(format!("{name} is declared raw, but begins like a qcow2 image")))
            }
            _ => Ok(None),
        };
    }
    let Some(below) = overlay::Below::read(file)? else { return Ok(None) };
    let format = below
        .format
        .ok_or_else(|| io::Error::other(format!("{name} does not state the format of its backing image")))?;
    Ok(Some((below.name, format)))
}

/// Whether the backing chain of a qcow2 image in the store stays in the store.
pub(super) fn is_sound_in_store(path: &Path) -> bool {
    path.to_str().is_some_and(|name| in_store(name.to_owned(), Format::Qcow2).is_ok())
}

/// Whether QEMU takes this name for a file beside the image, and for nothing else.
fn is_plain(name: &str) -> bool {
    !name.starts_with(['.', '-'])
        && !name.is_empty()
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_image_in_the_store_lies_over_is_looked_at_too() {
        assert!(in_store("/etc/shadow".to_owned(), Format::Raw).is_err());
        assert!(in_store("beside".to_owned(), Format::Raw).is_err());
        assert!(in_store("/nix/store/gone-image/disk".to_owned(), Format::Qcow2).is_ok(), "said elsewhere");
        let folder = tempfile::tempdir().unwrap();
        let of = |bytes: &[u8], format| {
            std::fs::write(folder.path().join("image"), bytes).unwrap();
            of_chain(&Beneath::open(folder.path()).unwrap(), "image", format)
        };
        assert!(of(b"MBR", Format::Raw).is_ok() && of(b"", Format::Raw).is_ok());
        let error = of(b"QFI\xfb\0\0\0\x03", Format::Raw).unwrap_err();
        assert!(error.to_string().contains("declared raw"), "{error}");
    }
}
