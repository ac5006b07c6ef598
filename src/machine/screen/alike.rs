//! Characters that a text recogniser confuses.

use crate::console::Pattern;

/// Returns whether the text that was read from a picture matches: a regular expression has to match exactly; plain text
/// may differ in characters that look alike and in blanks.
pub(super) fn shows(text: &str, pattern: &Pattern) -> bool {
    let alike = || match pattern.text() {
        Some(literal) => {
            let literal = folded(&literal);
            !literal.is_empty() && folded(text).contains(&literal)
        }
        None => false,
    };
    pattern.matches(text) || alike()
}

/// Returns the text without blanks, with one character for each group of look-alikes.
fn folded(text: &str) -> String {
    let alike = |character| match character {
        'O' | 'o' | '\u{00a9}' | '@' => '0',
        'l' | 'I' | '|' | 'i' | '!' => '1',
        '’' | '‘' | '`' | '"' | '“' | '”' => '\'',
        '—' | '–' | '_' => '-',
        'S' | 's' => '5',
        other => other,
    };
    text.chars().filter(|character| !character.is_whitespace()).map(alike).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_is_found_in_spite_of_what_looks_alike_and_a_regular_expression_is_not() {
        let read = "<<< Welcome to Nix0S 23.11 - ttyl >>>\nRun ’nixos-help’\n";
        for literal in ["NixOS 23.11", "tty1", "Run 'nixos-help'", "Welcome  to"] {
            assert!(shows(read, &literal.into()), "{literal}");
        }
        for literal in ["NixOS 23.17", "tty2", "login"] {
            assert!(!shows(read, &literal.into()), "{literal}");
        }
        assert!(!shows(read, &Pattern::regex("NixOS").unwrap()));
        assert!(shows(read, &Pattern::regex("Nix[O0]S").unwrap()));
        assert!(shows("anything", &"".into()) && !shows("anything", &Pattern::regex("^$").unwrap()));
    }
}
