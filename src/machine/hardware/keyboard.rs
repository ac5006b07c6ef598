//! The machine's keyboard, for programs on its screen, such as a login on tty1 or a graphical program.

use std::time::Duration;

use nixvm_test_macros::tracked;

use crate::Result;
use crate::machine::Machine;
use crate::qemu::Chord;

/// The limit for a guest to read a key, on a fast host.
const TAKEN: Duration = Duration::from_secs(5);

/// # Keyboard
impl Machine {
    /// Presses keys together and releases them: `"ctrl-alt-f2"`, `"ret"`, `"meta_l"`, `"A"` (shift and a),
    /// `"shift-0x1c"` (a scan code). The names are QEMU's, as in NixOS tests; `enter`, `space`, `escape`, `super` and
    /// other usual names work as well.
    ///
    /// Returns when the guest's driver has read the keys (this is known for PS/2 and virtio keyboards). Its programs
    /// react later: wait for that.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Timeout`] when the guest does not read its keyboard for 5 s (scaled),
    /// [`crate::ErrorKind::Qmp`] when there is no key of that name, [`crate::ErrorKind::Usage`] for an empty name and
    /// when the machine is paused, [`crate::ErrorKind::QemuGone`].
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
    /// It types as fast as the guest's driver reads, so no key gets lost and no delay is needed. Some programs discard
    /// earlier input before they ask, as a password prompt does: wait for the question first, for example with
    /// [`Machine::wait_for_text`].
    ///
    /// # Errors
    /// Those of [`Machine::send_key`]; [`crate::ErrorKind::Usage`] for a character that the layout does not have,
    /// before anything is typed.
    #[tracked]
    pub async fn send_chars(&self, text: &str) -> Result {
        let chords = text.chars().map(Chord::of).collect::<Result<Vec<_>>>()?;
        // The typed text may be a password.
        let life = self.life();
        let what = format!("type {} characters", chords.len());
        let _step = life.step(what.clone());
        life.answer(&what, life.qemu.press(&chords, life.limit(TAKEN))).await
    }
}
