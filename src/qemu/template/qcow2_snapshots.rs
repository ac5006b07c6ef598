//! The snapshots that a qcow2 image holds (docs/interop/qcow2.txt, "Snapshots").

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::overlay::{Format, format_of};

/// The most snapshots that an image may have (QCOW_MAX_SNAPSHOTS).
const MOST: u32 = 65_536;
/// The fixed part of a table entry, in bytes.
const ENTRY: usize = 40;

/// Returns the names of the snapshots in an image. Another format than qcow2 has none.
pub(in crate::qemu) fn snapshots(image: &Path) -> io::Result<Vec<String>> {
    if format_of(image)? != Format::Qcow2 {
        return Ok(Vec::new());
    }
    let file = File::open(image)?;
    let mut place = [0; 12];
    file.read_exact_at(&mut place, 60)?;
    let [a, b, c, d, at @ ..] = place;
    let count = u32::from_be_bytes([a, b, c, d]).min(MOST);
    let mut at = u64::from_be_bytes(at);
    let mut names = Vec::new();
    for _ in 0..count {
        let mut entry = [0; ENTRY];
        file.read_exact_at(&mut entry, at)?;
        let short = |from: usize| usize::from(u16::from_be_bytes([entry[from], entry[from + 1]]));
        let (id, name) = (short(12), short(14));
        let more = u32::from_be_bytes([entry[36], entry[37], entry[38], entry[39]]) as usize;
        let from = at.saturating_add((ENTRY + more + id) as u64);
        let mut text = vec![0; name];
        file.read_exact_at(&mut text, from)?;
        names.push(String::from_utf8_lossy(&text).into_owned());
        at = from.saturating_add(name as u64).next_multiple_of(8);
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn the_snapshots_that_qemu_made_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("disk");
        let qemu_img = |arguments: &[&str]| {
            assert!(Command::new("qemu-img").args(arguments).arg(&image).status().unwrap().success());
        };
        std::fs::write(&image, "raw").unwrap();
        assert_eq!(snapshots(&image).unwrap(), [""; 0]);
        std::fs::remove_file(&image).unwrap();
        assert!(
            Command::new("qemu-img")
                .args(["create", "-q", "-f", "qcow2"])
                .arg(&image)
                .arg("1M")
                .status()
                .unwrap()
                .success()
        );
        assert_eq!(snapshots(&image).unwrap(), [""; 0]);
        for name in ["a", "nixvm-1234.5-2", "wörter"] {
            qemu_img(&["snapshot", "-c", name]);
        }
        assert_eq!(snapshots(&image).unwrap(), ["a", "nixvm-1234.5-2", "wörter"]);
        qemu_img(&["snapshot", "-d", "a"]);
        assert_eq!(snapshots(&image).unwrap(), ["nixvm-1234.5-2", "wörter"]);
    }
}
