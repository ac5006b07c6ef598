//! DHCP messages: what is read of a request (RFC 2131, RFC 2132), and how an answer is written.

use std::net::Ipv4Addr;

use super::super::frame::Mac;

/// The length of a message without its options.
const FIXED: usize = 236;

/// What options begin with.
const COOKIE: [u8; 4] = [99, 130, 83, 99];

/// Clients may expect this length at least (RFC 1542).
const SHORTEST: usize = 300;

/// The types of messages.
pub(super) const DISCOVER: u8 = 1;
pub(super) const OFFER: u8 = 2;
pub(super) const REQUEST: u8 = 3;
pub(super) const ACK: u8 = 5;
pub(super) const NAK: u8 = 6;
pub(super) const INFORM: u8 = 8;

/// The numbers of options.
pub(super) mod option {
    pub(in super::super) const SUBNET_MASK: u8 = 1;
    pub(in super::super) const HOST_NAME: u8 = 12;
    pub(in super::super) const BROADCAST: u8 = 28;
    pub(in super::super) const REQUESTED: u8 = 50;
    pub(in super::super) const LEASE_TIME: u8 = 51;
    pub(in super::super) const TYPE: u8 = 53;
    pub(in super::super) const SERVER: u8 = 54;
    pub(in super::super) const CLIENT: u8 = 61;
}

/// A request of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request<'a> {
    pub(super) kind: u8,
    /// Transaction, seconds and flags, which an answer repeats in part.
    transaction: [u8; 4],
    flags: [u8; 2],
    pub(super) client: Mac,
    /// The address that the client uses, or 0.0.0.0.
    pub(super) current: Ipv4Addr,
    /// The address that it would like.
    pub(super) requested: Option<Ipv4Addr>,
    /// The server that it has chosen.
    pub(super) server: Option<Ipv4Addr>,
    /// Its own name for itself, which an answer repeats (RFC 6842).
    pub(super) identifier: Option<&'a [u8]>,
}

impl<'a> Request<'a> {
    /// Reads a request. None for everything else, and for what a relay has passed on.
    pub(super) fn read(message: &'a [u8]) -> Option<Self> {
        let (fixed, options) = message.split_first_chunk::<FIXED>()?;
        let options = options.strip_prefix(&COOKIE)?;
        let address = |at: usize| Ipv4Addr::new(fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]);
        // A request, over Ethernet, with an address of six bytes, that came directly.
        if fixed[..4] != [1, 1, 6, 0] || !address(24).is_unspecified() {
            return None;
        }
        let find = |wanted| find(options, wanted);
        let find_address = |wanted| Some(Ipv4Addr::from(<[u8; 4]>::try_from(find(wanted)?).ok()?));
        let [kind] = find(option::TYPE)? else { return None };
        Some(Self {
            kind: *kind,
            transaction: [fixed[4], fixed[5], fixed[6], fixed[7]],
            flags: [fixed[10], fixed[11]],
            client: [fixed[28], fixed[29], fixed[30], fixed[31], fixed[32], fixed[33]],
            current: address(12),
            requested: find_address(option::REQUESTED),
            server: find_address(option::SERVER),
            identifier: find(option::CLIENT),
        })
    }

    /// Whether the client can be reached at an address that it does not have yet.
    pub(super) fn wants_broadcast(&self) -> bool {
        self.flags[0] & 0x80 != 0
    }

    /// Writes an answer with options, whose values have at most 255 bytes. `address` is what the client gets.
    pub(super) fn answer(&self, address: Ipv4Addr, options: &[(u8, &[u8])]) -> Vec<u8> {
        let mut message = vec![0; FIXED];
        message[..4].copy_from_slice(&[2, 1, 6, 0]);
        message[4..8].copy_from_slice(&self.transaction);
        message[10..12].copy_from_slice(&self.flags);
        message[12..16].copy_from_slice(&self.current.octets());
        message[16..20].copy_from_slice(&address.octets());
        message[28..34].copy_from_slice(&self.client);
        message.extend(COOKIE);
        for (number, value) in options {
            let length = value.len().min(u8::MAX.into());
            message.extend([*number, length as u8]);
            message.extend(&value[..length]);
        }
        // The end.
        message.push(255);
        message.resize(message.len().max(SHORTEST), 0);
        message
    }
}

/// Returns the value of an option. None if it is not there, or the options are damaged before it.
fn find(mut options: &[u8], wanted: u8) -> Option<&[u8]> {
    loop {
        match options {
            // Padding.
            [0, rest @ ..] => options = rest,
            [255, ..] => return None,
            [number, length, rest @ ..] => {
                let (value, behind) = rest.split_at_checked(usize::from(*length))?;
                if *number == wanted {
                    return Some(value);
                }
                options = behind;
            }
            [] | [_] => return None,
        }
    }
}
