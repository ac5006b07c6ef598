//! End anchors at the end of a pattern, on text that is still growing.
//!
//! A wait finds what it would find if the bytes came one at a time. Then every byte was the last one at some
//! time, so a trailing `$`, `\z` or `(?m)$` matches at any place that the search reaches. So the search runs
//! on a copy of the pattern without them, and need not ask at every byte whether the text ended there.

use regex_syntax::hir::{Hir, HirKind, Look, LookSet, Repetition};

/// Returns the pattern without the end anchors at its end.
pub(super) fn without_end_anchors(hir: &Hir) -> Hir {
    match hir.kind() {
        HirKind::Look(look) if is_end(*look) => Hir::empty(),
        HirKind::Capture(capture) => without_end_anchors(&capture.sub),
        HirKind::Alternation(branches) => {
            Hir::alternation(branches.iter().map(without_end_anchors).collect())
        }
        HirKind::Concat(parts) => {
            let mut parts = parts.clone();
            for part in parts.iter_mut().rev() {
                let may_be_empty = part.properties().minimum_len() == Some(0);
                *part = without_end_anchors(part);
                if !may_be_empty {
                    break;
                }
            }
            Hir::concat(parts)
        }
        // `(foo$)?` ends like `foo$`. Within `(foo$\n?)+` the anchor is also between two repetitions, where
        // it matters.
        HirKind::Repetition(repetition) if repetition.max == Some(1) => Hir::repetition(Repetition {
            sub: Box::new(without_end_anchors(&repetition.sub)),
            ..repetition.clone()
        }),
        _ => hir.clone(),
    }
}

/// Whether the end of a match may depend on an end anchor.
pub(super) fn ends_with_end_anchor(hir: &Hir) -> bool {
    ends_with(hir, is_end)
}

/// Whether the end of a match may depend on the character after it, as with `\b`.
pub(super) fn ends_with_word_boundary(hir: &Hir) -> bool {
    ends_with(hir, |look| LookSet::singleton(look).contains_word())
}

/// Whether such an assertion can be at the end of a match, followed only by empty parts. (The crate's
/// `look_set_suffix_any` omits what precedes a part that may be empty.)
fn ends_with(hir: &Hir, wanted: fn(Look) -> bool) -> bool {
    match hir.kind() {
        HirKind::Look(look) => wanted(*look),
        HirKind::Capture(capture) => ends_with(&capture.sub, wanted),
        HirKind::Repetition(repetition) => ends_with(&repetition.sub, wanted),
        HirKind::Alternation(branches) => branches.iter().any(|branch| ends_with(branch, wanted)),
        HirKind::Concat(parts) => {
            for part in parts.iter().rev() {
                if ends_with(part, wanted) {
                    return true;
                }
                if part.properties().minimum_len() != Some(0) {
                    return false;
                }
            }
            false
        }
        HirKind::Empty | HirKind::Literal(_) | HirKind::Class(_) => false,
    }
}

fn is_end(look: Look) -> bool {
    matches!(look, Look::End | Look::EndLF | Look::EndCRLF)
}
