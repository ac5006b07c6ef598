//! Writes a console as asciicast v2, for asciinema's players. See <https://docs.asciinema.org/manual/asciicast/v2/>.

use std::io::{self, Write};

use super::screen::{COLUMNS, ROWS};
use super::tape::Tape;

/// Maximum length of a recording, in bytes of console output. The rest is cut.
const MOST: usize = 16 << 20;

/// Writes `tape`. `title` is shown by players.
pub(super) fn write(tape: &Tape, title: &str, out: &mut impl Write) -> io::Result<()> {
    let header = serde_json::json!({ "version": 2, "width": COLUMNS, "height": ROWS, "title": title });
    writeln!(out, "{header}")?;
    let (mut written, mut held) = (0, Vec::new());
    for (time, bytes) in tape.pieces() {
        if written + bytes.len() > MOST {
            let note = format!("\r\n[cut here, after {written} bytes of {}]\r\n", tape.bytes().len());
            return writeln!(out, "{}", serde_json::json!([time, "o", note]));
        }
        written += bytes.len();
        held.extend_from_slice(bytes);
        let whole = held.len() - unfinished(&held);
        let text = String::from_utf8_lossy(&held[..whole]);
        if !text.is_empty() {
            writeln!(out, "{}", serde_json::json!([time, "o", text]))?;
        }
        held.drain(..whole);
    }
    Ok(())
}

/// Returns how many bytes at the end are an incomplete character.
fn unfinished(bytes: &[u8]) -> usize {
    for back in 1..=bytes.len().min(3) {
        let byte = bytes[bytes.len() - back];
        let needs = match byte {
            0xc2..0xe0 => 2,
            0xe0..0xf0 => 3,
            0xf0..0xf5 => 4,
            0x80..0xc0 => continue,
            _ => 1,
        };
        return if needs > back { back } else { 0 };
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_stay_whole_and_every_line_is_json() {
        let text = "ü→🦀".as_bytes();
        let times: String = (0..text.len()).map(|at| format!("{} {at}\n", at * 1_000_000)).collect();
        let mut out = Vec::new();
        write(&Tape::new(text.to_vec(), &times), "login/\"m\"", &mut out).unwrap();
        let lines: Vec<serde_json::Value> = out
            .split(|b| *b == b'\n')
            .filter(|l| !l.is_empty())
            .map(|l| serde_json::from_slice(l).unwrap())
            .collect();
        assert_eq!(lines[0]["version"], 2);
        assert_eq!(lines[0]["width"], 80);
        let events: Vec<String> = lines[1..].iter().map(ToString::to_string).collect();
        assert_eq!(events, [r#"[1.0,"o","ü"]"#, r#"[4.0,"o","→"]"#, r#"[8.0,"o","🦀"]"#]);
    }

    #[test]
    fn a_flood_is_cut_with_a_note() {
        let (bytes, times) = (vec![b'x'; MOST + 10], format!("0 0\n1000 {}\n", MOST - 5));
        let mut out = Vec::new();
        write(&Tape::new(bytes, &times), "", &mut out).unwrap();
        assert!(out.len() < MOST + 1000);
        assert!(String::from_utf8(out).unwrap().contains("[cut here, after"));
    }
}
