//! Parses how much time a kernel line about a stall refers to.

use std::sync::LazyLock;
use std::time::Duration;

use regex::Regex;

/// The span for a line without a time: RCU stalls are reported after 21 to 60 s; a lock's owner is reported with a hung
/// task.
const UNSAID: Duration = Duration::from_secs(60);
/// The maximum span. The host's samples cover no more.
const MOST: Duration = Duration::from_secs(3600);

/// Returns how long, up to the line, there was no progress. `watchdog: BUG: soft lockup - CPU#1 stuck for 26s!` is
/// about 26 s.
pub(crate) fn span(line: &str) -> Duration {
    static SAID: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"(?:stuck for|blocked .*for more than) ([0-9]+) ?s").ok());
    let said = SAID.as_ref().and_then(|said| said.captures(line)).and_then(|said| said.get(1));
    match said.map(|digits| digits.as_str().parse()) {
        Some(Ok(seconds)) => Duration::from_secs(seconds).min(MOST),
        // The number overflows.
        Some(Err(_)) => MOST,
        None => UNSAID,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_the_one_that_the_line_says() {
        for (line, seconds) in [
            ("[   99.000001] watchdog: BUG: soft lockup - CPU#1 stuck for 26s! [sh:9]", 26),
            ("BUG: soft lockup - CPU#0 stuck for 0s! [swapper/0:1]", 0),
            ("INFO: task sync:812 blocked for more than 120 seconds.", 120),
            ("INFO: task a b:1 blocked in I/O wait for more than 122 seconds.", 122),
            ("INFO: task for more than 5 s:1 blocked for more than 241 seconds.", 241),
            ("INFO: task cat:815 is blocked on a mutex likely owned by task cat:814.", 60),
            ("rcu: INFO: rcu_preempt self-detected stall on CPU", 60),
            ("rcu: rcu_preempt kthread starved for 60002 jiffies! g12345", 60),
            ("BUG: soft lockup - CPU#1 stuck for 99999999s! [sh:9]", 3600),
            ("BUG: soft lockup - CPU#1 stuck for 99999999999999999999999s! [sh:9]", 3600),
            ("", 60),
        ] {
            assert_eq!(span(line), Duration::from_secs(seconds), "{line}");
        }
    }
}
