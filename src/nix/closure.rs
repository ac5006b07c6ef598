//! The closure of a store path: everything that it needs at run time.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::ask::ask;
use crate::{Error, ErrorKind, Result};

/// Time limit of the question to Nix.
const LIMIT: Duration = Duration::from_secs(60);

/// Returns the store paths in the closure of `path`.
///
/// # Errors
/// [`ErrorKind::Host`] when Nix can't be asked, [`ErrorKind::Other`] when it does not know the path.
pub(crate) fn closure(path: &Path) -> Result<Vec<PathBuf>> {
    let mut command = Command::new("nix-store");
    command.args(["--query", "--requisites"]).arg(path);
    let shown = path.display();
    let answer = ask(command, LIMIT)
        .map_err(|source| Error::host(format_args!("ask Nix for the closure of {shown}"), &source))?;
    if !answer.status.success() {
        return Err(Error::new(ErrorKind::Other, format!("Nix does not know the closure of {shown}"))
            .section("nix-store says", answer.said()));
    }
    Ok(String::from_utf8_lossy(&answer.stdout).lines().map(PathBuf::from).collect())
}
