//! The machine's screen: a picture of it, and the text in the picture.
//!
//! The exact text of a text console is available from the guest (/dev/vcs1). Reading the picture is for what only the
//! screen shows: boot menus, graphical programs, and whether there is any picture at all.

pub(crate) mod desktop;
pub(crate) mod polling;
pub(crate) mod tty;

mod alike;
mod ocr;
mod picture;

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::time::Duration;

use crate::stopped::Instant;

use nixvm_test_macros::tracked;

use crate::console::Pattern;
use crate::machine::Machine;
use crate::machine::replay::answers::Bytes;
use crate::qemu::Format;
use crate::{Error, ErrorKind, Event, FileKind, Result, threads};
use ocr::Layout;
use picture::Picture;

/// The limit for tesseract to read one picture. It usually takes half a second.
const READ: Duration = Duration::from_secs(60);
/// The shortest and longest polling interval for the screen. A dump takes some milliseconds of QEMU's time.
const LOOKS: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(250));

/// # Screen
impl Machine {
    /// Saves the screen to `path` as a PNG. An existing file is replaced.
    ///
    /// # Errors
    /// [`ErrorKind::Qmp`] when the machine has no screen (or this QEMU no PNG), [`ErrorKind::Io`] when the
    /// file can't be written.
    #[tracked]
    pub async fn screenshot(&self, path: impl AsRef<Path>) -> Result {
        let path = path.as_ref();
        let _step = self.life().step(format!("screenshot {}", path.display()));
        let png = self.png().await?;
        let failed = |error| Error::io(format_args!("write {}", path.display()), &error);
        std::fs::write(path, png).map_err(failed)?;
        let (machine, path) = (self.name().to_owned(), std::path::absolute(path).map_err(failed)?);
        self.life().events.send(Event::FileKept { machine, kind: FileKind::Screenshot, path });
        Ok(())
    }

    /// Returns the screen as a PNG.
    ///
    /// # Errors
    /// [`ErrorKind::Qmp`] when the machine has no screen (or this QEMU no PNG).
    #[tracked]
    pub async fn screenshot_png(&self) -> Result<Vec<u8>> {
        self.png().await
    }

    /// Returns the text on the screen, read by tesseract. Text recognition is not exact: `l` and `1`, or `0` and `O`,
    /// may be confused. Empty lines are left out.
    ///
    /// # Errors
    /// [`ErrorKind::Host`] when this host has no tesseract, and those of [`Machine::screenshot`].
    #[tracked]
    pub async fn get_screen_text(&self) -> Result<String> {
        let life = self.life();
        let _step = life.step("read the screen");
        life.answer_of_qemu("read the screen", async {
            read(&self.picture().await?, READINGS[0], life.limit(READ)).await
        })
        .await
    }

    /// Returns the text on the screen, read in several ways that make different mistakes: lines of a console, words
    /// anywhere, light text on dark patches.
    ///
    /// # Errors
    /// Those of [`Machine::get_screen_text`].
    #[tracked]
    pub async fn get_screen_text_variants(&self) -> Result<Vec<String>> {
        let life = self.life();
        let _step = life.step("read the screen");
        life.answer_of_qemu("read the screen in several ways", async {
            let picture = self.picture().await?;
            let mut texts = Vec::new();
            for reading in READINGS {
                texts.push(read(&picture, reading, life.limit(READ)).await?);
            }
            Ok(texts)
        })
        .await
    }

    /// Waits until the screen shows `pattern`: plain text, or a regular expression ([`Pattern::regex`]). Returns the
    /// text of the screen in which it was found. `limit` is for a fast host and is scaled by [`crate::Speed`]; the
    /// screen is read at least once.
    ///
    /// Every new picture is read in several ways, and one of the results has to match: see
    /// [`Machine::get_screen_text_variants`]. Plain text may differ in blanks and in characters that look alike (`l`
    /// and `1`, `O` and `0`, `S` and `5`); a regular expression has to match exactly. An unchanged picture is not read
    /// again.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] after `limit`, with what the screen showed; those of
    /// [`Machine::get_screen_text`]; at once [`ErrorKind::KernelPanic`], [`ErrorKind::EmergencyMode`] and
    /// [`ErrorKind::QemuGone`] unless the screen shows the text nevertheless.
    ///
    /// ```no_run
    /// # async fn example(machine: nixvm_test::machine::Machine) -> nixvm_test::Result {
    /// use std::time::Duration;
    /// machine.wait_for_text("login:", Duration::from_secs(30)).await?;
    /// machine.send_chars("alice\n").await?;
    /// machine.wait_for_text("Password:", Duration::from_secs(5)).await?;
    /// # Ok(()) }
    /// ```
    #[tracked]
    pub async fn wait_for_text(&self, pattern: impl Into<Pattern>, limit: Duration) -> Result<String> {
        let pattern = pattern.into();
        let life = self.life();
        let what = format!("wait for {pattern} on the screen");
        let _step = life.step(what.clone());
        life.answer(&what, self.look_for(&pattern, limit)).await
    }

    async fn look_for(&self, pattern: &Pattern, limit: Duration) -> Result<String> {
        let limit = self.speed().scale(limit);
        let started = Instant::now();
        let mut known = HashSet::new();
        let mut shown = String::new();
        let mut pause = LOOKS.0;
        loop {
            let picture = self.picture().await?;
            if known.insert(fingerprint(&picture)) {
                pause = LOOKS.0;
                for (number, reading) in READINGS.into_iter().enumerate() {
                    let text = read(&picture, reading, self.speed().scale(READ)).await?;
                    if alike::shows(&text, pattern) {
                        return Ok(text);
                    }
                    if number == 0 {
                        shown = text;
                    }
                }
            }
            if let Some(hopeless) = self.console().hopeless(pattern) {
                return Err(hopeless.section("the screen shows", shown));
            }
            if started.elapsed() >= limit {
                let error = Error::new(
                    ErrorKind::Timeout,
                    format!("{}: {pattern} did not appear on the screen", self.name()),
                )
                .took(started.elapsed(), limit)
                .section(
                    "the screen shows",
                    if shown.is_empty() { "(nothing that can be read)" } else { &shown },
                )
                .next_step("look at it: `machine.screenshot(\"screen.png\")` before this wait");
                return Err(pattern.hint(error));
            }
            tokio::time::sleep(pause.min(limit.saturating_sub(started.elapsed()))).await;
            pause = (pause * 2).min(LOOKS.1);
        }
    }

    async fn png(&self) -> Result<Vec<u8>> {
        let ask = async { self.dump(Format::Png).await.map(Bytes) };
        Ok(self.life().answer_of_qemu("picture of the screen", ask).await?.0)
    }

    async fn picture(&self) -> Result<Picture> {
        let ppm = self.dump(Format::Ppm).await?;
        Picture::read_ppm(&ppm)
            .ok_or_else(|| Error::new(ErrorKind::Qmp, "QEMU did not write a picture of the screen"))
    }

    async fn dump(&self, format: Format) -> Result<Vec<u8>> {
        let doing = "make a file for a picture of the screen";
        let file = tempfile::Builder::new()
            .prefix("screen")
            .tempfile_in(self.run_directory())
            .map_err(|error| Error::io(doing, &error))?;
        self.qemu().screendump(file.path(), format).await?;
        std::fs::read(file.path()).map_err(|error| Error::io(doing, &error))
    }
}

/// A way to read a picture.
#[derive(Debug, Clone, Copy)]
struct Reading {
    layout: Layout,
    /// The factor by which the picture is enlarged.
    zoom: usize,
    /// Whether light and dark are swapped: for a light window on a dark screen, or the reverse.
    inverted: bool,
}

/// The most likely first. (A console's letters are recognised best at twice their size; three and four times are worse.
/// At their original size, other characters are confused.)
const READINGS: [Reading; 4] = [
    Reading { layout: Layout::Block, zoom: 2, inverted: false },
    Reading { layout: Layout::Sparse, zoom: 2, inverted: false },
    Reading { layout: Layout::Automatic, zoom: 1, inverted: false },
    Reading { layout: Layout::Sparse, zoom: 2, inverted: true },
];

async fn read(picture: &Picture, reading: Reading, limit: Duration) -> Result<String> {
    if picture.is_blank() {
        return Ok(String::new());
    }
    let paper = picture.on_paper();
    let paper = if reading.inverted { paper.inverted() } else { paper };
    // Tens of milliseconds of computation, which would block other tasks here.
    let enlarged = threads::aside(move || paper.enlarged(reading.zoom)).await;
    let enlarged = enlarged.map_err(|error| Error::io("read the screen", &error))?;
    let text = ocr::read(&enlarged, reading.layout, limit).await?;
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    Ok(lines.flat_map(|line| [line.trim_end(), "\n"]).collect())
}

fn fingerprint(picture: &Picture) -> u64 {
    let mut hasher = DefaultHasher::new();
    picture.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hang::HANG;
    use crate::qemu::tests::Firmware;

    /// Reads the firmware's text on the screen with tesseract, in every way.
    #[tokio::test]
    async fn the_firmwares_screen_is_read_in_every_way() {
        // A stopped machine's picture does not change.
        let firmware = Firmware::with("-net none -boot menu=on,splash-time=60000").await;
        let path = firmware.run.path().join("screen");
        let wanted = Pattern::from("Press ESC for boot menu");
        let started = Instant::now();
        let picture = loop {
            firmware.qemu.screendump(&path, Format::Ppm).await.unwrap();
            let picture = Picture::read_ppm(&std::fs::read(&path).unwrap()).unwrap();
            if alike::shows(&read(&picture, READINGS[0], HANG).await.unwrap(), &wanted) {
                break picture;
            }
            assert!(started.elapsed() < HANG, "{}", read(&picture, READINGS[0], HANG).await.unwrap());
        };
        for reading in READINGS.into_iter().filter(|reading| !reading.inverted) {
            let text = read(&picture, reading, HANG).await.unwrap();
            assert!(alike::shows(&text, &"SeaBIOS".into()), "{reading:?}: {text}");
        }
    }

    #[tokio::test]
    async fn an_empty_screen_has_no_text() {
        let picture = Picture::read_ppm(b"P6\n2 1\n255\n\0\0\0\0\0\0").unwrap();
        assert_eq!(read(&picture, READINGS[0], HANG).await.unwrap(), "");
    }
}
