//! Reads a picture of the screen with tesseract.

use std::process::Stdio;
use std::time::Duration;

use crate::stopped::Instant;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::picture::Picture;
use crate::{Error, ErrorKind, Result};

/// The page layout that tesseract assumes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// One block of lines: a console.
    Block,
    /// Words anywhere: windows, buttons.
    Sparse,
    /// A page, possibly with columns.
    Automatic,
}

/// Returns the text in the picture. `limit` is for tesseract.
pub(super) async fn read(picture: &Picture, layout: Layout, limit: Duration) -> Result<String> {
    read_by("tesseract", picture, layout, limit).await
}

async fn read_by(program: &str, picture: &Picture, layout: Layout, limit: Duration) -> Result<String> {
    let started = Instant::now();
    let mode = match layout {
        Layout::Block => "6",
        Layout::Sparse => "11",
        Layout::Automatic => "3",
    };
    let mut child = Command::new(program)
        .args(["stdin", "stdout", "--dpi", "200", "--psm", mode])
        // A single picture is too small for several threads: they are slower than one.
        .env("OMP_THREAD_LIMIT", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(cannot_start)?;
    let stdin = child.stdin.take();
    let feed = async {
        if let Some(mut stdin) = stdin {
            // If tesseract exits early, its messages say why.
            let _ = stdin.write_all(&picture.to_pgm()).await;
        }
    };
    let reading = async { tokio::join!(feed, child.wait_with_output()).1 };
    let output = match crate::stopped::timeout(limit, reading).await {
        Ok(output) => output.map_err(|error| Error::io("run tesseract", &error))?,
        Err(_) => {
            return Err(Error::new(ErrorKind::Timeout, "tesseract did not read the screen in time")
                .took(started.elapsed(), limit));
        }
    };
    if !output.status.success() {
        let words = crate::console::shown(&output.stderr, 10);
        return Err(Error::new(ErrorKind::Host, format!("tesseract failed: {}", output.status))
            .section("it said", words)
            .next_step("is its English language data installed? (Debian: tesseract-ocr-eng)"));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim_end_matches('\x0c').to_owned())
}

fn cannot_start(source: std::io::Error) -> Error {
    if source.kind() != std::io::ErrorKind::NotFound {
        return Error::io("run tesseract", &source).because_of_a_limit(&source);
    }
    Error::new(ErrorKind::Host, "reading the screen needs tesseract, and this host has no such program")
        .next_step("install it (Debian: apt-get install tesseract-ocr, NixOS: pkgs.tesseract)")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the error when a program in tesseract's place reads an empty picture.
    async fn refused(program: &str) -> Error {
        let picture = Picture::read_ppm(b"P6 2 1 255 \0\0\0\xff\xff\xff").unwrap();
        read_by(program, &picture, Layout::Block, crate::hang::HANG).await.unwrap_err()
    }

    #[tokio::test]
    async fn a_host_without_tesseract_is_told_what_to_install() {
        let error = refused("/nowhere/tesseract").await;
        assert_eq!(error.kind(), ErrorKind::Host);
        assert!(error.summary().contains("needs tesseract"), "{error}");
        assert!(error.to_string().contains("apt-get install tesseract-ocr"), "{error}");
        assert!(error.to_string().contains("pkgs.tesseract"), "{error}");
    }

    #[tokio::test]
    async fn a_tesseract_that_fails_is_named_with_the_likely_cause() {
        let error = refused("false").await;
        assert_eq!(error.kind(), ErrorKind::Host);
        assert!(error.to_string().contains("tesseract-ocr-eng"), "{error}");
    }
}
