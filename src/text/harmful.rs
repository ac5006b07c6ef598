//! Which characters do more than show themselves, as Unicode's properties say.

use std::sync::LazyLock;

use regex_syntax::hir::{Class, HirKind};

/// The characters that are not shown as they are, by the property that says why.
///
/// - `Cc`: control characters, those of C1 too, which a terminal acts on.
/// - `Cf`: characters that format: they turn the direction of text, join or part letters, annotate, tag. The marks of
///   `Prepended_Concatenation_Mark` are of this category and yet seen: they stay.
/// - `Zl`, `Zp`: separators of lines and paragraphs.
/// - `Default_Ignorable_Code_Point`: what is not seen: fillers, variation selectors, the tags, and what Unicode has
///   set aside for more of them.
/// - `Bidi_Control`: what turns text round ("Trojan Source").
/// - `Noncharacter_Code_Point`: what XML and other formats forbid.
///
/// What takes a cell and does nothing else stays, blank or not: spaces, U+2800, private use, what is not assigned.
const HARMFUL: &str = r"[[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}\p{Bidi_Control}\p{Noncharacter_Code_Point}]--\p{Prepended_Concatenation_Mark}]";

/// Characters that stand on the one before them, and take no cell.
const MARKS: &str = r"[\p{Mn}\p{Me}]";

/// Whether `character` is one that must not be shown as it is.
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
    // The first combining mark there is.
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
        // A class that is not understood, which a test rules out, is every character beyond ASCII.
        Self(ranges.unwrap_or_else(|| vec![('\0', '\x1f'), ('\x7f', char::MAX)]))
    }

    fn have(&self, character: char) -> bool {
        let next = self.0.partition_point(|(_, last)| *last < character);
        self.0.get(next).is_some_and(|(first, _)| *first <= character)
    }
}
