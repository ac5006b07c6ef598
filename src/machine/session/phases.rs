//! What a console says as a machine boots: the words by which the phases of a boot are known.

use regex::bytes::Regex;

use crate::Result;
use crate::console::{Console, Pattern};
use crate::machine::session::noise::tolerant;
use crate::qemu::Qemu;

/// A phase of a boot that has words of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// The kernel speaks.
    Kernel,
    /// The first program runs, which is that of the initial ramdisk.
    Initrd,
    /// systemd starts services.
    Services,
}

/// What a boot prints, in the order in which it can come, and what phase that is.
pub(crate) const WORDS: [(&str, Phase); 6] = [
    ("Linux version ", Phase::Kernel),
    ("Run /init as init process", Phase::Initrd),
    ("<<< NixOS Stage 1 >>>", Phase::Initrd),
    ("<<< NixOS Stage 2 >>>", Phase::Initrd),
    ("systemd[", Phase::Services),
    ("[  OK  ]", Phase::Services),
];

/// agetty's question.
pub(crate) const PROMPT: &str = "login: ";

/// Whether a text has what only the beginning of a boot prints.
pub(crate) fn has_a_beginning(text: &str) -> bool {
    WORDS.iter().any(|(words, phase)| *phase < Phase::Services && text.contains(words))
}

/// agetty's prompt, even with a kernel line inside.
pub(crate) fn login_prompt() -> Result<Pattern> {
    Ok(Pattern::regex(&prompt())?.called("the login prompt"))
}

fn prompt() -> String {
    format!("(?m)(?:^| ){}", tolerant(PROMPT))
}

/// At a reset the console is looked at: a guest that showed a login prompt had come up.
pub(crate) fn look_whether_up(qemu: &Qemu, console: &Console) {
    let (weak, mut since) = (console.downgrade(), console.mark());
    let Ok(prompt) = Regex::new(&prompt()) else { return };
    qemu.look_whether_up(move || {
        weak.upgrade().is_some_and(|console| {
            let from = std::mem::replace(&mut since, console.mark());
            prompt.is_match(console.text_since(from).text.as_bytes())
        })
    });
}
