//! Types on the machine's keyboard, no faster than the guest reads it.
//!
//! QEMU silently drops keys that the guest has no room for. So after every few keys this module checks that
//! the guest has read them:
//!
//! - A virtio keyboard (NixOS's VMs have one) delivers a key in a buffer that the guest has to return; there
//!   are 64 buffers. `x-query-virtio-queue-status` returns the address of the ring and how many buffers QEMU
//!   has used. The ring itself, in the guest's memory, holds how many buffers the guest has given.
//! - A PS/2 keyboard (firmware, boot loaders) holds 16 bytes. Bit 0 of its status port is set while a byte
//!   waits. Reading that port has no side effect.
//!
//! For any other keyboard (such as USB) there is a pause after each key.

use std::time::Duration;

use crate::stopped::Instant;

use serde_json::json;

use super::keys::Chord;
use super::{QMP_LIMIT, Qemu};
use crate::{Error, ErrorKind, Result};

/// The pause after a key on a keyboard that can't be queried.
const PAUSE: Duration = Duration::from_millis(10);
/// The interval between two queries.
const LOOK: Duration = Duration::from_millis(1);
/// How many characters fit into a virtio keyboard's 64 buffers: a shifted character needs four reports of two
/// buffers each.
const AT_ONCE: usize = 6;

/// How to find out that the guest has read a key.
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
    /// How many buffers are free when the guest has read everything.
    full: u16,
}

impl Qemu {
    /// Presses and releases each of the chords in turn. Returns when the guest's keyboard driver has read the
    /// last one, as far as that can be known. `limit` is for a guest that reads none.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] when the guest does not read its keyboard, [`ErrorKind::Qmp`] when QEMU does
    /// not know a key, [`ErrorKind::Usage`] when the machine is paused.
    pub(crate) async fn press(&self, chords: &[Chord], limit: Duration) -> Result {
        let status = self.qmp().execute("query-status", None, QMP_LIMIT).await?;
        if status["running"] == false {
            if let Some(why) = self.look_whether_halted().await? {
                let summary = format!("keys do not reach the guest: {}", why.summary());
                return Err(why.with_summary(summary));
            }
            let status = status["status"].as_str().unwrap_or("paused");
            return Err(Error::new(
                ErrorKind::Usage,
                format!("keys do not reach a machine that is not running: it is {status}"),
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
                let typed = format!("{typed} keys were pressed, the last {} were not read", chords.len());
                error.section("how far it got", typed)
            })?;
        }
        Ok(())
    }

    /// Returns the keyboard that the guest uses. A virtio keyboard gets the keys as soon as the guest has a
    /// driver for it.
    async fn keyboard(&self) -> Result<Keyboard> {
        let mut rings = Vec::new();
        // Without this command, which is experimental (`x-`), there is a pause after each key.
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

    /// Waits until the guest has read what was typed.
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
                        // The ring is gone when the guest resets the device.
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
                    .likely_cause("the guest hangs, or it has no driver for its keyboard"));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Returns how many buffers for events the guest has given to a virtio input device, or `None` if it has
    /// no driver for it or that can't be known.
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
        // The ring begins with two numbers of 16 bits: flags, and the total number of buffers ever given.
        let given = self.monitor(&format!("xp /1hx {:#x}", ring + 2)).await?;
        let given = given.split_whitespace().next_back().and_then(hexadecimal);
        let free = given.map(|given| (given as u16).wrapping_sub(used as u16));
        // Any other number does not come from such a ring.
        Ok(free.filter(|free| u64::from(*free) <= size))
    }
}

/// Parses the status port in `portb[0x0064] = 0x1c`. A machine without a PS/2 keyboard returns all ones.
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
