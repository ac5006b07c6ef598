//! The machines of a scenario that failed, kept as they stand: what `nixvm-test attach` goes back to.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::task::JoinSet;

use crate::Events;
use crate::machine::Machine;

/// Where the record of this run is.
const RUN: &str = "NIXVM_RUN";
/// `0`: no machine is kept.
const KEEP: &str = "NIXVM_KEEP_FAILED";
/// For all machines of a scenario to be kept; the host may be short of disk or time.
const LONGEST: Duration = Duration::from_secs(90);

/// The folder of a scenario in the record of this run; `None` when there is no record, or nothing is to be kept.
pub(super) fn folder(scenario: &str) -> Option<PathBuf> {
    if std::env::var_os(KEEP).is_some_and(|value| value == "0") {
        return None;
    }
    let run = std::env::var_os(RUN).filter(|run| !run.is_empty())?;
    Some(PathBuf::from(run).join(file_name(scenario)))
}

/// A scenario's name in a path: `::` is `.`, and other odd characters are `_`.
fn file_name(scenario: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
    scenario.replace("::", ".").chars().map(plain).collect()
}

/// Keeps each machine in `FOLDER/MACHINE.moment`, all at once. What can't be kept is said in one line.
pub(super) async fn keep_all(machines: &[Machine], folder: &Path, events: &Events) {
    let mut keeping = JoinSet::new();
    for machine in machines {
        let moment = folder.join(format!("{}.moment", machine.name()));
        // One of an earlier try of the same scenario.
        let _ = std::fs::remove_dir_all(&moment);
        let machine = machine.clone();
        keeping.spawn(async move { machine.keep(&moment).await });
    }
    let all = async {
        while let Some(kept) = keeping.join_next().await {
            if let Ok(Err(error)) = kept {
                events.note(error.summary());
            }
        }
    };
    if tokio::time::timeout(LONGEST, all).await.is_err() {
        events.note("a machine is not kept as it stands: it took too long");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenarios_name_is_one_part_of_a_path() {
        assert_eq!(file_name("web::login"), "web.login");
        assert_eq!(file_name("../a b"), ".._a_b");
    }
}
