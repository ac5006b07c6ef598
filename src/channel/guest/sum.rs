//! A checksum of a command's input and output: XXH64, with seed 0.
//!
//! Both ends share this file. The checksum is not cryptographic: it detects transmission faults, at the cost of a few
//! instructions for eight bytes, which matters in an emulated guest.

const PRIMES: [u64; 5] = [
    0x9e37_79b1_85eb_ca87,
    0xc2b2_ae3d_27d4_eb4f,
    0x1656_67b1_9e37_79f9,
    0x85eb_ca77_c2b2_ae63,
    0x27d4_eb2f_1656_67c5,
];
const STRIPE: usize = 32;

/// The checksum of bytes that arrive in pieces.
#[derive(Debug, Clone)]
pub struct Sum {
    lanes: [u64; 4],
    /// The bytes after the last whole stripe.
    rest: [u8; STRIPE],
    rest_len: usize,
    length: u64,
}

impl Sum {
    /// Creates the checksum of no bytes.
    pub fn new() -> Self {
        let [first, second, ..] = PRIMES;
        let lanes = [first.wrapping_add(second), second, 0, first.wrapping_neg()];
        Self { lanes, rest: [0; STRIPE], rest_len: 0, length: 0 }
    }

    /// Adds the next bytes.
    pub fn add(&mut self, mut bytes: &[u8]) {
        self.length = self.length.wrapping_add(bytes.len() as u64);
        if self.rest_len > 0 {
            let n = bytes.len().min(STRIPE - self.rest_len);
            self.rest[self.rest_len..self.rest_len + n].copy_from_slice(&bytes[..n]);
            self.rest_len += n;
            bytes = &bytes[n..];
            if self.rest_len < STRIPE {
                return;
            }
            let whole = self.rest;
            self.stripes(&whole);
        }
        let whole = bytes.len() / STRIPE * STRIPE;
        self.stripes(&bytes[..whole]);
        self.rest_len = bytes.len() - whole;
        self.rest[..self.rest_len].copy_from_slice(&bytes[whole..]);
    }

    fn stripes(&mut self, bytes: &[u8]) {
        let [mut a, mut b, mut c, mut d] = self.lanes;
        for stripe in bytes.chunks_exact(STRIPE) {
            a = round(a, word(&stripe[..8]));
            b = round(b, word(&stripe[8..16]));
            c = round(c, word(&stripe[16..24]));
            d = round(d, word(&stripe[24..]));
        }
        self.lanes = [a, b, c, d];
    }

    /// Returns the checksum of all added bytes.
    pub fn value(&self) -> u64 {
        let [first, second, third, fourth, fifth] = PRIMES;
        let mut value = fifth;
        if self.length >= STRIPE as u64 {
            let [a, b, c, d] = self.lanes;
            value = a.rotate_left(1).wrapping_add(b.rotate_left(7));
            value = value.wrapping_add(c.rotate_left(12)).wrapping_add(d.rotate_left(18));
            for lane in self.lanes {
                value = (value ^ round(0, lane)).wrapping_mul(first).wrapping_add(fourth);
            }
        }
        value = value.wrapping_add(self.length);
        let rest = &self.rest[..self.rest_len];
        let words = rest.len() / 8 * 8;
        for eight in rest[..words].chunks_exact(8) {
            value = (value ^ round(0, word(eight))).rotate_left(27).wrapping_mul(first).wrapping_add(fourth);
        }
        let mut rest = &rest[words..];
        if let [a, b, c, d, after @ ..] = rest {
            let four = u64::from(u32::from_le_bytes([*a, *b, *c, *d]));
            value =
                (value ^ four.wrapping_mul(first)).rotate_left(23).wrapping_mul(second).wrapping_add(third);
            rest = after;
        }
        for &byte in rest {
            value = (value ^ u64::from(byte).wrapping_mul(fifth)).rotate_left(11).wrapping_mul(first);
        }
        value = (value ^ (value >> 33)).wrapping_mul(second);
        value = (value ^ (value >> 29)).wrapping_mul(third);
        value ^ (value >> 32)
    }
}

fn round(lane: u64, word: u64) -> u64 {
    lane.wrapping_add(word.wrapping_mul(PRIMES[1])).rotate_left(31).wrapping_mul(PRIMES[0])
}

/// Returns eight bytes as a number; missing bytes count as zero.
fn word(bytes: &[u8]) -> u64 {
    match bytes {
        &[a, b, c, d, e, f, g, h] => u64::from_le_bytes([a, b, c, d, e, f, g, h]),
        _ => 0,
    }
}
