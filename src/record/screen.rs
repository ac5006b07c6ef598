//! Emulates a terminal of 80 columns and 24 lines, the size that the console's driver reports to the guest. It shows
//! what a person would see there. All of this library uses this emulator: films, pictures and `nixvm-test replay`.

use std::num::NonZero;

use serde::Serialize;
use serde::ser::SerializeSeq as _;

/// The number of lines.
pub const ROWS: u16 = 24;

/// The number of columns.
pub const COLUMNS: u16 = 80;

/// A terminal that shows what is written to it. Written text has no other effect.
pub struct Screen(vt100::Parser);

/// A line of a [`Screen`]: spans of one style each. Trailing blanks are left out.
pub type Row = Vec<Span>;

/// Text of one style.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// The text, without control characters.
    pub text: String,
    /// Its style.
    pub style: Style,
}

/// The style of text. Colours are those of a terminal with 256 colours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Style {
    /// The colour of the letters, if it is not the default.
    pub letters: Option<u8>,
    /// The background colour, if it is not the default.
    pub ground: Option<u8>,
    /// Bold.
    pub bold: bool,
    /// Dim.
    pub dim: bool,
    /// Italic.
    pub italic: bool,
    /// Underlined.
    pub underlined: bool,
    /// Letter and background colours are swapped.
    pub inverse: bool,
}

impl Default for Screen {
    fn default() -> Self {
        Self::new()
    }
}

impl Screen {
    /// Creates an empty screen.
    pub fn new() -> Self {
        let some = |size| NonZero::new(size).unwrap_or(NonZero::<u16>::MIN);
        Self(vt100::Parser::new(some(ROWS), some(COLUMNS), 0))
    }

    /// Processes output of a guest.
    pub fn write(&mut self, bytes: &[u8]) {
        self.0.process(bytes);
    }

    /// Returns its lines, [`ROWS`] of them.
    pub fn rows(&self) -> Vec<Row> {
        (0..ROWS).map(|row| self.row(row)).collect()
    }

    /// Returns the line and the column of its cursor, from 0; `None` if it is hidden.
    pub fn cursor(&self) -> Option<(u16, u16)> {
        let screen = self.0.screen();
        (!screen.hide_cursor()).then(|| screen.cursor_position())
    }

    fn row(&self, row: u16) -> Row {
        let mut spans: Row = Vec::new();
        for column in 0..COLUMNS {
            let Some(cell) = self.0.screen().cell(row, column) else { break };
            if cell.is_wide_continuation() {
                continue;
            }
            let style = Style::of(cell);
            let text = match cell.contents() {
                "" => " ",
                text => text,
            };
            match spans.last_mut().filter(|last| last.style == style) {
                Some(last) => last.text.push_str(text),
                None => spans.push(Span { text: text.to_owned(), style }),
            }
        }
        while let Some(last) = spans.last_mut() {
            if last.style.ground.is_some() || last.style.inverse || last.style.underlined {
                break;
            }
            last.text.truncate(last.text.trim_end().len());
            if !last.text.is_empty() {
                break;
            }
            spans.pop();
        }
        for span in &mut spans {
            if !span.text.is_ascii() {
                span.text = crate::text::line(&span.text);
            }
        }
        spans
    }
}

impl Style {
    fn of(cell: &vt100::Cell) -> Self {
        Self {
            letters: colour(cell.fgcolor()),
            ground: colour(cell.bgcolor()),
            bold: cell.bold(),
            dim: cell.dim(),
            italic: cell.italic(),
            underlined: cell.underline(),
            inverse: cell.inverse(),
        }
    }

    /// Returns the class names for a page: `f1 b4 o d i u v`.
    pub fn classes(&self) -> String {
        let mut classes: Vec<String> = Vec::new();
        classes.extend(self.letters.map(|colour| format!("f{colour}")));
        classes.extend(self.ground.map(|colour| format!("b{colour}")));
        let flags = [
            (self.bold, "o"),
            (self.dim, "d"),
            (self.italic, "i"),
            (self.underlined, "u"),
            (self.inverse, "v"),
        ];
        classes.extend(flags.into_iter().filter(|(set, _)| *set).map(|(_, name)| name.to_owned()));
        classes.join(" ")
    }

    /// Returns the SGR sequence for this style.
    pub fn sgr(&self) -> String {
        let mut codes = String::from("\x1b[0");
        for (flag, code) in
            [(self.bold, 1), (self.dim, 2), (self.italic, 3), (self.underlined, 4), (self.inverse, 7)]
        {
            if flag {
                codes.push_str(&format!(";{code}"));
            }
        }
        if let Some(colour) = self.letters {
            codes.push_str(&format!(";38;5;{colour}"));
        }
        if let Some(colour) = self.ground {
            codes.push_str(&format!(";48;5;{colour}"));
        }
        codes.push('m');
        codes
    }
}

/// The form in a page: `["text"]`, or `["text", "classes"]`.
impl Serialize for Span {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let classes = self.style.classes();
        let mut pair = serializer.serialize_seq(None)?;
        pair.serialize_element(&self.text)?;
        if !classes.is_empty() {
            pair.serialize_element(&classes)?;
        }
        pair.end()
    }
}

/// Returns one of 256 colours; an RGB colour becomes the nearest one of the colour cube.
fn colour(colour: vt100::Color) -> Option<u8> {
    let level = |value: u8| match value {
        0..48 => 0,
        48..115 => 1,
        _ => (value - 35) / 40,
    };
    match colour {
        vt100::Color::Default => None,
        vt100::Color::Idx(index) => Some(index),
        vt100::Color::Rgb(red, green, blue) => Some(16 + 36 * level(red) + 6 * level(green) + level(blue)),
    }
}

/// Returns the RGB value of one of 256 colours, as `#rrggbb`. The first 16 are chosen to be legible on a dark
/// background.
pub fn hex(colour: u8) -> String {
    const NAMED: [&str; 16] = [
        "#3b4252", "#f7768e", "#9ece6a", "#e0af68", "#7aa2f7", "#bb9af7", "#7dcfff", "#c8d0e0", "#6b7489",
        "#ff8fa3", "#b5e07f", "#f4cb85", "#93b6ff", "#cfb3ff", "#9adfff", "#ffffff",
    ];
    let level = |step: u8| if step == 0 { 0 } else { 55 + 40 * step };
    match colour {
        0..16 => NAMED[usize::from(colour)].to_owned(),
        16..232 => {
            let cube = colour - 16;
            let [red, green, blue] = [cube / 36, cube / 6 % 6, cube % 6].map(level);
            format!("#{red:02x}{green:02x}{blue:02x}")
        }
        232.. => {
            let grey = 8 + 10 * (colour - 232);
            format!("#{grey:02x}{grey:02x}{grey:02x}")
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn texts(screen: &Screen) -> Vec<String> {
        let rows = screen.rows().into_iter();
        rows.map(|row| row.into_iter().map(|span| span.text).collect()).collect()
    }

    #[test]
    fn text_stands_where_and_as_the_guest_put_it() {
        let mut screen = Screen::new();
        screen.write(b"plain \x1b[1;31mred\x1b[0m\r\n\x1b[5;3Hthere\x1b[38;2;255;0;0m!");
        let rows = screen.rows();
        assert_eq!(rows.len(), usize::from(ROWS));
        assert_eq!(serde_json::to_string(&rows[0]).unwrap(), r#"[["plain "],["red","f1 o"]]"#);
        assert_eq!(serde_json::to_string(&rows[4]).unwrap(), r#"[["  there"],["!","f196"]]"#);
        assert!(rows[23].is_empty());
        assert_eq!(screen.cursor(), Some((4, 8)));
    }

    #[test]
    fn nothing_on_a_screen_could_drive_a_terminal_or_turn_text_round() {
        let mut screen = Screen::new();
        screen.write(
            "\x1b]0;title\x07\x1b]52;c;aGk=\x07a\u{202e}b\u{7f}\x1bP+q\x1b\\\u{9b}31mc\x08\x05".as_bytes(),
        );
        assert!(texts(&screen).concat().starts_with('a'), "{:?}", texts(&screen));
        for text in texts(&screen) {
            assert!(!text.chars().any(|c| c.is_control() || c == '\u{202e}'), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_much_for_it(
            pieces in proptest::collection::vec(
                prop_oneof![
                    proptest::collection::vec(any::<u8>(), 0..40),
                    "\x1b\\[[0-9;?]{0,9}[@-~]".prop_map(String::into_bytes),
                    "[\u{4e00}-\u{4e20}\u{300}-\u{310}\r\n\t]{0,90}".prop_map(String::into_bytes),
                ],
                0..60,
            )
        ) {
            let mut screen = Screen::new();
            for piece in pieces {
                screen.write(&piece);
            }
            prop_assert_eq!(screen.rows().len(), usize::from(ROWS));
        }
    }
}
