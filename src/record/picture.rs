//! Draws the last screen of a console as SVG.

use std::fmt::Write as _;

use super::screen::{COLUMNS, ROWS, Screen, Style, hex};

/// The size of a character cell, in pixels. All sizes here are in pixels.
const CELL: (f64, f64) = (8.4, 18.0);
/// The margin around the screen.
const MARGIN: f64 = 12.0;
/// Default colours of letters and background.
const LETTERS: &str = "#d8dee9";
const GROUND: &str = "#15181e";

/// Returns the picture. `title` is the text for screen readers.
pub(super) fn svg(screen: &Screen, title: &str) -> String {
    let width = f64::from(COLUMNS) * CELL.0 + 2.0 * MARGIN;
    let height = f64::from(ROWS) * CELL.1 + 2.0 * MARGIN;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" \
         height=\"{height:.0}\" role=\"img\">\n<title>{}</title>\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"{GROUND}\"/>\n\
         <g font-family=\"ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace\" font-size=\"14\" \
         fill=\"{LETTERS}\" xml:space=\"preserve\">\n",
        escaped(title)
    );
    for (index, row) in screen.rows().iter().enumerate() {
        let top = MARGIN + index as f64 * CELL.1;
        let mut column = 0;
        for span in row {
            let (left, cells) = (MARGIN + f64::from(column) * CELL.0, cells(&span.text));
            let wide = f64::from(cells) * CELL.0;
            column += cells;
            let (letters, ground) = colours(&span.style);
            // Writing to a String cannot fail.
            if let Some(ground) = ground {
                let _ = writeln!(
                    svg,
                    "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{wide:.1}\" height=\"{}\" fill=\"{ground}\"/>",
                    CELL.1
                );
            }
            if span.text.trim().is_empty() {
                continue;
            }
            let mut looks = letters.map(|colour| format!(" fill=\"{colour}\"")).unwrap_or_default();
            for (set, look) in [
                (span.style.bold, " font-weight=\"bold\""),
                (span.style.italic, " font-style=\"italic\""),
                (span.style.underlined, " text-decoration=\"underline\""),
                (span.style.dim, " opacity=\"0.7\""),
            ] {
                if set {
                    looks.push_str(look);
                }
            }
            let _ = writeln!(
                svg,
                "<text x=\"{left:.1}\" y=\"{:.1}\" textLength=\"{wide:.1}\"{looks}>{}</text>",
                top + 13.5,
                escaped(&span.text)
            );
        }
    }
    svg.push_str("</g>\n</svg>\n");
    svg
}

/// Returns the colours of letters and background, if they are not the default ones.
fn colours(style: &Style) -> (Option<String>, Option<String>) {
    let (letters, ground) = (style.letters.map(hex), style.ground.map(hex));
    if style.inverse {
        (Some(ground.unwrap_or(GROUND.to_owned())), Some(letters.unwrap_or(LETTERS.to_owned())))
    } else {
        (letters, ground)
    }
}

/// Counts the cells that text takes.
fn cells(text: &str) -> u32 {
    // The characters that the emulator gave two cells. An error only moves the text behind it.
    let wide = |character: char| {
        matches!(character, '\u{1100}'..='\u{115f}' | '\u{2e80}'..='\u{a4cf}' | '\u{ac00}'..='\u{d7a3}'
            | '\u{f900}'..='\u{faff}' | '\u{fe30}'..='\u{fe6f}' | '\u{ff00}'..='\u{ff60}' | '\u{1f300}'..='\u{1faff}')
    };
    let narrow = |character: char| matches!(character, '\u{300}'..='\u{36f}');
    text.chars().map(|c| if narrow(c) { 0 } else { 1 + u32::from(wide(c)) }).sum()
}

/// Escapes text for XML.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in crate::text::line(text).chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_guest_prints_is_text_in_the_picture() {
        let mut screen = Screen::new();
        screen.write(b"\x1b[7m<script>alert(1)</script>\x1b[0m & \x1b[31mred\r\n");
        let svg = svg(&screen, "m's <console>");
        assert!(!svg.contains("<script") && svg.contains("&lt;script&gt;alert(1)&lt;/script&gt;"), "{svg}");
        assert!(svg.contains("<title>m's &lt;console&gt;</title>"), "{svg}");
        assert!(svg.contains("fill=\"#f7768e\">red</text>"), "{svg}");
        assert!(svg.contains(&format!("fill=\"{LETTERS}\"/>")), "the ground of inverse text\n{svg}");
    }
}
