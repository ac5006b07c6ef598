//! Explains that a port of this host is taken: which port it is, who has it, and where it was requested.

use std::collections::BTreeSet;
use std::fs;
use std::sync::LazyLock;

use regex::Regex;

use crate::{Error, environment, text};

/// The variable in a machine's environment that says whose it is.
pub(super) const LABEL: &str = "NIXVM_MACHINE";
/// The title of the section about the port's holder.
const TITLE: &str = "who has the port";
/// The state of a listening socket in /proc/net/tcp, and of a UDP socket.
const LISTENS: [&str; 2] = ["0A", "07"];

/// Returns `machine`, or `machine of the scenario web::login`.
pub(super) fn label(machine: &str, scenario: Option<&str>) -> String {
    let label = match scenario {
        Some(scenario) => format!("{machine} of the scenario {scenario}"),
        None => machine.to_owned(),
    };
    label.replace('\0', "")
}

/// Whether an error says that a port is taken. Another try would fail in the same way.
pub(crate) fn is_of_a_port(error: &Error) -> bool {
    error.sections().any(|(title, _)| title == TITLE)
}

/// A port that is taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Taken {
    /// QEMU's rule, such as `tcp::2222-:22`.
    rule: String,
    protocol: &'static str,
    port: u16,
}

/// Returns the port in QEMU's message: `Could not set up host forwarding rule 'tcp::2222-:22'`.
pub(super) fn taken(stderr: &str) -> Option<Taken> {
    static RULE: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new(r"Could not set up host forwarding rule '((tcp|udp)?:[^'\n]*?:(\d{1,5})-[^'\n]*)'").ok()
    });
    let found = RULE.as_ref()?.captures(stderr)?;
    let protocol = if found.get(2).is_some_and(|its| its.as_str() == "udp") { "udp" } else { "tcp" };
    Some(Taken {
        rule: found.get(1)?.as_str().to_owned(),
        protocol,
        port: found.get(3)?.as_str().parse().ok()?,
    })
}

impl Taken {
    /// Adds what is known about the port to the error of a machine that did not start.
    pub(super) fn explain(&self, error: Error) -> Error {
        let Self { rule, protocol, port } = self;
        let holders = self.holders();
        let who = match holders.is_empty() {
            true => {
                format!("{protocol} port {port}: a process of another user, or one that has ended by now")
            }
            false => holders
                .iter()
                .map(|its| format!("{protocol} port {port}: {its}"))
                .collect::<Vec<_>>()
                .join("\n"),
        };
        let from = ["QEMU_NET_OPTS", "QEMU_OPTS"];
        let from =
            from.into_iter().find(|name| environment::text(name).is_some_and(|value| value.contains(rule)));
        let from = from.map_or_else(
            || "the VM's own options (virtualisation.forwardPorts, virtualisation.qemu.options)".to_owned(),
            |name| format!("the variable {name}"),
        );
        error
            .section(TITLE, who)
            .likely_cause(format!(
                "port {port} of this host is taken: {from} forward it with a fixed number (hostfwd={rule}), so only one such \
                 machine runs at a time"
            ))
            .next_step(
                "remove the fixed port and request one in the scenario (`machine.forward_port(0, PORT)`), or run such \
                 scenarios one after another (--jobs 1)",
            )
    }

    /// Returns this user's processes that have the port.
    fn holders(&self) -> Vec<String> {
        let tables = ["", "6"].map(|version| format!("/proc/net/{}{version}", self.protocol));
        let sockets: BTreeSet<String> = tables
            .iter()
            .flat_map(|table| listening(&fs::read_to_string(table).unwrap_or_default(), self.port))
            .map(|inode| format!("socket:[{inode}]"))
            .collect();
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let has = |pid: &u32| {
            let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
            let mut targets = descriptors.filter_map(|its| fs::read_link(its.path()).ok());
            targets.any(|target| target.to_str().is_some_and(|target| sockets.contains(target)))
        };
        if sockets.is_empty() { Vec::new() } else { pids.filter(has).map(described).collect() }
    }
}

/// Returns the sockets that listen on a port, from a table of /proc/net: `0: 0100007F:08AE 00000000:0000 0A …
/// INODE`.
fn listening(table: &str, port: u16) -> Vec<String> {
    let port = format!(":{port:04X}");
    let inode = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, local, _, state, ..] = fields[..] else { return None };
        (local.ends_with(&port) && LISTENS.contains(&state))
            .then(|| fields.get(9).map(|inode| (*inode).to_owned()))?
    };
    table.lines().filter_map(inode).collect()
}

/// Describes a process and its machine.
fn described(pid: u32) -> String {
    let read = |file: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let name = text::line(String::from_utf8_lossy(&read("comm")).trim_end());
    let environment = read("environ");
    let mut variables = environment.split(|byte| *byte == 0);
    let label = variables.find_map(|its| its.strip_prefix(format!("{LABEL}=").as_bytes()));
    match label.map(|label| text::line(&String::from_utf8_lossy(label))) {
        Some(label) => format!("process {pid} ({name}), the machine {label}"),
        None => format!("process {pid} ({name})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_read_from_what_qemu_says() {
        let said = |rule: &str| {
            format!(
                "qemu-system-x86_64: -netdev user,id=n,hostfwd={rule}: Could not set up host forwarding rule '{rule}'\n"
            )
        };
        for (rule, protocol, port) in [
            ("tcp::2222-:22", "tcp", 2222),
            ("udp:127.0.0.1:5353-10.0.2.15:53", "udp", 5353),
            (":127.0.0.1:80-:8080", "tcp", 80),
        ] {
            let taken = taken(&said(rule)).unwrap();
            assert_eq!(taken, Taken { rule: rule.to_owned(), protocol, port });
        }
        assert_eq!(taken("qemu: no such rule"), None);
        assert_eq!(taken(&said("tcp::99999-:22")), None);
    }

    #[test]
    fn the_process_that_listens_is_named() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let taken = Taken { rule: format!("tcp::{port}-:22"), protocol: "tcp", port };
        let error = taken.explain(Error::new(crate::ErrorKind::QemuGone, "server did not start"));
        assert!(is_of_a_port(&error));
        let text = error.to_string();
        assert!(text.contains(&format!("tcp port {port}: process {} (", std::process::id())), "{text}");
        assert!(text.contains("one after another") && text.contains("virtualisation.forwardPorts"), "{text}");
    }
}
