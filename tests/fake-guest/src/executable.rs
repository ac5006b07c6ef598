//! Programs that a test writes and then runs.

use std::io::{Error, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

/// Writes a program that is run afterwards.
///
/// Another process writes it. If this one did, a child that another thread starts meanwhile would have the open file
/// until it executes its own program, and Linux executes no file that is open for writing ("Text file busy").
///
/// # Errors
/// When it can't be written.
pub fn write_executable(path: impl AsRef<Path>, text: impl AsRef<[u8]>) -> std::io::Result<()> {
    let path = path.as_ref();
    let mut shell = Command::new("/bin/sh")
        .args(["-c", "cat >\"$1\" && chmod 755 \"$1\"", "sh"])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()?;
    let written = shell.stdin.take().map_or(Ok(()), |mut input| input.write_all(text.as_ref()));
    let status = shell.wait()?;
    written?;
    if status.success() { Ok(()) } else { Err(Error::other(format!("{} was not written", path.display()))) }
}
