//! Which characters do more than show themselves, according to Unicode's properties.

use std::sync::LazyLock;

use regex_syntax::hir::{Class, HirKind};

/// The characters that are not shown unchanged, with the property that is the reason.
///
/// - `Cc`: control characters, including C1, which a terminal interprets.
/// - `Cf`: format characters, which change the direction of text, join or separate letters, annotate, or tag.
///   The marks of `Prepended_Concatenation_Mark` have this category, but are visible, so they stay.
/// - `Zl`, `Zp`: separators of lines and paragraphs.
/// - `Default_Ignorable_Code_Point`: invisible characters: fillers, variation selectors, tags, and what
///   Unicode has reserved for more of them.
/// - `Bidi_Control`: characters that reverse text ("Trojan Source").
/// - `Noncharacter_Code_Point`: what XML and other formats forbid.
///
/// A character that only takes a cell stays, even if it is blank: spaces, U+2800, private use, unassigned
/// code points.
const HARMFUL: &str = r"[[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}\p{Bidi_Control}\p{Noncharacter_Code_Point}]--\p{Prepended_Concatenation_Mark}]";

/// Combining characters, which take no cell.
const MARKS: &str = r"[\p{Mn}\p{Me}]";

/// Whether `character` must not be shown unchanged.
pub(super) fn harmful(character: char) -> bool {
    static RANGES: LazyLock<Ranges> = LazyLock::new(|| Ranges::of(HARMFUL));
    match character {
        ' '..='~' => false,
        _ => RANGES.have(character),
    }
}

/// Whether `character` is a combining mark.
pub(super) fn is_mark(character: char) -> bool {
    static RANGES: LazyLock<Ranges> = LazyLock::new(|| Ranges::of(MARKS));
    // The first combining mark.
    character >= '\u{300}' && RANGES.have(character)
}

/// The characters of a class, in order.
struct Ranges(Vec<(char, char)>);

impl Ranges {
    fn of(class: &str) -> Self {
        let class = regex_syntax::parse(class).ok();
        let ranges = class.and_then(|class| match class.kind() {
            HirKind::Class(Class::Unicode(class)) => {
                Some(class.ranges().iter().map(|range| (range.start(), range.end())).collect())
            }
            _ => None,
        });
        // If the class can't be parsed, which a test rules out, it contains every character beyond ASCII.
        Self(ranges.unwrap_or_else(|| vec![('\0', '\x1f'), ('\x7f', char::MAX)]))
    }

    fn have(&self, character: char) -> bool {
        let next = self.0.partition_point(|(_, last)| *last < character);
        self.0.get(next).is_some_and(|(first, _)| *first <= character)
    }
}
