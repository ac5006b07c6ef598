//! The machine's keyboard: for what is on its screen, such as a login on tty1 or a graphical program.

use std::time::Duration;

use nixvm_test_macros::tracked;

use crate::Result;
use crate::machine::Machine;
use crate::qemu::Chord;

/// For a guest to take a key, on a fast host.
const TAKEN: Duration = Duration::from_secs(5);

/// # Keyboard
impl Machine {
    /// Presses keys together and lets them go: `"ctrl-alt-f2"`, `"ret"`, `"meta_l"`, `"A"` (which is
    /// shift and a), `"shift-0x1c"` (a scan code). The names are QEMU's, as in NixOS tests; `enter`,
    /// `space`, `escape`, `super` and other usual ones are understood as well.
    ///
    /// Returns when the guest's driver has taken the keys (that can be known of PS/2 and virtio keyboards);
    /// what its programs make of them comes later: wait for that.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Timeout`] when the guest does not read its keyboard for 5 s (scaled),
    /// [`crate::ErrorKind::Qmp`] when there is no key of that name, [`crate::ErrorKind::Usage`] for an
    /// empty one and when the machine is paused, [`crate::ErrorKind::QemuGone`].
    ///
    /// ```no_run
    /// # async fn example(machine: nixvm_test::machine::Machine) -> nixvm_test::Result {
    /// machine.send_key("ctrl-alt-f2").await
    /// # }
    /// ```
    #[tracked]
    pub async fn send_key(&self, keys: &str) -> Result {
        let chord = Chord::parse(keys)?;
        let life = self.life();
        let _step = life.step(format!("press {keys}"));
        life.answer(&format!("press {keys}"), life.qemu.press(&[chord], life.limit(TAKEN))).await
    }

    /// Types text on the keyboard, as on a US layout; `\n` is the Enter key, `\t` Tab, `\x03` ctrl-c.
    ///
    /// It is typed as fast as the guest's driver takes it and no faster, so none of it gets lost on the
    /// way: no delay has to be guessed. A program that throws away what was typed before it asks (a
    /// password prompt does) has to be waited for, with [`Machine::wait_for_text`] for example.
    ///
    /// # Errors
    /// As [`Machine::send_key`]; [`crate::ErrorKind::Usage`] for a character that the layout does not
    /// have, before anything is typed.
    #[tracked]
    pub async fn send_chars(&self, text: &str) -> Result {
        let chords = text.chars().map(Chord::of).collect::<Result<Vec<_>>>()?;
        // What is typed may be a password.
        let life = self.life();
        let what = format!("type {} characters", chords.len());
        let _step = life.step(what.clone());
        life.answer(&what, life.qemu.press(&chords, life.limit(TAKEN))).await
    }
}
