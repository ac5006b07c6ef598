//! What a command from another host must have. QEMU opens some things by default: without `-display` a VNC
//! server for every user of the host, and without `-mon` a monitor on its screen, which runs commands.

use super::super::command_line::CommandLine;
use super::super::properties::Properties;
use crate::qemu::launch::{CHANNEL, CONSOLE, CONTROL};

/// Returns one line for each thing that `command` lacks or has twice. Every machine that was started by this
/// program has all of them.
pub(super) fn lacking(command: &CommandLine) -> Vec<String> {
    let values = |option: &'static str| {
        command
            .options()
            .filter(move |(its, ..)| *its == option)
            .map(|(_, _, value)| value)
            .collect::<Vec<_>>()
    };
    let mut lacking = Vec::new();
    let mut demand = |holds: bool, what: String| {
        if !holds {
            lacking.push(what);
        }
    };
    let displays = values("display");
    demand(
        !displays.is_empty() && displays.iter().all(|value| *value == "none"),
        "no -display none".to_owned(),
    );
    let control = format!("chardev={CONTROL},mode=control");
    demand(values("mon") == [control.as_str()], format!("not exactly one -mon {control}"));
    let console = format!("chardev:{CONSOLE}");
    let serial = values("serial");
    let is_first = serial.first() == Some(&console.as_str());
    demand(
        is_first && serial.iter().filter(|value| **value == console).count() == 1,
        format!("its first serial port, and no other, must be -serial {console}"),
    );
    let devices: Vec<Properties> = values("chardev").into_iter().map(Properties::parse).collect();
    for (id, least) in [(CONSOLE, 1), (CONTROL, 1), (CHANNEL, 0)] {
        let of_it: Vec<_> = devices.iter().filter(|device| device.get("id") == Some(id)).collect();
        let holds =
            (least..=1).contains(&of_it.len()) && of_it.iter().all(|device| device.head() == "socket");
        demand(holds, format!("not exactly one -chardev socket,id={id}"));
    }
    lacking
}
