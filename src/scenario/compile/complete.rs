//! Checks that a binary has every scenario of its files. A `main` written by the user, a `cfg` or a macro can leave one
//! out, and a run without it would pass.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;

use super::look::Look;
use super::source;
use crate::scenario::describe::{Place, TELL_PLACES};
use crate::{Error, ErrorKind, Result};

/// Time limit for a binary to list its scenarios, which takes milliseconds.
const LIMIT: Duration = Duration::from_secs(60);

/// Maximum number of bytes that are read of its answer.
const MOST: u64 = 16 << 20;

/// # Errors
/// [`ErrorKind::Usage`] if a `#[scenario]` of `file`, or of one of its modules, is not in `binary`, which was compiled
/// from `inputs`: the error names file and line. Also if the binary does not list its scenarios.
pub(super) async fn check(file: &Path, binary: &Path, inputs: &[PathBuf]) -> Result {
    let places = ask(file, binary).await?;
    let inputs: BTreeSet<PathBuf> = inputs.iter().map(|path| resolved(path)).collect();
    let mut waiting = vec![file.to_owned()];
    waiting.extend(places.iter().map(|(path, ..)| path.clone()));
    let mut seen = BTreeSet::new();
    while let Some(path) = waiting.pop() {
        // A missing file (a generated one, say) has nothing to compare with.
        if !seen.insert(resolved(&path)) || !path.is_file() {
            continue;
        }
        let look = source::look(&path)?;
        let here = places.iter().filter(|(its, ..)| resolved(its) == resolved(&path));
        if let Some(line) = missing(&look, here.map(|(_, line, name)| (*line, name.as_str())).collect()) {
            return Err(left_out(&path, line));
        }
        let folders = [path.parent().map(Path::to_owned), Some(path.with_extension(""))];
        for module in folders.iter().flatten().flat_map(|folder| look.modules.iter().map(|m| folder.join(m)))
        {
            if inputs.contains(&resolved(&module)) {
                waiting.push(module);
            } else if module.is_file()
                && let Ok(Look { scenarios, main: false, .. }) = source::look(&module)
                && let Some(line) = scenarios.first()
            {
                return Err(left_out(&module, *line));
            }
        }
    }
    Ok(())
}

/// Asks the binary for its scenarios.
async fn ask(file: &Path, binary: &Path) -> Result<Vec<Place>> {
    let mut command = tokio::process::Command::new(binary);
    command.env(TELL_PLACES, "1").stdin(Stdio::null()).stderr(Stdio::null()).stdout(Stdio::piped());
    let shown = file.display();
    let failed = |source: &std::io::Error| Error::io(format_args!("ask what is in {shown}"), source);
    let spawned = command.kill_on_drop(true).spawn();
    let mut child = spawned.map_err(|source| failed(&source).because_of_a_limit(&source))?;
    let mut answer = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        // A binary that never ends is killed on drop.
        let read = tokio::time::timeout(LIMIT, stdout.take(MOST).read_to_end(&mut answer)).await;
        read.unwrap_or(Ok(0)).map_err(|source| failed(&source))?;
    }
    let answer = String::from_utf8_lossy(&answer);
    let places = answer.lines().find_map(|line| serde_json::from_str(line.strip_prefix(TELL_PLACES)?).ok());
    places.ok_or_else(|| {
        Error::new(
            ErrorKind::Usage,
            format!("{shown}: no scenario of this file runs: its `main` does not run them"),
        )
        .likely_cause(
            "it has a `fn main` of its own, which does not call `nixvm_test::scenario::main()` first",
        )
        .next_step("replace that `fn main` by a last line `nixvm_test::main!();`")
    })
}

/// Returns the line of a scenario in the file that the binary does not have.
fn missing(look: &Look, mut here: Vec<(usize, &str)>) -> Option<usize> {
    let all: Vec<(usize, &String)> = look.scenarios.iter().copied().zip(&look.functions).collect();
    let mut before = usize::MAX;
    let mut missing = None;
    // The function of an attribute is between it and the next attribute.
    for (line, name) in all.into_iter().rev() {
        let is_it = |(at, its): &(usize, &str)| {
            (line..=before).contains(at) && (name.is_empty() || its.trim_start_matches("r#") == name)
        };
        match here.iter().position(is_it) {
            Some(found) => {
                here.swap_remove(found);
            }
            None => missing = Some(line),
        }
        before = line;
    }
    missing
}

fn left_out(path: &Path, line: usize) -> Error {
    let summary =
        format!("{}:{line}: this scenario never runs: the compiled file does not have it", path.display());
    Error::new(ErrorKind::Usage, summary)
        .likely_cause("a `cfg` of it or of its module is false, or a macro around it removes it")
        .next_step(
            "remove the cause, or write `#[scenario(ignore = \"WHY\")]`: a run lists ignored scenarios",
        )
}

/// Returns the same path for the same file, even if links or dots lead to it.
fn resolved(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}
