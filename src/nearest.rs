//! Finds the name that a user may have meant by a misspelled one.

/// The least similarity of two words, from 0 to 1: that of `nixpkg` and `nixpkgs` is 0.9, that of `timeout`
/// and `run-timeout` 0.6.
const ALIKE: f64 = 0.5;

/// Returns the element of `known` that is most similar to `word`, or `None` if none is similar.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let alike = known.into_iter().map(|name| (strsim::normalized_damerau_levenshtein(word, name), name));
    let best = alike.max_by(|one, other| one.0.total_cmp(&other.0));
    best.filter(|(alike, _)| *alike >= ALIKE).map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_recognised_and_another_word_is_not() {
        let known = ["nixpkgs", "run-timeout", "jobs"];
        assert_eq!(nearest("nixpkg", known), Some("nixpkgs"));
        assert_eq!(nearest("run_timeout", known), Some("run-timeout"));
        assert_eq!(nearest("timeout", known), Some("run-timeout"));
        assert_eq!(nearest("jbos", known), Some("jobs"));
        assert_eq!(nearest("colour", known), None);
        assert_eq!(nearest("", known), None);
    }
}
