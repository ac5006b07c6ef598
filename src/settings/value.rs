//! The values of settings, and their syntax: as text in a flag or a variable, and in TOML.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::time::Duration;

use crate::RequestedReports;
use crate::nix::relative::{absolute, flake, nixpkgs};

/// The form of a setting's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Form {
    /// A switch: `1` and `0` as text, `true` and `false` in TOML. `or` is one more accepted word.
    Switch {
        /// The word, as text and in TOML.
        or: Option<&'static str>,
    },
    /// A file or folder.
    Path,
    /// A nixpkgs: a channel, a folder, a URL, …
    Nixpkgs,
    /// A flake and its host.
    Flake,
    /// A whole number with a minimum.
    Number {
        /// The minimum.
        from: u64,
    },
    /// A length of time: `90s`, `45m`, `2h`, or a number of seconds.
    Time,
    /// A size in memory: `4G`, `512M`.
    Size,
    /// A share of a suite: `hash:1/3`.
    Share,
    /// Reports, each with its path: `junit=FILE,html=FILE`.
    Reports,
    /// The record of a run: its folder, its name or the beginning of it, or `last`.
    Run,
}

impl Form {
    /// Describes the accepted values, for error texts.
    pub fn takes(self) -> String {
        match self {
            Self::Switch { or: None } => "1 or 0".into(),
            Self::Switch { or: Some(word) } => format!("1, {word} or 0"),
            Self::Path => "the path of a file or folder".into(),
            Self::Nixpkgs => "a channel (channel:nixos-26.05), a folder, a URL, <nixpkgs> or standin".into(),
            Self::Flake => "a flake's host, such as .#web".into(),
            Self::Number { from: 0 } => "a number".into(),
            Self::Number { from } => format!("a number from {from}"),
            Self::Time => "a time of at least one second, such as 90s, 45m or 2h".into(),
            Self::Size => "a size such as 4G or 512M".into(),
            Self::Share => "a share such as hash:1/3, the first of three".into(),
            Self::Reports => "formats and paths: junit=FILE,html=FILE,jsonl=FILE,cast=DIR".into(),
            Self::Run => "the record of a run: its folder, its name or the beginning of it, or last".into(),
        }
    }

    /// Describes the accepted values in TOML, where a value has a type.
    pub fn takes_in_toml(self) -> String {
        match self {
            Self::Switch { or: None } => "true or false".into(),
            Self::Switch { or: Some(word) } => format!("true, \"{word}\" or false"),
            Self::Number { .. } => format!("{}, without quotes", self.takes()),
            _ => format!("{}, in quotes", self.takes()),
        }
    }

    /// Returns the text of a TOML value, or `None` if it has the wrong type.
    pub(super) fn text_of(self, value: &toml::Value) -> Option<String> {
        use toml::Value as Toml;
        match (self, value) {
            (Self::Switch { .. }, Toml::Boolean(yes)) => Some(if *yes { "1" } else { "0" }.into()),
            (Self::Switch { or }, Toml::String(word)) => (or == Some(word)).then(|| word.clone()),
            (Self::Number { .. } | Self::Time, Toml::Integer(number)) => Some(number.to_string()),
            (Self::Number { .. }, _) => None,
            (_, Toml::String(text)) => Some(text.clone()).filter(|text| !text.is_empty()),
            _ => None,
        }
    }

    /// Returns the value with its type in JSON and TOML.
    pub fn json(self, text: &OsStr) -> serde_json::Value {
        let text = text.to_string_lossy();
        match (self, &*text) {
            (Self::Switch { .. }, "1") => true.into(),
            (Self::Switch { .. }, "0") => false.into(),
            (Self::Number { .. }, digits) => digits.parse::<u64>().map_or(digits.into(), Into::into),
            (_, other) => other.into(),
        }
    }

    /// Returns a value that was written relative to `folder` in a form that is valid everywhere.
    pub(super) fn resolved(self, text: OsString, folder: &Path) -> OsString {
        match (self, text.to_str()) {
            (Self::Path, _) => absolute(Path::new(&text), folder).into(),
            (Self::Nixpkgs, Some(given)) => nixpkgs(given, folder).into(),
            (Self::Flake, Some(given)) => flake(given, folder).into(),
            (Self::Run, Some(given)) if folder.join(given).join(crate::record::EVENTS).is_file() => {
                absolute(Path::new(given), folder).into()
            }
            (Self::Reports, Some(given)) => match given.parse::<RequestedReports>() {
                Ok(copies) => copies.below(folder).to_string().into(),
                Err(_) => text,
            },
            _ => text,
        }
    }
}

/// Parses `90s`, `45m`, `2h`, or seconds: at least one second, at most a year.
pub(super) fn time(text: &str) -> Option<Duration> {
    let (number, unit) = match text.char_indices().find(|(_, c)| !c.is_ascii_digit()) {
        Some((at, _)) => text.split_at(at),
        None => (text, "s"),
    };
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return None,
    };
    let total = number.parse::<u64>().ok()?.checked_mul(seconds)?;
    // A year is as good as no limit, and no sum of such times overflows.
    (1..=31_536_000).contains(&total).then(|| Duration::from_secs(total))
}

/// Parses a size in MiB, as in a scenario's attribute: `4G`, `512M`.
pub(super) fn mebibytes(text: &str) -> Option<u64> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let each = match unit {
        "M" => 1,
        "G" => 1024,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(each).filter(|size| (1..1 << 40).contains(size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units_or_are_seconds() {
        assert_eq!(time("90"), Some(Duration::from_secs(90)));
        assert_eq!(time("45m"), Some(Duration::from_secs(2700)));
        for wrong in ["", "0", "-1", "soon", "5 minutes", "99999999999999999999h"] {
            assert_eq!(time(wrong), None, "{wrong}");
        }
    }
}
