//! A limited window of an endless stream of bytes, addressed by positions in the stream.

/// Keeps at least the last `keep` bytes of a stream (and at most twice that, plus one piece) as one
/// contiguous slice. A search does not have to handle a seam, and moving the window costs one copy per byte.
#[derive(Debug)]
pub(super) struct Ring {
    bytes: Vec<u8>,
    /// The stream position of the first byte that is held.
    start: u64,
    keep: usize,
}

impl Ring {
    /// Makes an empty ring. `piece` is the most that [`Ring::append`] adds between two calls of
    /// [`Ring::make_room`].
    pub(super) fn new(keep: usize, piece: usize) -> Self {
        // Memory that is never written to costs nothing, but growing by doubling would.
        Self { bytes: Vec::with_capacity(2 * keep + piece), start: 0, keep }
    }

    /// Makes room for a piece. The last `keep` bytes from before the piece stay until the next call, so that
    /// every window that ends within the piece is available.
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

    /// Returns how many bytes are held.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.bytes.capacity()
    }

    /// Returns the position of the oldest byte that is held.
    pub(super) fn start(&self) -> u64 {
        self.start
    }

    /// Returns the position after the newest byte, which is the total number of bytes.
    pub(super) fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    /// Returns the bytes from `from` to `to`, as far as they are held.
    pub(super) fn slice(&self, from: u64, to: u64) -> &[u8] {
        let index = |position: u64| (position.clamp(self.start, self.end()) - self.start) as usize;
        let (from, to) = (index(from), index(to));
        self.bytes.get(from..to).unwrap_or_default()
    }

    /// Returns the byte at `position`, if it is held.
    pub(super) fn get(&self, position: u64) -> Option<u8> {
        self.slice(position, position + 1).first().copied()
    }
}
