//! Asks the binary of a file which scenarios it has.

use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::scenario::TELL_SCENARIOS;
use crate::{Error, ErrorKind, Result, stopped};

/// The limit for the answer, which usually takes milliseconds. Code of the file may run before it.
const LIMIT: Duration = Duration::from_secs(5 * 60);
/// The size of what is read, in bytes.
const MOST: u64 = 16 << 20;

/// Returns the scenarios that `command`, the binary of `file`, reports.
///
/// # Errors
/// [`ErrorKind::Host`] when it can't be started, fails, does not answer in time, or answers too much or something else.
pub async fn scenarios(command: Command, file: &Path) -> Result<Vec<Value>> {
    within(LIMIT, command, file).await
}

/// Returns whether the machines of one of these scenarios are on a network.
pub fn have_network(scenarios: &[Value]) -> bool {
    scenarios.iter().any(|scenario| scenario["network"] == true)
}

async fn within(limit: Duration, mut command: Command, file: &Path) -> Result<Vec<Value>> {
    let failed =
        |why: String| Error::new(ErrorKind::Host, format!("could not ask {}: {why}", file.display()));
    command.env(TELL_SCENARIOS, "1");
    let (status, stdout, stderr) = match stopped::timeout(limit, output(command)).await {
        Ok(output) => output.map_err(|source| failed(source.to_string()).because_of_a_limit(&source))?,
        Err(_) => return Err(failed(format!("no answer within {} s", limit.as_secs()))),
    };
    let parsed = String::from_utf8_lossy(&stdout).lines().map(serde_json::from_str).collect();
    match parsed {
        Ok(scenarios) if status.success() => Ok(scenarios),
        _ => {
            Err(failed(status.to_string()).section("it said", String::from_utf8_lossy(&stderr).into_owned()))
        }
    }
}

/// Runs a command to its end. It is killed when the future is dropped.
async fn output(command: Command) -> std::io::Result<(ExitStatus, Vec<u8>, Vec<u8>)> {
    let mut command = tokio::process::Command::from(command);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn()?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (stdout, stderr) = tokio::try_join!(all_of(stdout), all_of(stderr))?;
    Ok((child.wait().await?, stdout, stderr))
}

async fn all_of(from: Option<impl AsyncRead + Unpin>) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(from) = from {
        from.take(MOST + 1).read_to_end(&mut bytes).await?;
    }
    if bytes.len() as u64 > MOST {
        return Err(std::io::Error::other(format!("it printed more than {} MiB", MOST >> 20)));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn asked(limit: Duration, script: &str) -> Result<Vec<Value>> {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        within(limit, command, Path::new("x.rs")).await
    }

    #[tokio::test]
    async fn each_line_is_a_scenario_and_what_is_none_is_quoted() {
        let told = asked(LIMIT, "echo '{\"name\": \"a\"}'; echo '{\"name\": \"b\"}'").await.unwrap();
        assert_eq!((told.len(), &told[1]["name"]), (2, &"b".into()));
        let error = asked(LIMIT, "echo hello; echo because >&2").await.unwrap_err().to_string();
        assert!(error.contains("could not ask x.rs") && error.contains("because"), "{error}");
        let error = asked(LIMIT, "exit 3").await.unwrap_err().to_string();
        assert!(error.contains("exit status: 3"), "{error}");
    }

    #[tokio::test]
    async fn a_flood_and_a_silence_end() {
        for flood in ["yes", "yes >&2"] {
            let error = asked(LIMIT, flood).await.unwrap_err();
            assert!(error.summary().contains("it printed more than 16 MiB"), "{error}");
        }
        let error = asked(Duration::ZERO, "exec sleep 1000").await.unwrap_err();
        assert!(error.summary().contains("no answer within 0 s"), "{error}");
    }
}
