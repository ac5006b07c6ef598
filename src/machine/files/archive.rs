//! Packs a file or folder as a tar archive in pieces, and unpacks it.

use std::io::{self, Read, Write};
use std::path::Path;

use tokio::sync::mpsc;

/// Maximum number of archive pieces that are queued for the channel.
pub(super) const PIECES: usize = 16;
/// The size of a piece.
const PIECE: usize = 256 << 10;

/// Packs a file or folder under another name.
pub(super) fn pack(source: &Path, name: &str, to: Pieces) -> io::Result<()> {
    let mut archive = tar::Builder::new(to);
    archive.follow_symlinks(false);
    archive.sparse(false);
    if source.symlink_metadata()?.is_dir() {
        archive.append_dir_all(name, source)?;
    } else {
        archive.append_path_with_name(source, name)?;
    }
    archive.into_inner()?.flush()
}

/// The destination of an archive: pieces for the channel.
pub(super) struct Pieces {
    sender: mpsc::Sender<Vec<u8>>,
    piece: Vec<u8>,
}

impl Pieces {
    pub(super) fn new(sender: mpsc::Sender<Vec<u8>>) -> Self {
        Self { sender, piece: Vec::with_capacity(PIECE) }
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        self.sender.blocking_send(piece).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// The source of an archive.
pub(super) struct Archive {
    pieces: mpsc::Receiver<Vec<u8>>,
    rest: Vec<u8>,
    at: usize,
}

impl Archive {
    pub(super) fn new(pieces: mpsc::Receiver<Vec<u8>>) -> Self {
        Self { pieces, rest: Vec::new(), at: 0 }
    }
}

impl Read for Archive {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.rest.len() {
            match self.pieces.blocking_recv() {
                Some(piece) => (self.rest, self.at) = (piece, 0),
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.rest.len() - self.at);
        buffer[..count].copy_from_slice(&self.rest[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::super::unpack::unpack;
    use super::*;

    #[test]
    fn what_is_packed_is_unpacked_as_it_was() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("source");
        std::fs::create_dir_all(source.join("empty folder")).unwrap();
        std::fs::write(source.join("odd\nname \u{e9}'\""), b"x").unwrap();
        std::fs::write(source.join("nothing"), b"").unwrap();
        std::fs::set_permissions(source.join("nothing"), PermissionsExt::from_mode(0o4751)).unwrap();
        symlink("nowhere", source.join("link")).unwrap();
        let (sender, pieces) = mpsc::channel(PIECES);
        pack(&source, "name", Pieces::new(sender)).unwrap();
        let target = folder.path().join("target");
        unpack(Archive::new(pieces), &target).unwrap().place().unwrap();
        assert_eq!(std::fs::read(target.join("odd\nname \u{e9}'\"")).unwrap(), b"x");
        assert_eq!(std::fs::metadata(target.join("nothing")).unwrap().permissions().mode() & 0o7777, 0o751);
        assert_eq!(std::fs::read_link(target.join("link")).unwrap(), Path::new("nowhere"));
        assert!(target.join("empty folder").is_dir());
    }
}
