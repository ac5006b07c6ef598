//! A bounded window on an endless stream of bytes, addressed by position in the stream.

/// Keeps at least the last `keep` bytes of a stream (and at most twice that, plus one piece) as one
/// contiguous slice: a search needs no seam, and moving the window costs one copy per byte.
#[derive(Debug)]
pub(super) struct Ring {
    bytes: Vec<u8>,
    /// The position in the stream of the first byte held.
    start: u64,
    keep: usize,
}

impl Ring {
    /// `piece` is the most that [`Ring::append`] adds between two calls of [`Ring::make_room`].
    pub(super) fn new(keep: usize, piece: usize) -> Self {
        // Memory that is never written to costs nothing; growing by doubling would.
        Self { bytes: Vec::with_capacity(2 * keep + piece), start: 0, keep }
    }

    /// Makes room for a piece. The last `keep` bytes from before the piece stay until the next call,
    /// so that every window that ends within the piece is there.
    pub(super) fn make_room(&mut self) {
        if self.bytes.len() > 2 * self.keep {
            let surplus = self.bytes.len() - self.keep;
            self.bytes.copy_within(surplus.., 0);
            self.bytes.truncate(self.keep);
            self.start += surplus as u64;
        }
    }

    pub(super) fn append(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// How many bytes are held.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.bytes.capacity()
    }

    /// The position of the oldest byte held.
    pub(super) fn start(&self) -> u64 {
        self.start
    }

    /// The position after the newest byte: how many bytes there ever were.
    pub(super) fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    /// The bytes from `from` to `to`, as far as they are held.
    pub(super) fn slice(&self, from: u64, to: u64) -> &[u8] {
        let index = |position: u64| (position.clamp(self.start, self.end()) - self.start) as usize;
        let (from, to) = (index(from), index(to));
        self.bytes.get(from..to).unwrap_or_default()
    }

    /// The byte at `position`, if it is held.
    pub(super) fn get(&self, position: u64) -> Option<u8> {
        self.slice(position, position + 1).first().copied()
    }
}
