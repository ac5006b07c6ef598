//! A disk image that holds changes over a backing image that is never modified.
//!
//! This module writes it instead of qemu-img, whose start takes longer than everything else about a clone's
//! disk. The format is version 3 of QEMU's docs/interop/qcow2.txt.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

pub(super) const MAGIC: &[u8; 4] = b"QFI\xfb";
/// 64 KiB, which is qemu-img's default.
const CLUSTER_BITS: u32 = 16;
const CLUSTER: u64 = 1 << CLUSTER_BITS;
const HEADER: u32 = 104;
/// The header extension that states the format of the backing image.
const BACKING_FORMAT: u32 = 0xe279_2aca;
/// The header extension that names an external data file.
const DATA_FILE: u32 = 0x4441_5441;
/// Features that do not change where data is: dirty, corrupt, compression type, extended entries. Bit 2, an
/// external data file, is not among them.
const KNOWN_FEATURES: u64 = 0b1_1011;
/// The header length of version 2, which has no features and no earlier extensions.
const OLD_HEADER: u32 = 72;
/// The shortest header of version 3.
const NEW_HEADER: u32 = 104;
/// Extensions that do not change where data is: names of features, and bitmaps.
const HARMLESS: [u32; 2] = [0x6803_f857, 0x2385_2875];
/// The cluster sizes that QEMU accepts, as powers of two: 512 bytes to 2 MiB.
const CLUSTER_SIZES: std::ops::RangeInclusive<u32> = 9..=21;
/// The clusters of a new image: header, refcount table, refcount block, and level-1 table.
const CLUSTERS: u64 = 4;
/// The bytes that one entry of the level-1 table maps. A level-2 table has an entry of 8 bytes for each
/// cluster.
const MAPPED: u64 = CLUSTER / 8 * CLUSTER;
/// The largest disk, 4 TiB: its level-1 table fills one cluster.
const LARGEST: u64 = CLUSTER / 8 * MAPPED;

/// The format of a disk image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Format {
    Qcow2,
    Raw,
}

impl Format {
    /// Returns QEMU's name for the format.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Qcow2 => "qcow2",
            Self::Raw => "raw",
        }
    }
}

/// Creates the image `path`, which reads as `below` until it is written to. Its header names `below` exactly
/// as given.
pub(super) fn create(path: &Path, below: &Path, format: Format) -> io::Result<()> {
    let size = size_of(below, format)?;
    let name = below.as_os_str().as_bytes();
    if name.len() > 1023 || size > LARGEST {
        return Err(io::Error::other(format!("{} is too large, or its name is too long", below.display())));
    }
    let format = format.name();
    let mut extensions = Vec::new();
    extensions.extend(BACKING_FORMAT.to_be_bytes());
    extensions.extend((format.len() as u32).to_be_bytes());
    extensions.extend(format.as_bytes());
    extensions.resize(extensions.len().next_multiple_of(8) + 8, 0);

    let mut header = Vec::with_capacity(4096);
    header.extend(MAGIC);
    header.extend(3u32.to_be_bytes());
    header.extend((u64::from(HEADER) + extensions.len() as u64).to_be_bytes());
    header.extend((name.len() as u32).to_be_bytes());
    header.extend(CLUSTER_BITS.to_be_bytes());
    header.extend(size.to_be_bytes());
    header.extend(0u32.to_be_bytes()); // not encrypted
    header.extend((size.div_ceil(MAPPED) as u32).to_be_bytes());
    header.extend((3 * CLUSTER).to_be_bytes()); // the level-1 table, empty
    header.extend(CLUSTER.to_be_bytes()); // the refcount table
    header.extend(1u32.to_be_bytes()); // of one cluster
    header.extend(0u32.to_be_bytes()); // no snapshots
    header.extend(0u64.to_be_bytes());
    header.extend([0; 24]); // no features
    header.extend(4u32.to_be_bytes()); // refcounts of 16 bits
    header.extend(HEADER.to_be_bytes());
    header.extend(extensions);
    header.extend(name);

    let mut file = File::create_new(path)?;
    file.set_len(CLUSTERS * CLUSTER)?;
    file.write_all(&header)?;
    file.write_all_at(&(2 * CLUSTER).to_be_bytes(), CLUSTER)?;
    file.write_all_at(&[0, 1].repeat(CLUSTERS as usize), 2 * CLUSTER)
}

/// What a qcow2 image of unknown origin states about its backing image.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Below {
    /// The name, as the image states it.
    pub(super) name: String,
    /// The format, if the image states one. QEMU would guess a missing one.
    pub(super) format: Option<Format>,
}

impl Below {
    /// Reads the header of `file`. Returns `None` if the image has no backing image.
    ///
    /// # Errors
    /// The errors of reading, and [`io::ErrorKind::InvalidData`] if the file is not a qcow2 image, has its
    /// data in another file, or can't be parsed.
    pub(super) fn read(file: &File) -> io::Result<Option<Self>> {
        let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let number = |at: u64| {
            let mut bytes = [0; 4];
            file.read_exact_at(&mut bytes, at).map(|()| u32::from_be_bytes(bytes))
        };
        let large = |at: u64| {
            let mut bytes = [0; 8];
            file.read_exact_at(&mut bytes, at).map(|()| u64::from_be_bytes(bytes))
        };
        if number(0)?.to_be_bytes() != *MAGIC {
            return Err(bad("it is not a qcow2 image"));
        }
        let header = match number(4)? {
            2 => OLD_HEADER,
            3 => Some(number(100)?)
                .filter(|its| *its >= NEW_HEADER)
                .ok_or_else(|| bad("its header is damaged"))?,
            _ => return Err(bad("its version is unknown")),
        };
        if header != OLD_HEADER && large(72)? & !KNOWN_FEATURES != 0 {
            return Err(bad("its data is in another file, or it has unknown features"));
        }
        let (at, length, cluster_bits) = (large(8)?, number(16)?, number(20)?);
        if !CLUSTER_SIZES.contains(&cluster_bits) {
            return Err(bad("its clusters have an unsupported size"));
        }
        // QEMU itself reads at most one cluster.
        let cluster = 1u64 << cluster_bits;
        let end = if at == 0 { cluster } else { at };
        if end > cluster || u64::from(header) > end {
            return Err(bad("its header is damaged"));
        }
        let mut format = None;
        let mut place = u64::from(header);
        while place < end {
            let (kind, size) = (number(place)?, number(place + 4)?);
            place += 8;
            if place + u64::from(size) > end {
                return Err(bad("its header is damaged"));
            }
            match kind {
                0 => break,
                DATA_FILE => return Err(bad("its data is in another file")),
                // QEMU uses the last of several.
                BACKING_FORMAT if size <= 16 && format.is_none() => {
                    let mut name = vec![0; size as usize];
                    file.read_exact_at(&mut name, place)?;
                    format = match name.as_slice() {
                        b"raw" => Some(Format::Raw),
                        b"qcow2" => Some(Format::Qcow2),
                        _ => return Err(bad("its backing image is neither raw nor qcow2")),
                    };
                }
                BACKING_FORMAT => return Err(bad("it states the format of its backing image twice")),
                kind if HARMLESS.contains(&kind) => {}
                _ => return Err(bad("its header has an unknown extension")),
            }
            place += u64::from(size).next_multiple_of(8);
        }
        if at == 0 {
            return Ok(None);
        }
        // 1023 bytes is the maximum (docs/interop/qcow2.txt).
        let mut name = vec![0; usize::try_from(length).unwrap_or(usize::MAX).min(1024)];
        file.read_exact_at(&mut name, at)?;
        let name = String::from_utf8(name).map_err(|_| bad("the name of its backing image is not UTF-8"))?;
        if length > 1023 || name.contains(char::is_control) {
            return Err(bad("the name of its backing image is not a path"));
        }
        Ok(Some(Self { name, format }))
    }
}

/// Whether an image that [`create`] made has no writes, so that it reads like its backing image.
pub(super) fn is_empty(path: &Path) -> io::Result<bool> {
    let file = File::open(path)?;
    let mut header = [0; 72];
    file.read_exact_at(&mut header, 0)?;
    let number = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let large = |at: usize| (u64::from(number(at)) << 32) | u64::from(number(at + 4));
    let (entries, at, snapshots) = (number(36), large(40), number(60));
    if header[..4] != *MAGIC
        || number(20) != CLUSTER_BITS
        || u64::from(entries) * 8 > CLUSTER
        || snapshots > 0
    {
        return Ok(false);
    }
    let mut table = vec![0; entries as usize * 8];
    file.read_exact_at(&mut table, at)?;
    Ok(table.iter().all(|byte| *byte == 0))
}

/// Sets the name of the backing image. The new name may not be longer than the present one.
pub(super) fn set_below(path: &Path, name: &str) -> io::Result<()> {
    let file = File::options().read(true).write(true).open(path)?;
    let (at, length) = place_of_name(&file)?;
    if name.len() > length {
        return Err(io::Error::other(format!("no room for {name} in {}", path.display())));
    }
    // Overwrites all of the old name, which reveals paths of this host.
    let mut whole = name.as_bytes().to_vec();
    whole.resize(length, 0);
    file.write_all_at(&whole, at)?;
    file.write_all_at(&(name.len() as u32).to_be_bytes(), 16)
}

/// Returns the offset of the backing image's name, and its length.
fn place_of_name(file: &File) -> io::Result<(u64, usize)> {
    let mut place = [0; 12];
    file.read_exact_at(&mut place, 8)?;
    let [a, b, c, d, e, f, g, h, rest @ ..] = place;
    // 1023 bytes is the maximum (docs/interop/qcow2.txt).
    let length = u32::from_be_bytes(rest).min(1023);
    Ok((u64::from_be_bytes([a, b, c, d, e, f, g, h]), length as usize))
}

/// Guesses an image's format from its first bytes, as QEMU does.
pub(super) fn format_of(path: &Path) -> io::Result<Format> {
    let mut magic = [0; 4];
    match File::open(path)?.read_exact(&mut magic) {
        Ok(()) if &magic == MAGIC => Ok(Format::Qcow2),
        Ok(()) => Ok(Format::Raw),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(Format::Raw),
        Err(error) => Err(error),
    }
}

/// Returns the size of the disk that the guest sees, in bytes.
fn size_of(path: &Path, format: Format) -> io::Result<u64> {
    let file = File::open(path)?;
    match format {
        Format::Raw => Ok(file.metadata()?.len()),
        Format::Qcow2 => {
            let mut size = [0; 8];
            file.read_exact_at(&mut size, 24)?;
            Ok(u64::from_be_bytes(size))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn qemu_img(arguments: &[&str]) -> String {
        let output = Command::new("qemu-img").args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn qemu_finds_the_image_sound_and_reads_through_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("raw"), [7u8; 102_400]).unwrap();
        qemu_img(&["create", "-q", "-f", "qcow2", path("large").to_str().unwrap(), "700G"]);
        for (below, format, size) in [("raw", Format::Raw, 102_400u64), ("large", Format::Qcow2, 700 << 30)] {
            let overlay = path(&format!("over {below}"));
            create(&overlay, &path(below), format_of(&path(below)).unwrap()).unwrap();
            assert_eq!(format_of(&overlay).unwrap(), Format::Qcow2);
            let overlay = overlay.to_str().unwrap();
            assert!(qemu_img(&["check", overlay]).contains("No errors"));
            let info: serde_json::Value =
                serde_json::from_str(&qemu_img(&["info", "--output=json", overlay])).unwrap();
            assert_eq!(info["virtual-size"], size);
            assert_eq!(info["full-backing-filename"], path(below).to_str().unwrap());
            let name = if format == Format::Raw { "raw" } else { "qcow2" };
            assert_eq!(info["backing-filename-format"], name);
            if format == Format::Raw {
                qemu_img(&["compare", overlay, path(below).to_str().unwrap()]);
            }
        }
    }

    #[test]
    fn an_image_is_empty_until_something_is_written_to_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("below"), vec![7u8; 1 << 20]).unwrap();
        let io = |command: &str| {
            let image = path("over");
            let status =
                Command::new("qemu-io").args(["-f", "qcow2", "-c", command]).arg(image).output().unwrap();
            assert!(status.status.success(), "{command}");
        };
        for (command, empty) in [
            ("read 0 4096", true),
            ("flush", true),
            ("write 0 512", false),
            ("write -z 0 65536", false),
            ("discard 0 65536", false),
        ] {
            create(&path("over"), &path("below"), Format::Raw).unwrap();
            assert!(is_empty(&path("over")).unwrap());
            io(command);
            assert_eq!(is_empty(&path("over")).unwrap(), empty, "{command}");
            std::fs::remove_file(path("over")).unwrap();
        }
        create(&path("over"), &path("below"), Format::Raw).unwrap();
        qemu_img(&["snapshot", "-c", "moment", path("over").to_str().unwrap()]);
        assert!(!is_empty(&path("over")).unwrap(), "a snapshot is something");
        for bytes in [&b""[..], b"QFI\xfb", &[7; 4096]] {
            std::fs::write(path("other"), bytes).unwrap();
            assert!(!is_empty(&path("other")).unwrap_or(false));
        }
    }

    #[test]
    fn an_image_and_the_one_below_it_can_be_moved_together() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("a base with a long name"), [7u8; 102_400]).unwrap();
        create(&path("over"), &path("a base with a long name"), Format::Raw).unwrap();
        let named = |name: &str| Below::read(&File::open(path(name)).unwrap()).map(|below| below.unwrap());
        let below = named("over").unwrap();
        assert_eq!(below.name, path("a base with a long name").to_str().unwrap());
        assert_eq!(below.format, Some(Format::Raw));
        assert!(named("a base with a long name").is_err(), "it is no qcow2 image");
        set_below(&path("over"), "base").unwrap();
        assert!(set_below(&path("over"), "longer than base").is_err());
        let elsewhere = tempfile::tempdir().unwrap();
        std::fs::rename(path("over"), elsewhere.path().join("over")).unwrap();
        std::fs::rename(path("a base with a long name"), elsewhere.path().join("base")).unwrap();
        let over = elsewhere.path().join("over");
        assert!(qemu_img(&["check", over.to_str().unwrap()]).contains("No errors"));
        let base = elsewhere.path().join("base");
        qemu_img(&["compare", "-F", "raw", over.to_str().unwrap(), base.to_str().unwrap()]);
    }

    #[test]
    fn an_image_that_is_there_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let (path, below) = (folder.path().join("disk"), folder.path().join("below"));
        std::fs::write(&below, "x").unwrap();
        std::fs::write(&path, "precious").unwrap();
        assert!(create(&path, &below, Format::Raw).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    }

    /// Creates an image over `below` with these extensions. The name of the backing image is at the end of
    /// the cluster.
    fn with_extensions(path: &Path, cluster_bits: u32, at: u64, extensions: &[(u32, &[u8])]) {
        let mut bytes = vec![0; (3 << cluster_bits.min(21)) + 4096];
        bytes[..4].copy_from_slice(MAGIC);
        bytes[4..8].copy_from_slice(&3u32.to_be_bytes());
        bytes[8..16].copy_from_slice(&at.to_be_bytes());
        bytes[16..20].copy_from_slice(&5u32.to_be_bytes());
        bytes[20..24].copy_from_slice(&cluster_bits.to_be_bytes());
        bytes[100..104].copy_from_slice(&HEADER.to_be_bytes());
        let mut place = HEADER as usize;
        for (kind, data) in extensions {
            bytes[place..place + 4].copy_from_slice(&kind.to_be_bytes());
            bytes[place + 4..place + 8].copy_from_slice(&(data.len() as u32).to_be_bytes());
            bytes[place + 8..place + 8 + data.len()].copy_from_slice(data);
            place += 8 + data.len().next_multiple_of(8);
        }
        if let Some(name) = bytes.get_mut(at as usize..at as usize + 5).filter(|_| at > 0) {
            name.copy_from_slice(b"below");
        }
        std::fs::write(path, bytes).unwrap();
    }

    #[test]
    fn what_qemu_reads_of_the_header_is_read_and_what_is_doubtful_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image");
        let filler = vec![0; 70_000];
        let features = HARMLESS[0];
        let read = |cluster_bits, at, extensions: &[(u32, &[u8])]| {
            with_extensions(&path, cluster_bits, at, extensions);
            Below::read(&File::open(&path).unwrap())
        };
        let format = |result: io::Result<Option<Below>>| result.unwrap().unwrap().format;
        let far = 0x19_0000;
        assert_eq!(format(read(21, far, &[(BACKING_FORMAT, b"raw")])), Some(Format::Raw));
        let behind: [(u32, &[u8]); 2] = [(features, &filler), (BACKING_FORMAT, b"qcow2")];
        assert_eq!(format(read(21, far, &behind)), Some(Format::Qcow2), "as far as QEMU reads");
        let ended: [(u32, &[u8]); 2] = [(0, b""), (BACKING_FORMAT, b"qcow2")];
        assert_eq!(format(read(21, far, &ended)), None, "QEMU reads no further");
        for (cluster_bits, at, extensions) in [
            (
                21,
                far,
                &[(BACKING_FORMAT, b"raw".as_slice()), (features, &filler), (BACKING_FORMAT, b"qcow2")][..],
            ),
            (16, 4096, &[(BACKING_FORMAT, b"raw"), (BACKING_FORMAT, b"raw")]),
            (21, far, &[(BACKING_FORMAT, b"raw"), (0x1234_5678, &filler), (BACKING_FORMAT, b"qcow2")]),
            (21, 0, &[(features, &filler), (DATA_FILE, b"/etc/shadow")]),
            (16, 4096, &[(BACKING_FORMAT, b"vmdk")]),
            (16, 4096, &[(0x0537_be77, &[0; 16])]),
            (16, 4096, &[(features, &filler[..5000])]),
            (16, 112, &[(BACKING_FORMAT, b"raw")]),
            (16, 70_000, &[(BACKING_FORMAT, b"raw")]),
            (16, 50, &[]),
            (22, 4096, &[(BACKING_FORMAT, b"raw")]),
            (8, 200, &[(BACKING_FORMAT, b"raw")]),
            (u32::MAX, 4096, &[]),
        ] {
            assert!(read(cluster_bits, at, extensions).is_err(), "{cluster_bits} {at} {}", extensions.len());
        }
    }
}
