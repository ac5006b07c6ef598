//! Describes an event in one line, for every reporter that shows lines.

use std::time::Duration;

use crate::Event;

/// Returns the line for `event`, or `None` if it needs no line.
pub(super) fn line(event: &Event) -> Option<String> {
    Some(match event {
        Event::Note { text } => printable(text),
        Event::BuildStarted { what } => format!("building {}", printable(what)),
        Event::BuildLine { text } => printable(text),
        Event::BuildFinished { what, took, .. } => format!("built {} in {}", printable(what), seconds(*took)),
        Event::MachineStarted { machine, pid } => format!("{machine}: started (QEMU is process {pid})"),
        Event::Phase { machine, phase, at } => format!("{machine}: {phase} after {}", seconds(*at)),
        Event::StepStarted { machine, text, .. } => format!("{machine}: {}", printable(text)),
        // Without systemd in the initial ramdisk, its start time is not known.
        Event::BootTimes { machine, kernel, initrd, userspace, .. } if initrd.is_zero() => format!(
            "{machine}: its boot took {} (kernel and stage 1), {} (userspace)",
            seconds(*kernel),
            seconds(*userspace)
        ),
        Event::BootTimes { machine, kernel, initrd, userspace, .. } => format!(
            "{machine}: its boot took {} (kernel), {} (initial ramdisk), {} (userspace)",
            seconds(*kernel),
            seconds(*initrd),
            seconds(*userspace)
        ),
        Event::ConsoleLine { machine, text } => format!("{machine} | {}", printable(text)),
        Event::NetworkFaults { text, .. } => format!("network: {}", printable(text)),
        Event::MachineStopped { machine, how } => format!("{machine}: {}", printable(how)),
        Event::RunStarted { .. }
        | Event::RunFinished { .. }
        | Event::HostSpeed { .. }
        | Event::StepFinished { .. }
        | Event::ScenarioStarted { .. }
        | Event::BodyStarted { .. }
        | Event::BodyFinished { .. }
        | Event::ScenarioSkipped { .. }
        | Event::NetworkCounts { .. }
        | Event::FileKept { .. } => return None,
        Event::ScenarioFinished { took, failure: None, .. } => format!("passed in {}", seconds(*took)),
        Event::ScenarioFinished { took, failure: Some(_), .. } => format!("FAILED after {}", seconds(*took)),
    })
}

/// Returns `text` on one line, without control characters. So a guest or a build can't control the user's
/// terminal, or make a line look different.
pub(super) fn printable(text: &str) -> String {
    let shown = crate::text::line(text);
    shown.trim_end().to_owned()
}

/// Returns the first character boundary in `text` at or after the byte `at`.
pub(super) fn boundary(text: &str, at: usize) -> usize {
    (at..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len())
}

pub(super) fn seconds(duration: Duration) -> String {
    match duration.as_secs() {
        0..60 => format!("{:.1} s", duration.as_secs_f64()),
        seconds => format!("{} min {} s", seconds / 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_and_control_characters_are_left_out() {
        assert_eq!(printable("\x1b[31mred\x1b[0m and \x1b]0;title\x07plain\x08"), "red and plain");
        assert_eq!(printable("\x1b]8;;http://x\x1b\\link\n"), "link");
        assert_eq!(printable("a\r\nb\tc"), "a b c");
        assert_eq!(printable("a\u{202e}b\u{200b}c"), "a\u{fffd}b\u{fffd}c");
        assert_eq!(printable("ends in an escape \x1b["), "ends in an escape");
    }

    #[test]
    fn durations_are_easy_to_read() {
        assert_eq!(seconds(Duration::from_millis(1_240)), "1.2 s");
        assert_eq!(seconds(Duration::from_secs(125)), "2 min 5 s");
    }
}
