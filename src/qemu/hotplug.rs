//! Plugs disks in and out while the machine runs.

use std::path::Path;
use std::time::Duration;

use crate::stopped::Instant;

use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;

use super::plugged::Plugged;
use super::usb::with_ports;
use super::{QMP_LIMIT, Qemu};
use crate::{Error, ErrorKind, Result};

/// How a disk is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Connector {
    /// virtio-blk, as in NixOS's VMs.
    Virtio,
    /// A USB stick.
    Usb,
}

/// The id of the USB controller that is plugged in if the machine has none.
const CONTROLLER: &str = "nixvm-usb";

impl Qemu {
    /// Plugs a disk in. `name` is its serial number, and its ids are derived from it.
    ///
    /// # Errors
    /// [`ErrorKind::Qmp`] with QEMU's message when the machine does not support such a disk, or one of that
    /// name is plugged in already.
    pub(crate) async fn plug(&self, name: &str, image: &Path, connector: Connector) -> Result {
        let Some(file) = image.to_str() else {
            let summary = format!("{} is not UTF-8: QEMU accepts no such path", image.display());
            return Err(Error::new(ErrorKind::Usage, summary));
        };
        let node = node(name);
        let block = json!({
            "driver": format_of(image)?,
            "node-name": node,
            "discard": "unmap",
            "file": { "driver": "file", "filename": file, "discard": "unmap" },
        });
        self.qmp().execute("blockdev-add", Some(block), QMP_LIMIT).await?;
        let added = match connector {
            Connector::Virtio => {
                let device =
                    json!({ "driver": "virtio-blk-pci", "id": device(name), "drive": node, "serial": name });
                self.add_device(device).await.map_err(no_hot_plug)
            }
            Connector::Usb => self.add_usb(name, &node).await,
        };
        if added.is_err() {
            let node = json!({ "node-name": node });
            if let Err(error) = self.qmp().execute("blockdev-del", Some(node), QMP_LIMIT).await {
                tracing::debug!(%error, "could not close the image of a disk that was not plugged in");
            }
        }
        added
    }

    async fn add_usb(&self, name: &str, node: &str) -> Result {
        let stick = json!({
            "driver": "usb-storage", "id": device(name), "drive": node, "serial": name, "removable": true,
        });
        let refused = match self.add_device(stick.clone()).await {
            Err(error) if error.summary().contains("bus found") => error,
            added => return added,
        };
        // Not every machine has USB. A controller can be plugged in like any card.
        self.add_device(json!({ "driver": "qemu-xhci", "id": CONTROLLER })).await.map_err(|_| refused)?;
        self.add_device(stick).await
    }

    /// Returns the devices that were plugged in and are still there, with the places that QEMU chose for
    /// them.
    pub(super) async fn plugged(&self) -> Result<Plugged> {
        let mut plugged = self.qmp().plugged();
        if plugged.devices().next().is_none() {
            return Ok(plugged);
        }
        for device in plugged.devices() {
            let Some(id) = device["id"].as_str().map(str::to_owned) else { continue };
            if let Some(bus) = self.property_of(&id, "parent_bus").await.as_ref().and_then(Value::as_str) {
                device["bus"] = bus.rsplit('/').next().into();
            }
            // The address on a PCI bus is slot and function. Some versions of QEMU return it as one number.
            match self.property_of(&id, "addr").await {
                Some(Value::String(address)) => device["addr"] = address.into(),
                Some(Value::Number(address)) => {
                    let number = address.as_u64().unwrap_or_default();
                    device["addr"] = format!("{:x}.{:x}", number >> 3, number & 7).into();
                }
                _ => {}
            }
        }
        // A machine without USB returns an error.
        Ok(with_ports(plugged, &self.monitor("info usb").await.unwrap_or_default()))
    }

    /// Returns a property of a device, if the device has it.
    async fn property_of(&self, device: &str, property: &str) -> Option<Value> {
        let arguments = json!({ "path": format!("/machine/peripheral/{device}"), "property": property });
        self.qmp().execute("qom-get", Some(arguments), QMP_LIMIT).await.ok()
    }

    /// Plugs in the devices of a kept moment again.
    ///
    /// # Errors
    /// [`ErrorKind::Qmp`] with QEMU's message, for example when an image is gone.
    pub(super) async fn plug_in_again(&self, plugged: &Plugged) -> Result {
        for plug in plugged.iter() {
            match self.qmp().execute(&plug.command, Some(plug.arguments.clone()), QMP_LIMIT).await {
                Err(error) if !plug.may_be_there => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    async fn add_device(&self, device: Value) -> Result {
        self.qmp().execute("device_add", Some(device), QMP_LIMIT).await.map(|_| ())
    }

    /// Unplugs a disk, and waits until the guest has released it.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] when the guest does not release it within `limit`, [`ErrorKind::Qmp`] when
    /// there is no disk of that name.
    pub(crate) async fn unplug(&self, name: &str, limit: Duration) -> Result {
        let started = Instant::now();
        let id = device(name);
        let mut events = self.qmp().events();
        let mut exit = self.exit();
        self.qmp().execute("device_del", Some(json!({ "id": id })), QMP_LIMIT).await?;
        let gone = async {
            loop {
                match events.recv().await {
                    Ok(event) if event.data["device"] != id.as_str() => {}
                    Ok(event) if event.name == "DEVICE_DELETED" => return Ok(()),
                    Ok(event) if event.name.ends_with("UNPLUG_GUEST_ERROR") => {
                        return Err(Error::new(
                            ErrorKind::Qmp,
                            format!("the guest refused to release {name}"),
                        ));
                    }
                    Ok(_) | Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => std::future::pending().await,
                }
            }
        };
        tokio::select! {
            gone = crate::stopped::timeout(limit, gone) => match gone {
                Ok(gone) => gone?,
                Err(_) => {
                    return Err(Error::new(ErrorKind::Timeout, format!("the guest did not release the disk {name}"))
                        .took(started.elapsed(), limit)
                        .likely_cause("its hot plug driver is not loaded, or it is still booting"));
                }
            },
            exit = exit.wait_for(Option::is_some) => {
                let exit = exit.ok().and_then(|exit| exit.clone());
                let summary = format!("QEMU ended while the disk {name} was unplugged");
                return Err(match exit {
                    Some(exit) => exit.error(format_args!("{summary}")),
                    None => Error::new(ErrorKind::QemuGone, summary),
                });
            }
        }
        let node = json!({ "node-name": node(name) });
        self.qmp().execute("blockdev-del", Some(node), QMP_LIMIT).await.map(|_| ())
    }
}

fn node(name: &str) -> String {
    format!("nixvm-image-{name}")
}

fn device(name: &str) -> String {
    format!("nixvm-disk-{name}")
}

fn no_hot_plug(error: Error) -> Error {
    if error.summary().contains("does not support hotplugging") {
        error
            .likely_cause("a q35 machine has no free slot for a card unless one is prepared at its start")
            .next_step(
                "add `-device pcie-root-port` to virtualisation.qemu.options, or use `plug_usb_storage`",
            )
    } else {
        error
    }
}

/// Returns the format of an image by its first bytes: qcow2, or else raw.
fn format_of(image: &Path) -> Result<&'static str> {
    use std::io::Read;
    let mut magic = [0; 4];
    let read = std::fs::File::open(image).and_then(|mut file| file.read(&mut magic));
    match read {
        Ok(4) if &magic == b"QFI\xfb" => Ok("qcow2"),
        Ok(_) => Ok("raw"),
        Err(error) => Err(Error::io(format_args!("read {}", image.display()), &error)),
    }
}
