//! Prepares a picture of the screen for text recognition.
//!
//! A text recogniser is trained on scans: dark letters of 30 pixels and more on white paper. A console has grey letters
//! of 16 pixels on black, right at the edge of the screen.

use std::ops::Range;

/// White margin around the text, in pixels of the enlarged picture.
const MARGIN: usize = 24;

/// Shades of grey, row by row; 255 is white.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Picture {
    width: usize,
    height: usize,
    shades: Vec<u8>,
}

impl Picture {
    /// Parses a binary pixmap (PPM) of 8 bits per colour, as QEMU writes it.
    pub(super) fn read_ppm(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes.strip_prefix(b"P6")?;
        let mut number = || {
            rest = rest.trim_ascii_start();
            let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            let (number, after) = rest.split_at(digits);
            rest = after;
            std::str::from_utf8(number).ok()?.parse::<usize>().ok()
        };
        let (width, height, most) = (number()?, number()?, number()?);
        let pixels = rest.get(1..)?;
        let size = width.checked_mul(height)?.checked_mul(3)?;
        if most != 255 || size == 0 || pixels.len() < size {
            return None;
        }
        let shade = |pixel: &[u8]| {
            let [red, green, blue] = [0, 1, 2].map(|at| u32::from(pixel[at]));
            ((red * 299 + green * 587 + blue * 114) / 1000) as u8
        };
        let shades = pixels[..size].chunks_exact(3).map(shade).collect();
        Some(Self { width, height, shades })
    }

    /// Returns the range of rows that are not of a single shade. Rows of a single shade have no text.
    fn used_rows(&self) -> Range<usize> {
        let rows = || self.shades.chunks_exact(self.width);
        let Some(paper) = self.shades.first().copied() else { return 0..0 };
        let used = |row: &[u8]| row.iter().any(|shade| *shade != paper);
        let first = rows().position(used).unwrap_or(self.height);
        let last = rows().rposition(used).map_or(first, |last| last + 1);
        first..last
    }

    /// Returns whether the picture is empty.
    pub(super) fn is_blank(&self) -> bool {
        self.used_rows().is_empty()
    }

    /// Returns it dark on light, with the full range of shades from black to white.
    pub(super) fn on_paper(&self) -> Self {
        let sum: usize = self.shades.iter().map(|shade| usize::from(*shade)).sum();
        let dark = sum / self.shades.len().max(1) < 128;
        let least = self.shades.iter().min().copied().unwrap_or(0);
        let most = self.shades.iter().max().copied().unwrap_or(255);
        let range = u32::from(most - least).max(1);
        let stretch = |shade: &u8| {
            let shade = (u32::from(shade - least) * 255 / range) as u8;
            if dark { 255 - shade } else { shade }
        };
        Self { shades: self.shades.iter().map(stretch).collect(), ..*self }
    }

    /// Returns it with black and white swapped.
    pub(super) fn inverted(&self) -> Self {
        Self { shades: self.shades.iter().map(|shade| 255 - shade).collect(), ..*self }
    }

    /// Returns it `zoom` times as large, with smooth edges and a white margin. Empty rows above and below the text are
    /// cut off.
    pub(super) fn enlarged(&self, zoom: usize) -> Self {
        let rows = self.used_rows();
        let (width, height) = (self.width * zoom, rows.len() * zoom);
        let columns = weights(self.width, zoom);
        let lines = weights(rows.len(), zoom);
        let full_width = width + 2 * MARGIN;
        let mut shades = vec![255; full_width * (height + 2 * MARGIN)];
        for (y, (above, below, of_below)) in lines.into_iter().enumerate() {
            let row = |at: usize| &self.shades[(rows.start + at) * self.width..][..self.width];
            let (above, below) = (row(above), row(below));
            let target = &mut shades[(y + MARGIN) * full_width + MARGIN..][..width];
            for (shade, (left, right, of_right)) in target.iter_mut().zip(&columns) {
                let across = |row: &[u8]| mix(u32::from(row[*left]), u32::from(row[*right]), *of_right);
                *shade = (mix(across(above), across(below), of_below) >> 16) as u8;
            }
        }
        Self { width: full_width, height: height + 2 * MARGIN, shades }
    }

    /// Encodes it as a binary graymap (PGM).
    pub(super) fn to_pgm(&self) -> Vec<u8> {
        let mut pgm = format!("P5\n{} {}\n255\n", self.width, self.height).into_bytes();
        pgm.extend_from_slice(&self.shades);
        pgm
    }
}

/// Returns for each pixel of an enlarged row the two source pixels that it lies between, and the weight of the second
/// in 256ths.
fn weights(small: usize, zoom: usize) -> Vec<(usize, usize, u32)> {
    let last = small.saturating_sub(1);
    let place = |at: usize| {
        // In 512ths, so that the centres of pixels coincide.
        let place = ((2 * at + 1) * 256 / zoom).saturating_sub(256);
        let first = (place / 512).min(last);
        (first, (first + 1).min(last), (place % 512 / 2) as u32)
    };
    (0..small * zoom).map(place).collect()
}

/// Mixes two values. The result is scaled by 256.
fn mix(first: u32, second: u32, of_second: u32) -> u32 {
    first * (256 - of_second) + second * of_second
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ppm(width: usize, height: usize, shade: impl Fn(usize, usize) -> u8) -> Vec<u8> {
        let mut ppm = format!("P6\n{width} {height}\n255\n").into_bytes();
        for y in 0..height {
            for x in 0..width {
                ppm.extend([shade(x, y); 3]);
            }
        }
        ppm
    }

    #[test]
    fn what_is_no_pixmap_is_told() {
        for bad in [
            &b""[..],
            b"P6",
            b"P6\n2 2\n255\n",
            b"P5\n1 1\n255\n.",
            b"P6\n0 0\n255\n",
            b"P6\n1 1\n65535\n......",
        ] {
            assert_eq!(Picture::read_ppm(bad), None, "{bad:?}");
        }
        assert_eq!(Picture::read_ppm(b"P6\n99999999999 99999999999\n255\n..."), None);
    }

    #[test]
    fn a_dark_screen_becomes_paper_and_a_light_one_stays() {
        let dark = Picture::read_ppm(&ppm(4, 4, |x, y| if (x, y) == (1, 1) { 170 } else { 10 })).unwrap();
        let light = Picture::read_ppm(&ppm(4, 4, |x, y| if (x, y) == (1, 1) { 10 } else { 170 })).unwrap();
        for picture in [dark.on_paper(), light.on_paper()] {
            assert_eq!(picture.shades[0], 255);
            assert_eq!(picture.shades[5], 0);
        }
        assert!(!dark.is_blank());
        assert!(Picture::read_ppm(&ppm(9, 9, |_, _| 77)).unwrap().is_blank());
    }

    #[test]
    fn an_enlarged_picture_has_a_margin_and_keeps_its_shades() {
        let picture = Picture::read_ppm(&ppm(5, 9, |_, y| if y == 3 || y == 4 { 0 } else { 255 })).unwrap();
        let large = picture.enlarged(3);
        assert_eq!(
            (large.width, large.height),
            (5 * 3 + 2 * MARGIN, 2 * 3 + 2 * MARGIN),
            "empty rows are cut"
        );
        assert_eq!(large.shades.len(), large.width * large.height);
        assert_eq!(large.shades[0], 255);
        assert_eq!(large.shades[MARGIN * large.width + MARGIN], 0);
        assert!(large.to_pgm().starts_with(b"P5\n63 54\n255\n"));
    }
}
