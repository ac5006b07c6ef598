//! Limits the size of a page, so that a browser can still open it.

use serde_json::Value;

use crate::record::history::Outcome;
use crate::report::wording::boundary;

/// The limits for films, pictures, texts and the output of steps, in bytes.
const FILMS: usize = 24 << 20;
const IMAGES: u64 = 16 << 20;
const TEXTS: usize = 8 << 20;
const OUTPUTS: usize = 16 << 20;

/// The limits for one journal, and for the output of one step when little space is left.
const TEXT: usize = 512 << 10;
const SHORT: usize = 400;

/// What has been used.
#[derive(Debug, Default)]
pub(super) struct Budget {
    films: usize,
    images: u64,
    texts: usize,
    outputs: usize,
}

impl Budget {
    /// Returns the maximum size of the next film.
    pub(super) fn film_left(&self) -> usize {
        FILMS.saturating_sub(self.films)
    }

    /// Returns the maximum size of the next picture.
    pub(super) fn image_left(&self) -> u64 {
        IMAGES.saturating_sub(self.images)
    }

    /// Whether there is space for any more text.
    pub(super) fn has_text(&self) -> bool {
        self.texts < TEXTS
    }

    /// Whether there is space for a film, which is then used.
    pub(super) fn film(&mut self, size: usize) -> bool {
        let fits = self.films + size <= FILMS;
        self.films += if fits { size } else { 0 };
        fits
    }

    /// Whether there is space for a picture, which is then used.
    pub(super) fn image(&mut self, size: u64) -> bool {
        let fits = self.images.saturating_add(size) <= IMAGES;
        self.images += if fits { size } else { 0 };
        fits
    }

    /// Returns as much of the end of a text as there is space for.
    pub(super) fn text(&mut self, text: &str) -> String {
        let most = TEXT.min(TEXTS.saturating_sub(self.texts));
        let from = boundary(text, text.len().saturating_sub(most));
        // An empty text counts, too, because there may be any number of them.
        self.texts += (text.len() - from).max(1 << 10);
        let note = if from > 0 { format!("[{from} bytes are left out here]\n") } else { String::new() };
        format!("{note}{}", &text[from..])
    }

    /// Shortens the output of a scenario's steps when little space is left.
    pub(super) fn outputs(&mut self, scenario: &mut Value, outcome: Outcome) {
        let failed = matches!(outcome, Outcome::Failed | Outcome::Flaky | Outcome::Unfinished);
        let most = if failed { OUTPUTS } else { OUTPUTS / 2 };
        let attempts = scenario["attempts"].as_array_mut().into_iter().flatten();
        let machines = attempts.flat_map(|attempt| attempt["machines"].as_array_mut().into_iter().flatten());
        for step in machines.flat_map(|machine| machine["steps"].as_array_mut().into_iter().flatten()) {
            let Some(output) = step["output"].as_object_mut() else { continue };
            let mut cut = 0;
            for name in ["stdout", "stderr"] {
                let Some(Value::String(text)) = output.get_mut(name) else { continue };
                if self.outputs + text.len() > most {
                    let from = boundary(text, text.len().saturating_sub(SHORT));
                    cut += from;
                    text.drain(..from);
                }
                self.outputs += text.len();
            }
            if cut > 0 {
                let known = output.get("cut").and_then(Value::as_u64).unwrap_or(0);
                output.insert("cut".to_owned(), Value::from(known + cut as u64));
            }
        }
    }
}
