//! A queue of bytes in one block of memory that grows: written at its end, read from its front.

use crate::sys;
use core::slice;

const PAGE: usize = 4096;

/// A queue of bytes. It allocates no memory until it is first written.
pub struct Bytes {
    start: *mut u8,
    capacity: usize,
    head: usize,
    tail: usize,
}

impl Bytes {
    pub const fn new() -> Bytes {
        Bytes { start: core::ptr::null_mut(), capacity: 0, head: 0, tail: 0 }
    }

    pub fn len(&self) -> usize {
        self.tail - self.head
    }

    pub fn is_empty(&self) -> bool {
        self.head == self.tail
    }

    /// Returns all queued bytes.
    pub fn front(&self) -> &[u8] {
        if self.start.is_null() {
            return &[];
        }
        // SAFETY: head..tail lies within the mapping and was written.
        unsafe { slice::from_raw_parts(self.start.add(self.head), self.tail - self.head) }
    }

    /// Removes bytes from the front.
    pub fn consume(&mut self, n: usize) {
        self.head = (self.head + n).min(self.tail);
        if self.head == self.tail {
            self.head = 0;
            self.tail = 0;
        }
    }

    /// Returns room for at least `n` bytes at the end; call [`Bytes::filled`] after writing.
    pub fn room(&mut self, n: usize) -> &mut [u8] {
        if self.capacity - self.tail < n && self.head > 0 && self.len() <= self.head {
            let len = self.len();
            // SAFETY: both ranges lie within the mapping, and don't overlap.
            unsafe { self.start.copy_from_nonoverlapping(self.start.add(self.head), len) };
            self.head = 0;
            self.tail = len;
        }
        if self.capacity - self.tail < n {
            self.grow(n);
        }
        // SAFETY: tail..capacity lies within the mapping; fresh mappings are zeroed.
        unsafe { slice::from_raw_parts_mut(self.start.add(self.tail), self.capacity - self.tail) }
    }

    /// Adds `n` written bytes of the room to the queue.
    pub fn filled(&mut self, n: usize) {
        self.tail = (self.tail + n).min(self.capacity);
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.room(bytes.len())[..bytes.len()].copy_from_slice(bytes);
        self.filled(bytes.len());
    }

    /// Returns all queued bytes and never frees them.
    pub fn leak(self) -> &'static [u8] {
        let bytes = core::mem::ManuallyDrop::new(self);
        // SAFETY: head..tail was written, and the mapping is never given back.
        unsafe { slice::from_raw_parts(bytes.start.add(bytes.head), bytes.tail - bytes.head) }
    }

    fn grow(&mut self, n: usize) {
        let wanted = (self.tail + n).max(self.capacity * 2).next_multiple_of(PAGE);
        let grown = if self.start.is_null() {
            sys::map(wanted)
        } else {
            // SAFETY: start and capacity are the mapping, and no slice of it is lent.
            unsafe { sys::remap(self.start, self.capacity, wanted) }
        };
        match grown {
            Some(start) => {
                self.start = start;
                self.capacity = wanted;
            }
            // The helper can't continue without memory; the host sees the port close.
            None => sys::exit(71),
        }
    }
}

impl Drop for Bytes {
    fn drop(&mut self) {
        if !self.start.is_null() {
            // SAFETY: start and capacity are the mapping, and no slice of it is lent.
            unsafe { sys::unmap(self.start, self.capacity) };
        }
    }
}
