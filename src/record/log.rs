//! Writes a console as lines, with the time of each by the host's clock and by the guest's.

use std::io::{self, Write};
use std::sync::LazyLock;

use regex::bytes::Regex;

use super::tape::Tape;

/// Maximum length of a log in bytes; the rest is cut.
const MOST: usize = 16 << 20;

/// A time stamp of the kernel.
static STAMP: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"^\[ *(\d{1,9}\.\d{6})\] ").ok());

struct LogLine {
    host: f64,
    stamp: Option<f64>,
    text: String,
}

/// Writes the lines of `tape`: seconds since the machine's start, the guest's uptime in seconds, the text. An uptime
/// without a stamp of the kernel is interpolated from the stamps around it, and marked with a `~`.
pub(super) fn write(tape: &Tape, out: &mut impl Write) -> io::Result<()> {
    let lines = lines(tape);
    writeln!(out, "#   host      guest  text")?;
    let mut known: Option<(f64, f64)> = None;
    let (mut next, mut written) = (0, 0);
    for (index, line) in lines.iter().enumerate() {
        let guest = match line.stamp {
            Some(stamp) => {
                // A stamp that is earlier belongs to another boot, or is no stamp.
                known = Some((line.host, stamp));
                format!("{stamp:10.3}")
            }
            None => {
                if next <= index {
                    let found = lines[index..].iter().position(|line| line.stamp.is_some());
                    next = found.map_or(usize::MAX, |found| index + found);
                }
                let bound = lines.get(next).and_then(|line| line.stamp).unwrap_or(f64::INFINITY);
                match known {
                    Some((host, guest)) if guest <= bound => {
                        format!("{:>10}", format!("~{:.3}", (guest + line.host - host).min(bound)))
                    }
                    Some((host, guest)) => format!("{:>10}", format!("~{:.3}", guest + line.host - host)),
                    None => format!("{:>10}", "-"),
                }
            }
        };
        let text = format!("{:8.3} {guest}  {}\n", line.host, line.text);
        written += text.len();
        if written > MOST {
            return writeln!(out, "# cut here: {} lines are left out", lines.len() - index);
        }
        out.write_all(text.as_bytes())?;
    }
    Ok(())
}

fn lines(tape: &Tape) -> Vec<LogLine> {
    let (mut lines, mut offset, mut size) = (Vec::new(), 0, 0);
    for raw in tape.bytes().split_inclusive(|byte| *byte == b'\n') {
        let host = tape.time_of(offset);
        offset += raw.len();
        let stripped = crate::text::strip_escapes(raw);
        // Each state of an overwritten line becomes a line.
        for text in stripped.split(|byte| *byte == b'\n' || *byte == b'\r') {
            if text.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let stamp = STAMP
                .as_ref()
                .and_then(|stamp| stamp.captures(text))
                .and_then(|found| std::str::from_utf8(found.get(1)?.as_bytes()).ok()?.parse().ok());
            let text = crate::text::line(String::from_utf8_lossy(text).trim_end());
            size += text.len() + 32;
            lines.push(LogLine { host, stamp, text });
        }
        // The rest would be cut anyway.
        if size > 2 * MOST {
            break;
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_times_of_host_and_guest() {
        let text = "BIOS\r\n[    1.500000] kernel\r\n\x1b[32m<<< Stage 1 >>>\x1b[0m\r\n[    2.000000] later\r\n\
                    login: \r\nMessage \x1b[2J\u{202e}\r\n";
        let offset = |what: &str| text.find(what).unwrap();
        let times = format!(
            "500000 0\n3000000 {}\n3200000 {}\n4000000 {}\n4100000 {}\n",
            offset("[    1.5"),
            offset("\x1b[32m"),
            offset("[    2.0"),
            offset("login")
        );
        let mut out = Vec::new();
        write(&Tape::new(text.as_bytes().to_vec(), &times), &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "#   host      guest  text\n   \
                0.500          -  BIOS\n   \
                3.000      1.500  [    1.500000] kernel\n   \
                3.200     ~1.700  <<< Stage 1 >>>\n   \
                4.000      2.000  [    2.000000] later\n   \
                4.100     ~2.100  login:\n   \
                4.100     ~2.100  Message \u{fffd}\n"
        );
    }

    #[test]
    fn the_log_of_a_flood_is_cut_with_a_note() {
        let tape = Tape::new(b"x\n".repeat(MOST), "");
        let mut out = Vec::new();
        write(&tape, &mut out).unwrap();
        assert!(out.len() <= MOST + 200);
        assert!(String::from_utf8_lossy(&out[out.len() - 100..]).contains("lines are left out"));
    }
}
