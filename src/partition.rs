//! A share of a suite, for suites that several hosts run together.

use std::str::FromStr;

use sha2::{Digest, Sha256};

/// A share of a suite, in the syntax of cargo-nextest. `hash:1/3` goes by the names, so that a scenario stays
/// in its share when others are added. `count:1/3` deals the scenarios out in turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partition {
    by_hash: bool,
    share: u64,
    of: u64,
}

impl FromStr for Partition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || format!("{text:?} is not a share: write hash:1/3 for the first of three");
        let (kind, rest) = text.split_once(':').ok_or_else(expected)?;
        let by_hash = match kind {
            "hash" => true,
            "count" => false,
            _ => return Err(expected()),
        };
        let (share, of) = rest.split_once('/').ok_or_else(expected)?;
        let (share, of) = (share.parse().map_err(|_| expected())?, of.parse().map_err(|_| expected())?);
        if share == 0 || share > of {
            return Err(expected());
        }
        Ok(Self { by_hash, share, of })
    }
}

impl std::fmt::Display for Partition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}/{}", if self.by_hash { "hash" } else { "count" }, self.share, self.of)
    }
}

impl Partition {
    /// Returns the elements of `all` that are in this share.
    pub(crate) fn of<T>(self, all: Vec<T>, name: impl Fn(&T) -> String) -> Vec<T> {
        let numbered = all.into_iter().enumerate();
        let mine = numbered.filter(|(place, item)| {
            let number = if self.by_hash { hash(&name(item)) } else { *place as u64 };
            number % self.of == self.share - 1
        });
        mine.map(|(_, item)| item).collect()
    }
}

fn hash(name: &str) -> u64 {
    let digest = Sha256::digest(name.as_bytes());
    digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_together_are_all_and_none_twice() {
        let all: Vec<String> = (0..50).map(|number| format!("scenario {number}")).collect();
        for kind in ["hash", "count"] {
            let mut together = Vec::new();
            for share in 1..=3 {
                let partition: Partition = format!("{kind}:{share}/3").parse().unwrap();
                let mine = partition.of(all.clone(), String::clone);
                assert!(mine.len() > 5, "{kind} {share}: {}", mine.len());
                together.extend(mine);
            }
            together.sort();
            let mut sorted = all.clone();
            sorted.sort();
            assert_eq!(together, sorted);
        }
        for wrong in ["1/3", "hash:0/3", "hash:4/3", "hash:a/3", "slice:1/3", "hash:1"] {
            assert!(wrong.parse::<Partition>().unwrap_err().contains(wrong), "{wrong}");
        }
    }
}
