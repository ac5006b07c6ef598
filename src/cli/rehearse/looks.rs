//! Looks at a machine until what a start changes for a while is over.

use std::time::Duration;

use crate::Result;
use crate::machine::{FAILED, Survey};
use crate::stopped::{Instant, sleep};

/// How long a difference may take to pass, on a fast host.
pub(super) const PASSING: Duration = Duration::from_secs(30);
/// The pause between two looks.
const PAUSE: Duration = Duration::from_secs(3);
/// What is different while a machine starts: a server opens its port after systemd is done with it.
pub(super) const WHILE_IT_STARTS: [&str; 4] =
    ["ran and does not run", "unmounted", "closed ports", "addresses that are gone"];

/// The differences between two looks, by kind.
pub(super) type Differences = Vec<(&'static str, Vec<String>)>;

/// Repeats `look` until it finds no difference from `before` that may pass, or the limit is over. Returns the last look
/// and its differences. A unit that had failed in an earlier look counts, too: a timer may have started it again.
///
/// # Errors
/// Those of `look`.
pub(super) async fn until_over(
    limit: Duration,
    may_pass: impl Fn(&str) -> bool,
    before: &Survey,
    mut look: impl AsyncFnMut() -> Result<Survey>,
) -> Result<(Survey, Differences)> {
    let begun = Instant::now();
    let mut failed: Vec<String> = Vec::new();
    loop {
        let seen = look().await?;
        let mut found = seen.differences(before);
        let now = found.iter().filter(|(kind, _)| *kind == FAILED).flat_map(|(_, units)| units);
        failed.extend(now.cloned());
        if begun.elapsed() < limit && found.iter().any(|(kind, _)| may_pass(kind)) {
            sleep(PAUSE).await;
            continue;
        }
        found.retain(|(kind, _)| *kind != FAILED);
        if !failed.is_empty() {
            failed.sort();
            failed.dedup();
            found.insert(0, (FAILED, failed));
        }
        return Ok((seen, found));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(ports: &[&str]) -> Survey {
        Survey { ports: ports.iter().map(|port| (*port).to_owned()).collect(), ..Survey::default() }
    }

    fn unit(active: &str) -> Survey {
        let mut look = look(&[]);
        look.units.entry("a.service".to_owned()).or_default().active = active.to_owned();
        look
    }

    /// Returns what is found if the looks see `seen`, and how many looks were left.
    async fn found(limit: Duration, before: &Survey, seen: Vec<Survey>) -> (Differences, usize) {
        let mut seen = seen.into_iter();
        let (_, found) =
            until_over(limit, |_| true, before, async || Ok(seen.next().unwrap_or_default())).await.unwrap();
        (found, seen.count())
    }

    #[tokio::test(start_paused = true)]
    async fn a_port_that_is_opened_late_is_not_closed() {
        let up = look(&["tcp 80"]);
        let seen = vec![look(&[]), look(&[]), up.clone(), look(&[])];
        assert_eq!(found(PASSING, &up, seen).await, (Vec::new(), 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_port_that_stays_closed_is_told_when_the_limit_is_over() {
        let closed = ("closed ports", vec!["tcp 80".to_owned()]);
        let seen = vec![look(&[]), look(&["tcp 80"])];
        assert_eq!(found(Duration::ZERO, &look(&["tcp 80"]), seen).await, (vec![closed], 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_unit_that_failed_and_was_started_again_counts() {
        let failed = ("failed", vec!["a.service".to_owned()]);
        let seen = vec![unit("failed"), unit("failed"), unit("active")];
        assert_eq!(found(PASSING, &unit("active"), seen).await, (vec![failed], 0));
    }

    #[test]
    fn the_kinds_are_those_of_a_look() {
        let before = Survey {
            addresses: ["10.0.2.15".to_owned()].into(),
            mounts: [("/data".to_owned(), "ext4".to_owned())].into(),
            ..look(&["tcp 80"])
        };
        let kinds: Vec<_> = look(&[]).differences(&before).into_iter().map(|(kind, _)| kind).collect();
        assert!(kinds.iter().all(|kind| WHILE_IT_STARTS.contains(kind)) && kinds.len() == 3, "{kinds:?}");
    }
}
