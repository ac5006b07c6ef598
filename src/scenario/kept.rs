//! Keeps the machines of a failed scenario in their present state, so that `nixvm-test attach` can return to
//! it.

use std::time::Duration;

use tokio::task::JoinSet;

use crate::machine::Machine;
use crate::record::{Keeper, in_a_path};
use crate::{Events, FileKind};

/// The limit for keeping all machines of a scenario. The host may be short of disk or time.
const LONGEST: Duration = Duration::from_secs(90);

/// Keeps each machine in `FOLDER/MACHINE.moment`, all at once. A note says what can't be kept.
pub(super) async fn keep_all(machines: &[Machine], keeper: &Keeper, events: &Events) {
    let mut keeping: JoinSet<crate::Result> = JoinSet::new();
    for machine in machines {
        let moment = keeper.folder().join(format!("{}.moment", in_a_path(machine.name())));
        // Left by an earlier run into the same record.
        let _ = std::fs::remove_dir_all(&moment);
        let (machine, keeper) = (machine.clone(), keeper.clone());
        keeping.spawn(async move {
            machine.keep(&moment).await?;
            keeper.kept(machine.name(), FileKind::Moment, &moment);
            Ok(())
        });
    }
    let all = async {
        while let Some(kept) = keeping.join_next().await {
            if let Ok(Err(error)) = kept {
                events.note(error.summary());
            }
        }
    };
    if tokio::time::timeout(LONGEST, all).await.is_err() {
        events.note("a machine is not kept: it took too long");
    }
}
