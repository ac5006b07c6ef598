//! Parses durations such as `30s`, `5m`, `1m30s`, `500ms`, `1h`.

use std::time::Duration;

/// Examples of durations, for error texts.
pub const EXAMPLES: &str = "`30s`, `5m`, `1m30s`, `500ms`, `1h`";

/// The units, the longest name first so that `ms` is not parsed as `m`.
const UNITS: [(&str, u64); 4] = [("ms", 1), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)];

/// Parses `text`, or returns what is wrong with it.
pub fn parse(text: &str) -> Result<Duration, String> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(format!("an empty time limit: write one like {EXAMPLES}"));
    }
    let mut millis: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, tail) = rest.split_at(digits);
        let number: u64 =
            number.parse().map_err(|_| format!("`{text}` is not a time limit: write one like {EXAMPLES}"))?;
        let tail = tail.trim_start();
        let Some((name, unit)) = UNITS.into_iter().find(|(name, _)| tail.starts_with(name)) else {
            return Err(match tail.split(|c: char| c.is_ascii_digit()).next().map(str::trim) {
                None | Some("") => {
                    format!("`{text}` lacks a unit: write `{text}s` for seconds, `{text}m` for minutes")
                }
                Some(unit) => format!("`{unit}` is not a unit of time here: write a limit like {EXAMPLES}"),
            });
        };
        let part = number.checked_mul(unit).ok_or_else(|| format!("`{text}` is too long a time limit"))?;
        millis = millis.checked_add(part).ok_or_else(|| format!("`{text}` is too long a time limit"))?;
        rest = tail[name.len()..].trim_start();
    }
    if millis == 0 {
        return Err(format!("`{text}` is no time at all: write a limit like {EXAMPLES}"));
    }
    Ok(Duration::from_millis(millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_is_understood() {
        let cases = [("30s", 30_000), ("5m", 300_000), ("1m30s", 90_000), ("500ms", 500), ("1h", 3_600_000)];
        for (text, millis) in cases {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(parse(" 1m 30s "), Ok(Duration::from_secs(90)));
        assert_eq!(parse("1 h"), Ok(Duration::from_secs(3600)));
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert!(parse("5").unwrap_err().contains("lacks a unit"));
        assert!(parse("5x").unwrap_err().contains("`x` is not a unit"));
        assert!(parse("soon").unwrap_err().contains("`soon` is not a time limit"));
        assert!(parse("").unwrap_err().contains("empty"));
        assert!(parse("0s").unwrap_err().contains("no time"));
        assert!(parse("99999999999999999h").unwrap_err().contains("too long"));
        assert!(parse("-5s").is_err());
    }
}
