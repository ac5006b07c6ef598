//! Tests of decoding frames: every cut of the same bytes gives the same frames, and no bytes do harm.

use proptest::prelude::*;

use crate::channel::frame::{Decoder, LONGEST, Malformed, encode};

type Owned = (u8, u32, Vec<u8>);

/// Decodes `bytes` in pieces that end at `cuts`. Returns all frames, and whether it ended in an error.
fn decode(bytes: &[u8], cuts: &[usize]) -> (Vec<Owned>, bool) {
    let mut decoder = Decoder::new();
    let mut frames = Vec::new();
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    cuts.push(bytes.len());
    cuts.sort_unstable();
    let mut from = 0;
    for cut in cuts {
        while from < cut {
            let room = decoder.room();
            assert!(!room.is_empty(), "there is always room for more");
            let count = room.len().min(cut - from);
            room[..count].copy_from_slice(&bytes[from..from + count]);
            decoder.filled(count);
            from += count;
            loop {
                match decoder.next() {
                    Ok(Some(frame)) => frames.push((frame.kind, frame.id, frame.payload.to_vec())),
                    Ok(None) => break,
                    Err(Malformed { .. }) => return (frames, true),
                }
            }
        }
    }
    (frames, false)
}

/// Decodes frames literally as the protocol defines them, with all bytes at hand.
fn reference(mut bytes: &[u8]) -> (Vec<Owned>, bool) {
    let form = regex::bytes::Regex::new(r"^([A-Za-z]) ([0-9]{1,10}) ([0-9]{1,5})\n").unwrap();
    let beginning = regex::bytes::Regex::new(r"^([A-Za-z]( [ 0-9]{0,16})?)?$").unwrap();
    let mut frames = Vec::new();
    loop {
        let Some(found) = form.captures(bytes) else {
            return (frames, !beginning.is_match(bytes));
        };
        let number = |at: usize| std::str::from_utf8(&found[at]).unwrap().parse::<u64>().unwrap();
        let (Ok(id), length) = (u32::try_from(number(2)), number(3) as usize) else {
            return (frames, true);
        };
        if length > 65536 {
            return (frames, true);
        }
        let Some(payload) = bytes.get(found[0].len()..found[0].len() + length) else {
            return (frames, false);
        };
        frames.push((found[1][0], id, payload.to_vec()));
        bytes = &bytes[found[0].len() + length..];
    }
}

fn frame() -> impl Strategy<Value = Owned> {
    let payload = prop_oneof![
        8 => prop::collection::vec(any::<u8>(), 0..40),
        1 => (0..=LONGEST).prop_map(|length| vec![b'x'; length]),
    ];
    (prop::sample::select(b"OEXAFHPz".to_vec()), any::<u32>(), payload)
}

fn encoded(frames: &[Owned]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (kind, id, payload) in frames {
        encode(&mut bytes, *kind, *id, payload);
    }
    bytes
}

proptest! {
    #[test]
    fn any_cut_of_the_same_frames_gives_the_same_frames(
        frames in prop::collection::vec(frame(), 0..8),
        cuts in prop::collection::vec(any::<usize>(), 0..20),
    ) {
        prop_assert_eq!(decode(&encoded(&frames), &cuts), (frames, false));
    }

    #[test]
    fn any_bytes_are_frames_or_an_error(
        bytes in prop::collection::vec(prop::sample::select(b"OX  00123456\n\nabc\xff".to_vec()), 0..60),
        cuts in prop::collection::vec(any::<usize>(), 0..20),
    ) {
        prop_assert_eq!(decode(&bytes, &cuts), reference(&bytes));
    }

    #[test]
    fn a_damaged_stream_is_frames_or_an_error(
        frames in prop::collection::vec(frame(), 1..5),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3), 1..6),
        cuts in prop::collection::vec(any::<usize>(), 0..10),
    ) {
        let mut bytes = encoded(&frames);
        for (at, byte, how) in damage {
            let at = at.index(bytes.len());
            match how {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ if bytes.len() > 1 => { bytes.remove(at); }
                _ => {}
            }
        }
        prop_assert_eq!(decode(&bytes, &cuts), reference(&bytes));
    }
}

#[test]
fn the_longest_frame_is_taken_and_a_longer_one_is_none() {
    let longest = encoded(&[(b'O', u32::MAX, vec![7; LONGEST])]);
    assert_eq!(decode(&longest, &[1, 70, 40_000]).0.len(), 1);
    for header in
        ["O 1 65537\n", "O 4294967296 0\n", "O 1 100000\n", "O 00000000001 0\n", "O -1 0\n", "O 1  0\n"]
    {
        assert_eq!(decode(header.as_bytes(), &[]), (vec![], true), "{header}");
    }
}

#[test]
fn what_is_no_header_is_told_at_once_with_its_words() {
    let mut decoder = Decoder::new();
    let bytes = b"-bash: helper: not found";
    decoder.room()[..bytes.len()].copy_from_slice(bytes);
    decoder.filled(bytes.len());
    let told = decoder.next().unwrap_err().to_string();
    assert!(told.contains("-bash: helper"), "{told}");
}

#[test]
fn a_long_payload_becomes_several_frames_and_none_an_empty_one() {
    let mut bytes = Vec::new();
    encode(&mut bytes, b'T', 3, &vec![b'a'; LONGEST + 5]);
    encode(&mut bytes, b'I', 3, b"");
    let lengths: Vec<usize> = decode(&bytes, &[]).0.iter().map(|frame| frame.2.len()).collect();
    assert_eq!(lengths, [LONGEST, 5, 0]);
}
