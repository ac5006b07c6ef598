//! Checksums of copies, computed at both ends.
//!
//! If the helper serves the channel, it computes them itself as the bytes pass through it (XXH64): in an emulated
//! guest, one more process in a pipeline costs more than everything else. Otherwise cksum(1) does, which encodes the
//! length as POSIX specifies.

use crc::{CRC_32_CKSUM, Crc, Digest, Table};

use crate::channel::{Channel, Sum};
use crate::{Error, ErrorKind, Result};

static CKSUM: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_CKSUM);

/// The checksum of the bytes seen so far, to be compared with the guest's.
pub(super) enum Check {
    /// Compared with the channel's own.
    Channel(Sum),
    /// Compared with the output of cksum(1).
    Cksum(Cksum),
}

impl Check {
    /// Creates the check for a copy on this channel.
    pub(super) fn on(channel: &Channel) -> Self {
        match channel.is_whole() {
            true => Self::Channel(Sum::new()),
            false => Self::Cksum(Cksum::new()),
        }
    }

    /// Returns whether the channel computes its own.
    pub(super) fn is_channels(&self) -> bool {
        matches!(self, Self::Channel(_))
    }

    pub(super) fn add(&mut self, bytes: &[u8]) {
        match self {
            Self::Channel(sum) => sum.add(bytes),
            Self::Cksum(sum) => sum.add(bytes),
        }
    }

    /// Compares with the guest. `said` ends with the output of the guest's cksum, if it was run; `sum` is the
    /// channel's.
    pub(super) fn compare(self, said: &str, sum: Option<u64>, what: &str) -> Result {
        let ours = match self {
            Self::Cksum(ours) => return ours.compare(said, what),
            Self::Channel(ours) => ours.value(),
        };
        if sum == Some(ours) {
            return Ok(());
        }
        let theirs = sum.map_or("none".to_owned(), |sum| format!("{sum:016x}"));
        let summary = format!("{what} arrived damaged: the checksum here is {ours:016x}, there {theirs}");
        Err(Error::new(ErrorKind::Other, summary))
    }
}

/// The checksum of the bytes seen so far, as cksum(1) computes it: it includes the length.
pub(super) struct Cksum {
    digest: Digest<'static, u32, Table<16>>,
    length: u64,
}

impl Cksum {
    pub(super) fn new() -> Self {
        Self { digest: CKSUM.digest(), length: 0 }
    }

    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.digest.update(bytes);
        self.length += bytes.len() as u64;
    }

    /// Compares with the guest's: `said` ends with the output of the guest's cksum.
    pub(super) fn compare(mut self, said: &str, what: &str) -> Result {
        let length = self.length;
        let mut rest = length;
        while rest > 0 {
            self.digest.update(&[(rest & 0xff) as u8]);
            rest >>= 8;
        }
        let ours = format!("{} {length}", self.digest.finalize());
        // tar's warnings may surround it.
        if said.lines().any(|line| line.trim() == ours) {
            return Ok(());
        }
        let summary = format!("{what} arrived damaged: checksum and length are not {ours}");
        Err(Error::new(ErrorKind::Other, summary).section("what cksum said there", said))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_cksum() {
        let mut sum = Cksum::new();
        sum.add(b"hello\n");
        sum.compare("tar: a warning\n3015617425 6\ntar: another\n", "x").unwrap();
        assert!(Cksum::new().compare("4294967295 0", "x").is_ok());
        assert!(Cksum::new().compare("1 0", "x").is_err());
    }

    #[test]
    fn the_channels_checksum_is_xxh64() {
        let of = |pieces: &[&[u8]]| {
            let mut sum = Sum::new();
            pieces.iter().for_each(|piece| sum.add(piece));
            sum.value()
        };
        assert_eq!(of(&[]), 0xef46_db37_51d8_e999);
        assert_eq!(of(&[b"a"]), 0xd24e_c4f1_a98c_6e5b);
        assert_eq!(of(&[b"abc"]), 0x44bc_2cf5_ad77_0999);
        let long: Vec<u8> = (0..1000u32).map(|at| (at * 31) as u8).collect();
        for (one, other) in [(0, 1000), (1, 7), (31, 64), (32, 33), (100, 999)] {
            assert_eq!(of(&[&long[..one], &long[one..other], &long[other..]]), of(&[&long]));
        }
    }

    #[test]
    fn a_checksum_that_differs_or_is_missing_is_damage() {
        let ours = || {
            let mut sum = Sum::new();
            sum.add(b"a");
            Check::Channel(sum)
        };
        ours().compare("", Some(0xd24e_c4f1_a98c_6e5b), "x").unwrap();
        assert!(ours().compare("", Some(1), "x").is_err());
        assert!(ours().compare("", None, "x").unwrap_err().to_string().contains("x arrived damaged"));
    }
}
