//! Types on the machine's keyboard, no faster than the guest reads it.
//!
//! QEMU throws keys away that the guest has no room for, and tells nobody. So after each few keys the
//! keyboard is asked whether the guest has taken them:
//!
//! - A virtio keyboard (NixOS's VMs have one) hands a key over in a buffer that the guest has to give
//!   back; there are 64. `x-query-virtio-queue-status` says where the ring of buffers is and how many QEMU
//!   has used up, the ring itself (in the guest's memory) how many the guest has given.
//! - A PS/2 keyboard (firmware, boot loaders) holds 16 bytes; bit 0 of its status port says that one waits.
//!   Reading that port changes nothing.
//!
//! Where neither can be asked (a USB keyboard) there is a pause after each key.

use std::time::Duration;

use crate::stopped::Instant;

use serde_json::json;

use super::keys::Chord;
use super::{QMP_LIMIT, Qemu};
use crate::{Error, ErrorKind, Result};

/// The pause after a key where nothing tells that it was taken.
const PAUSE: Duration = Duration::from_millis(10);
/// Between two looks whether a key was taken.
const LOOK: Duration = Duration::from_millis(1);
/// So many characters fit into a virtio keyboard's 64 buffers: four reports of two buffers each, with shift.
const AT_ONCE: usize = 6;

/// How it is found out that the guest has taken a key.
#[derive(Debug)]
enum Keyboard {
    /// The virtio keyboards (and mice) that the guest has a driver for.
    Virtio(Vec<Ring>),
    Ps2,
    Unknown,
}

/// The event queue of a virtio input device.
#[derive(Debug)]
struct Ring {
    path: String,
    /// How many buffers are there when the guest has taken everything.
    full: u16,
}

impl Qemu {
    /// Presses each of the chords and lets it go, one after the other; returns when the guest's keyboard
    /// driver has taken the last one, as far as that can be known. `limit` is for a guest that takes none.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] when the guest does not read its keyboard, [`ErrorKind::Qmp`] when QEMU does
    /// not know a key, [`ErrorKind::Usage`] when the machine is paused.
    pub(crate) async fn press(&self, chords: &[Chord], limit: Duration) -> Result {
        let status = self.qmp().execute("query-status", None, QMP_LIMIT).await?;
        if status["running"] == false {
            if let Some(why) = self.look_whether_halted().await? {
                let summary = format!("no key reaches the guest: {}", why.summary());
                return Err(why.with_summary(summary));
            }
            let status = status["status"].as_str().unwrap_or("paused");
            return Err(Error::new(
                ErrorKind::Usage,
                format!("keys reach no machine that does not run: it is {status}"),
            ));
        }
        let mut keyboard = self.keyboard().await?;
        let at_once = if matches!(keyboard, Keyboard::Virtio(_)) { AT_ONCE } else { 1 };
        let mut typed = 0;
        for chords in chords.chunks(at_once) {
            for report in chords.iter().flat_map(Chord::reports) {
                self.qmp().execute("input-send-event", Some(report), QMP_LIMIT).await?;
            }
            typed += chords.len();
            self.taken(&mut keyboard, limit).await.map_err(|error| {
                let typed = format!("{typed} keys were pressed, the last {} are not taken", chords.len());
                error.section("how far it got", typed)
            })?;
        }
        Ok(())
    }

    /// Which keyboard the guest uses: a virtio one gets the keys as soon as the guest has a driver for it.
    async fn keyboard(&self) -> Result<Keyboard> {
        let mut rings = Vec::new();
        // Without this command (it may go, as its `x-` says) keys are typed with a pause.
        let devices = self.qmp().execute("x-query-virtio", None, QMP_LIMIT).await.unwrap_or_default();
        let devices = devices.as_array().cloned().unwrap_or_default();
        for device in devices.iter().filter(|device| device["name"] == "virtio-input") {
            let path = device["path"].as_str().unwrap_or_default().to_owned();
            if let Some(full) = self.free_buffers(&path).await? {
                rings.push(Ring { path, full });
            }
        }
        if !rings.is_empty() {
            return Ok(Keyboard::Virtio(rings));
        }
        let status = self.monitor("i /b 0x64").await.unwrap_or_default();
        Ok(if ps2_status(&status).is_some() { Keyboard::Ps2 } else { Keyboard::Unknown })
    }

    /// Waits until the guest has taken what was typed.
    async fn taken(&self, keyboard: &mut Keyboard, limit: Duration) -> Result {
        let started = Instant::now();
        loop {
            let taken = match keyboard {
                Keyboard::Unknown => {
                    tokio::time::sleep(PAUSE).await;
                    true
                }
                Keyboard::Ps2 => {
                    let status = self.monitor("i /b 0x64").await?;
                    ps2_status(&status).is_none_or(|status| status & 1 == 0)
                }
                Keyboard::Virtio(rings) => {
                    let mut taken = true;
                    for ring in rings {
                        // Gone when the guest resets the device.
                        let free = self.free_buffers(&ring.path).await?.unwrap_or(ring.full);
                        ring.full = ring.full.max(free);
                        taken &= free == ring.full;
                    }
                    taken
                }
            };
            if taken {
                return Ok(());
            }
            if started.elapsed() >= limit {
                return Err(Error::new(ErrorKind::Timeout, "the guest does not read its keyboard")
                    .took(started.elapsed(), limit)
                    .likely_cause("it hangs, or it has no driver for its keyboard"));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// How many buffers for events the guest has given to a virtio input device; `None` when it has no
    /// driver for it, or that can't be known.
    async fn free_buffers(&self, path: &str) -> Result<Option<u16>> {
        let arguments = json!({ "path": path, "queue": 0 });
        let status = self.qmp().execute("x-query-virtio-queue-status", Some(arguments), QMP_LIMIT).await;
        let Ok(status) = status else { return Ok(None) };
        let number = |name: &str| status[name].as_u64();
        let (Some(ring), Some(size), Some(used)) =
            (number("vring-avail"), number("vring-num"), number("last-avail-idx"))
        else {
            return Ok(None);
        };
        if ring == 0 {
            return Ok(None);
        }
        // The ring begins with two numbers of 16 bits: flags, and how many buffers there ever were.
        let given = self.monitor(&format!("xp /1hx {:#x}", ring + 2)).await?;
        let given = given.split_whitespace().next_back().and_then(hexadecimal);
        let free = given.map(|given| (given as u16).wrapping_sub(used as u16));
        // Anything else is no ring of this kind.
        Ok(free.filter(|free| u64::from(*free) <= size))
    }
}

/// The status port in `portb[0x0064] = 0x1c`. A machine without one gives all ones.
fn ps2_status(said: &str) -> Option<u32> {
    let status = said.split_once('=').and_then(|(_, number)| hexadecimal(number.trim()))?;
    (status != 0xff).then_some(status)
}

fn hexadecimal(text: &str) -> Option<u32> {
    u32::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_of_a_ps2_keyboard_is_read() {
        assert_eq!(ps2_status("portb[0x0064] = 0x1c\n"), Some(0x1c));
        assert_eq!(ps2_status("portb[0x0064] = 0xff\n"), None, "no such device");
        assert_eq!(ps2_status("unknown command"), None);
    }
}
