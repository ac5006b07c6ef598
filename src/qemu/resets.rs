//! A guest that resets again and again before it comes up: a boot loop.
//!
//! QEMU reports for each reset whether the guest caused it, but not whether it was intended: a reboot and a
//! triple fault look alike. So a reset counts only if the guest did not come up before it.

use std::sync::Mutex;
use std::time::Duration;

use super::Qemu;
use crate::mutex::lock;
use crate::{Error, ErrorKind};

/// This many resets in a row, without the guest coming up, are a loop.
const LOOP: u32 = 2;
/// Resets that follow each other faster than this count as one. A kernel writes to several ports until the
/// machine resets, and QEMU 7.2 then reports up to three resets within 80 ms. No firmware starts a kernel
/// that fast.
const ONE: Duration = Duration::from_secs(1);

type Look = Box<dyn FnMut() -> bool + Send>;

/// The resets of a guest since it came up.
#[derive(Default)]
pub(super) struct Resets(Mutex<State>);

#[derive(Default)]
struct State {
    /// Resets before which the guest had not come up.
    in_a_row: u32,
    /// Whether it has come up since the last reset.
    up: bool,
    /// When the last counted reset was, by QEMU's clock.
    last: Option<Duration>,
    /// Checks whether it has come up since the last check.
    look: Option<Look>,
}

impl std::fmt::Debug for Resets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = lock(&self.0);
        f.debug_struct("Resets").field("in_a_row", &state.in_a_row).field("up", &state.up).finish()
    }
}

impl Resets {
    /// Records that the guest was reset at a time of QEMU's clock, by itself or through QEMU. Returns an
    /// error for those who wait for the guest if this makes a loop.
    pub(super) fn another(&self, by_guest: bool, at: Option<Duration>) -> Option<Error> {
        let mut state = lock(&self.0);
        if let (Some(last), Some(at)) = (state.last, at)
            && at.abs_diff(last) < ONE
        {
            return None;
        }
        state.last = at;
        let shows = state.look.as_mut().is_some_and(|look| look());
        let up = std::mem::take(&mut state.up) || shows;
        state.in_a_row = if up || !by_guest { 0 } else { state.in_a_row + 1 };
        (state.in_a_row == LOOP).then(|| {
            Error::new(
                ErrorKind::BootLoop,
                format!(
                    "the guest is in a boot loop: it reset itself {LOOP} times in a row before it came up"
                ),
            )
            .likely_cause(
                "a program in it restarts it at each boot (then its console says `reboot: Restarting \
                 system` or `sysrq: \
                 Resetting`), or a triple fault resets it before its kernel prints anything",
            )
            .next_step(
                "read the lines of the transcript before the firmware starts again; with -no-reboot in \
                 virtualisation.qemu.options QEMU ends at the first reset",
            )
        })
    }

    fn came_up(&self) {
        let mut state = lock(&self.0);
        state.up = true;
        state.in_a_row = 0;
    }
}

impl Qemu {
    /// Records that the guest has come up, or was asked to reboot, so that the next reset is expected.
    pub(crate) fn came_up(&self) {
        self.resets.came_up();
        self.supervised
            .halted()
            .send_if_modified(|why| why.take_if(|why| why.kind() == ErrorKind::BootLoop).is_some());
    }

    /// Sets the function that checks, at each reset, whether the guest has come up since the last check.
    pub(crate) fn look_whether_up(&self, look: impl FnMut() -> bool + Send + 'static) {
        lock(&self.resets.0).look = Some(Box::new(look));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the last of these resets makes a loop. `u` is a guest that came up, `g` a reset by the guest,
    /// `q` one through QEMU's control protocol.
    fn is_loop(story: &str) -> bool {
        let resets = Resets::default();
        let mut last = None;
        for what in story.chars() {
            match what {
                'u' => resets.came_up(),
                what => last = resets.another(what == 'g', None),
            }
        }
        last.is_some_and(|error| error.kind() == ErrorKind::BootLoop)
    }

    #[test]
    fn two_resets_in_a_row_of_a_guest_that_did_not_come_up_are_a_loop() {
        for (story, expected) in [
            ("g", false),
            ("gg", true),
            ("gug", false),
            ("gugg", false),
            ("guggg", true),
            ("ug", false),
            ("ugg", false),
            ("uggg", true),
            ("ugugug", false),
            ("qqqq", false),
            ("gqg", false),
            ("gqgg", true),
        ] {
            assert_eq!(is_loop(story), expected, "{story}");
        }
    }

    #[test]
    fn what_the_console_shows_counts_as_well() {
        let resets = Resets::default();
        lock(&resets.0).look = Some(Box::new(|| true));
        assert!((0..4).all(|_| resets.another(true, None).is_none()));
    }

    #[test]
    fn resets_that_no_boot_can_lie_between_are_one() {
        let resets = Resets::default();
        let at = |milliseconds| Some(Duration::from_millis(1_700_000_000_000 + milliseconds));
        // Recorded with QEMU 7.2 for one `echo b >/proc/sysrq-trigger`.
        for time in [0, 70, 80] {
            assert!(resets.another(true, at(time)).is_none(), "{time}");
        }
        assert!(resets.another(true, at(9_000)).is_some());
        // A loop with resets within a second is detected, too.
        let resets = Resets::default();
        assert!((0..30_u64).any(|time| resets.another(true, at(time * 80)).is_some()));
    }
}
