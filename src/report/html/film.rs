//! The format of films that the page's player expects.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;

use crate::record::screen::ROWS;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Film<'a> {
    length: f64,
    #[serde(default)]
    from: Option<f64>,
    #[serde(borrow)]
    frames: Vec<Frame<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Frame<'a> {
    #[serde(rename = "t")]
    time: f64,
    /// The number of a line and its pieces. A piece is a text, and optionally its classes.
    #[serde(rename = "r", borrow)]
    rows: Vec<(u16, Vec<Vec<Cow<'a, str>>>)>,
    #[serde(rename = "c", default)]
    cursor: Option<(u16, u16)>,
}

/// Returns the film if it has the expected format.
pub(super) fn checked(film: &[u8]) -> Option<Value> {
    let text = std::str::from_utf8(film).ok()?;
    let Film { length, from, frames } = serde_json::from_str(text).ok()?;
    let is_sound = |frame: &Frame<'_>| {
        let rows_are = frame
            .rows
            .iter()
            .all(|(row, spans)| *row < ROWS && spans.iter().all(|span| (1..=2).contains(&span.len())));
        rows_are
            && frame.time.is_finite()
            && frame.cursor.is_none_or(|(row, column)| row < 1000 && column < 1000)
    };
    let times_are = length.is_finite() && from.is_none_or(f64::is_finite);
    (times_are && frames.iter().all(is_sound)).then(|| serde_json::from_str(text).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_the_form_of_a_film_is_one() {
        let good = [
            r#"{"length":2.0,"frames":[]}"#,
            r#"{"length":2.0,"from":1.5,"frames":[{"t":0.0,"r":[[0,[["ab\n"],["c","f1 b"]]]],"c":[1,0]}]}"#,
        ];
        for film in good {
            assert_eq!(checked(film.as_bytes()).unwrap().to_string().len(), film.len());
        }
        let deep =
            format!(r#"{{"length":2.0,"frames":[],"x":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
        let bad = [
            "",
            "[]",
            "{",
            "null",
            r#"{"length":"2","frames":[]}"#,
            r#"{"length":2.0,"frames":{}}"#,
            r#"{"length":2.0,"frames":[{"t":0}]}"#,
            r#"{"length":2.0,"frames":[{"t":0,"r":[[24,[]]]}]}"#,
            r#"{"length":2.0,"frames":[{"t":0,"r":[[-1,[]]]}]}"#,
            r#"{"length":2.0,"frames":[{"t":0,"r":[[0,[[]]]]}]}"#,
            r#"{"length":2.0,"frames":[{"t":0,"r":[[0,[["a",{}]]]]}]}"#,
            r#"{"length":2.0,"frames":[],"more":1}"#,
            r#"{"length":2.0,"frames":[]} </script>"#,
            &deep,
        ];
        for film in bad {
            assert_eq!(checked(film.as_bytes()), None, "{film:.100}");
        }
        assert_eq!(checked(b"{\"length\":2.0,\"frames\":[]}\xff"), None);
    }
}
