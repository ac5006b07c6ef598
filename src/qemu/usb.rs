//! The ports of USB devices.
//!
//! QEMU chooses a port. By itself it puts a hub on the last free one, and the hub stays when the device is
//! gone. A saved device has its port in its name, so another QEMU must have it on the same port.

use serde_json::json;

use super::plugged::{Plug, Plugged};

/// A line of `info usb`: `  Device 0.2, Port 2.1, Speed 480 Mb/s, Product QEMU USB MSD, ID: x`.
struct Device<'a> {
    bus: &'a str,
    port: &'a str,
    is_hub: bool,
    id: Option<&'a str>,
}

fn devices(usb: &str) -> Vec<Device<'_>> {
    fn device(line: &str) -> Option<Device<'_>> {
        let (place, rest) = line.trim().strip_prefix("Device ")?.split_once(", Port ")?;
        let (port, rest) = rest.split_once(',')?;
        let bus = place.split_once('.')?.0;
        let id = rest.rsplit_once(", ID: ").map(|(_, id)| id);
        Some(Device { bus, port, is_hub: rest.contains("Product QEMU USB Hub"), id })
    }
    usb.lines().filter_map(device).collect()
}

/// Returns `plugged` with the ports of its devices, and with the hubs that QEMU added before them. The
/// devices have their buses already.
pub(super) fn with_ports(mut plugged: Plugged, usb: &str) -> Plugged {
    let devices = devices(usb);
    let mut buses = Vec::new();
    for device in plugged.devices() {
        let Some(its) = devices.iter().find(|its| its.id.is_some() && its.id == device["id"].as_str()) else {
            continue;
        };
        device["port"] = its.port.into();
        buses.push((its.bus, device["bus"].as_str().unwrap_or_default().to_owned()));
    }
    let name = |number: &str| match buses.iter().find(|(its, _)| *its == number) {
        Some((_, name)) => name.clone(),
        None => format!("usb-bus.{number}"),
    };
    let mut hubs: Vec<(String, &str)> = devices
        .iter()
        .filter(|device| device.is_hub && device.id.is_none())
        .map(|hub| (name(hub.bus), hub.port))
        .collect();
    hubs.sort_by_key(|(_, port)| port.len());
    let mut all = Plugged::default();
    for plug in plugged.iter() {
        let (bus, port) =
            (plug.arguments["bus"].as_str(), plug.arguments["port"].as_str().unwrap_or_default());
        let (before, after) = hubs.into_iter().partition(|(its, hub)| {
            Some(its.as_str()) == bus && port.strip_prefix(hub).is_some_and(|rest| rest.starts_with('.'))
        });
        hubs = after;
        all.extend(Vec::into_iter(before).map(hub));
        all.extend([plug.clone()]);
    }
    all.extend(hubs.into_iter().map(hub));
    all
}

fn hub((bus, port): (String, &str)) -> Plug {
    let arguments = json!({ "driver": "usb-hub", "bus": bus, "port": port });
    // QEMU may add the hub by itself again.
    Plug { command: "device_add".to_owned(), arguments, may_be_there: true }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_get_their_ports_and_the_hubs_before_them() {
        let mut plugged = Plugged::default();
        for arguments in [
            json!({ "driver": "qemu-xhci", "id": "nixvm-usb", "bus": "pci.0" }),
            json!({ "driver": "usb-storage", "id": "a", "bus": "nixvm-usb.0" }),
            json!({ "driver": "virtio-blk-pci", "id": "b", "bus": "pci.0" }),
            json!({ "driver": "usb-storage", "id": "c", "bus": "nixvm-usb.0" }),
        ] {
            plugged.done("device_add", &arguments);
        }
        let usb = "  Device 0.1, Port 1, Speed 12 Mb/s, Product QEMU USB Tablet, ID: tablet\r\n\
                   \x20 Device 0.3, Port 2, Speed 12 Mb/s, Product QEMU USB Hub\n\
                   \x20 Device 1.1, Port 1, Speed 5000 Mb/s, Product QEMU USB MSD, ID: a\n\
                   \x20 Device 1.3, Port 2.1, Speed 12 Mb/s, Product QEMU USB Hub\n\
                   \x20 Device 1.2, Port 2, Speed 12 Mb/s, Product QEMU USB Hub\n\
                   \x20 Device 1.4, Port 2.1.4, Speed 5000 Mb/s, Product QEMU USB MSD, ID: c\n";
        let told: Vec<String> = with_ports(plugged, usb)
            .iter()
            .map(|plug| {
                let word = |name: &str| plug.arguments[name].as_str().unwrap_or("-").to_owned();
                format!("{} {} {} {}", word("driver"), word("id"), word("bus"), word("port"))
            })
            .collect();
        assert_eq!(
            told,
            [
                "qemu-xhci nixvm-usb pci.0 -",
                "usb-storage a nixvm-usb.0 1",
                "virtio-blk-pci b pci.0 -",
                "usb-hub - nixvm-usb.0 2",
                "usb-hub - nixvm-usb.0 2.1",
                "usb-storage c nixvm-usb.0 2.1.4",
                "usb-hub - usb-bus.0 2",
            ]
        );
    }
}
