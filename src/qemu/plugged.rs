//! Devices that were plugged in while QEMU ran.
//!
//! They are not on QEMU's command line, so code that starts the same QEMU again has to plug them in again.
//! They are recorded in the client of the control protocol, because every hot plug goes through it.

use serde_json::Value;

/// Everything that was plugged in and is still there, in that order.
#[derive(Debug, Clone, Default)]
pub(super) struct Plugged(Vec<Plug>);

/// A command that plugged something in.
#[derive(Debug, Clone)]
pub(super) struct Plug {
    pub(super) command: String,
    pub(super) arguments: Value,
    /// Whether QEMU may already have the device by itself.
    pub(super) may_be_there: bool,
}

/// The commands that plug something in, the commands that remove it, and the argument that names it in both.
const PAIRS: [(&str, &str, &str); 5] = [
    ("blockdev-add", "blockdev-del", "node-name"),
    ("chardev-add", "chardev-remove", "id"),
    ("netdev_add", "netdev_del", "id"),
    ("object-add", "object-del", "id"),
    // The device is gone when QEMU reports it, not when its removal is requested; see [`Plugged::deleted`].
    ("device_add", "", "id"),
];

impl Plugged {
    /// Records a command that QEMU has executed.
    pub(super) fn done(&mut self, command: &str, arguments: &Value) {
        for (plugs, unplugs, name) in PAIRS {
            if command == plugs {
                self.0.push(Plug {
                    command: command.to_owned(),
                    arguments: arguments.clone(),
                    may_be_there: false,
                });
            } else if command == unplugs {
                self.0.retain(|plug| plug.command != plugs || plug.arguments[name] != arguments[name]);
            }
        }
    }

    /// Records that QEMU has removed a device.
    pub(super) fn deleted(&mut self, device: &Value) {
        self.0.retain(|plug| {
            plug.command != "device_add" || device.is_null() || plug.arguments["id"] != *device
        });
    }

    pub(super) fn extend(&mut self, plugs: impl IntoIterator<Item = Plug>) {
        self.0.extend(plugs);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Plug> {
        self.0.iter()
    }

    /// Returns the devices.
    pub(super) fn devices(&mut self) -> impl Iterator<Item = &mut Value> {
        self.0.iter_mut().filter(|plug| plug.command == "device_add").map(|plug| &mut plug.arguments)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_still_there_is_known_in_its_order() {
        let mut plugged = Plugged::default();
        for (command, arguments) in [
            ("blockdev-add", json!({ "node-name": "a" })),
            ("device_add", json!({ "driver": "usb-tablet" })),
            ("device_add", json!({ "id": "x", "drive": "a" })),
            ("set_link", json!({ "name": "x", "up": true })),
            ("blockdev-add", json!({ "node-name": "b" })),
            ("netdev_add", json!({ "id": "x" })),
            ("device_del", json!({ "id": "x" })),
            ("blockdev-del", json!({ "node-name": "b" })),
        ] {
            plugged.done(command, &arguments);
        }
        let commands =
            |plugged: &Plugged| plugged.iter().map(|plug| plug.command.clone()).collect::<Vec<_>>();
        assert_eq!(commands(&plugged), ["blockdev-add", "device_add", "device_add", "netdev_add"]);
        assert_eq!(plugged.devices().count(), 2);
        plugged.deleted(&Value::Null);
        plugged.deleted(&json!("y"));
        assert_eq!(plugged.iter().count(), 4);
        plugged.deleted(&json!("x"));
        assert_eq!(commands(&plugged), ["blockdev-add", "device_add", "netdev_add"]);
        plugged.done("netdev_del", &json!({ "id": "x" }));
        assert_eq!(commands(&plugged), ["blockdev-add", "device_add"]);
    }
}
