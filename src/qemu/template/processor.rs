//! The processor that a guest under KVM sees, in QEMU's terms, and whether another host can provide the same.
//!
//! /proc/cpuinfo is not suitable: it has flags of the host that no guest sees (`aperfmperf`), flags about
//! where the host itself runs (`hypervisor`), and names that change with the kernel.

use std::collections::BTreeSet;
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::command_line::CommandLine;
use crate::qemu::{QMP_LIMIT, Qemu};
use crate::text;

/// The limit for a QEMU without a machine to start and to answer.
const ASKED: Duration = Duration::from_secs(20);
/// The limit for QEMU's description of a processor, in bytes.
const LONGEST: u64 = 4 << 20;
/// How many of the missing features are shown.
const SHOWN: usize = 8;
/// Switches of QEMU and features of KVM that do not depend on the processor.
const OF_QEMU: [&str; 12] = [
    "check",
    "cpuid",
    "enforce",
    "fill-mtrr-mask",
    "full-cpuid-auto-level",
    "host-",
    "hotplug",
    "kvm",
    "l3-cache",
    "legacy-",
    "migratable",
    "realized",
];

/// A processor as QEMU describes it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Processor {
    /// `GenuineIntel` or `AuthenticAMD`; `None` if QEMU does not state it.
    vendor: Option<String>,
    /// The features that are on.
    features: BTreeSet<String>,
}

impl Processor {
    /// Parses an answer to `query-cpu-model-expansion`.
    fn of(answer: &Value) -> Option<Self> {
        let properties = answer["model"]["props"].as_object()?;
        let is_on = |(_, value): &(&String, &Value)| **value == Value::Bool(true);
        let of_a_processor = |(name, _): &(&String, &Value)| !OF_QEMU.iter().any(|its| name.starts_with(its));
        let features = properties.iter().filter(is_on).filter(of_a_processor);
        // Some features have two names: `sse4.1` and `sse4-1`, `lahf_lm` and `lahf-lm`.
        let features = features.map(|(name, _)| name.replace(['_', '.'], "-")).collect();
        Some(Self { vendor: properties.get("vendor").and_then(Value::as_str).map(str::to_owned), features })
    }

    /// Returns what a guest that saw `self` would miss on a host with the processor `here`, or `None` if it
    /// would miss nothing.
    pub(super) fn missing_on(&self, here: &Self) -> Option<String> {
        // The guest's kernel chose its system call instruction and its workarounds by the vendor.
        if let (Some(its), Some(here)) = (&self.vendor, &here.vendor)
            && its != here
        {
            let (its, here) = (text::line(its), text::line(here));
            return Some(format!("it ran on a processor of {its}, and this host has one of {here}"));
        }
        let missing: Vec<String> =
            self.features.difference(&here.features).map(|name| text::line(name)).collect();
        if missing.is_empty() {
            return None;
        }
        let more = match missing.len().saturating_sub(SHOWN) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let shown = missing.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
        Some(format!("this host's processor lacks features that the guest had: {shown}{more}"))
    }
}

/// Returns the model and the features of the last `-cpu`.
fn model_of(command: &CommandLine) -> Value {
    let cpu = command.options().filter(|(option, ..)| *option == "cpu").last();
    let mut words = cpu.map_or("max", |(_, _, value)| value).split(',');
    let name = words.next().unwrap_or("max");
    let features = words.filter_map(|word| match word.split_once('=') {
        Some((feature, value)) => {
            let value = match value {
                "on" => Value::Bool(true),
                "off" => Value::Bool(false),
                _ => value.parse::<u64>().map_or_else(|_| Value::from(value), Value::from),
            };
            Some((feature.to_owned(), value))
        }
        None => {
            let (sign, feature) = word.split_at_checked(1)?;
            matches!(sign, "+" | "-").then(|| (feature.to_owned(), Value::Bool(sign == "+")))
        }
    });
    json!({ "name": name, "props": features.collect::<serde_json::Map<_, _>>() })
}

impl Qemu {
    /// Asks QEMU which processor the guest sees. Returns `None` if QEMU does not tell.
    pub(super) async fn processor(&self, command: &CommandLine) -> Option<Processor> {
        let question = json!({ "type": "full", "model": model_of(command) });
        let answer = self.qmp().execute("query-cpu-model-expansion", Some(question), QMP_LIMIT).await;
        match answer {
            Ok(answer) => Processor::of(&answer),
            Err(error) => {
                tracing::debug!(%error, "QEMU does not describe the guest's processor");
                None
            }
        }
    }
}

/// Returns the best processor that this QEMU can give a guest under KVM on this host. The error is QEMU's
/// reason why KVM does not work.
pub(super) fn here(program: &Path) -> Result<Processor, String> {
    let question = json!({ "type": "full", "model": { "name": "max" } });
    let input = [
        json!({ "execute": "qmp_capabilities" }),
        json!({ "execute": "query-cpu-model-expansion", "arguments": question, "id": "cpu" }),
        json!({ "execute": "quit" }),
    ];
    let input: String = input.iter().map(|line| format!("{line}\n")).collect();
    let mut command = Command::new(program);
    command.args(["-machine", "none", "-accel", "kvm", "-nodefaults", "-no-user-config", "-display", "none"]);
    command.args(["-S", "-qmp", "stdio"]);
    let (said, complained) = asked(command, &input).map_err(|error| error.to_string())?;
    let mut lines = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let answer = lines.find(|line| line["id"] == "cpu");
    let Some(answer) = answer else {
        let words = complained.lines().next_back().unwrap_or("QEMU said nothing");
        return Err(text::line(words));
    };
    Processor::of(&answer["return"]).ok_or_else(|| {
        text::line(answer["error"]["desc"].as_str().unwrap_or("QEMU does not describe its processor"))
    })
}

/// Checks that this QEMU can create a machine with KVM. For that it asks the kernel for the version of its
/// interface and for a machine.
///
/// # Errors
/// QEMU's own message.
pub(crate) fn kvm_with(program: &Path) -> Result<(), String> {
    here(program).map(drop)
}

/// Runs a program with this input, and returns its stdout and stderr. It gets [`ASKED`] to finish.
pub(super) fn asked(mut command: Command, input: &str) -> io::Result<(String, String)> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    if let Some(mut stdin) = stdin {
        // The input fits into the pipe's buffer. A program that has already ended does not read it, and its
        // stderr says why.
        let _ = stdin.write_all(input.as_bytes());
    }
    let until = Instant::now() + ASKED;
    let text = |read: Receiver<String>| {
        let left = until.saturating_duration_since(Instant::now());
        read.recv_timeout(left)
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "it does not answer in time"))
    };
    let read = text_aside(stdout).and_then(|said| Ok((said, text_aside(stderr)?)));
    let read = read.and_then(|(said, complained)| Ok((text(said)?, text(complained)?)));
    // It has closed both streams, or hangs.
    let _ = child.kill();
    let _ = child.wait();
    read
}

/// Reads a stream to its end on a thread of its own.
fn text_aside(stream: Option<impl io::Read + Send + 'static>) -> io::Result<Receiver<String>> {
    let (sender, read) = mpsc::channel();
    // The receiver is gone after the timeout.
    std::thread::Builder::new().spawn(move || drop(sender.send(text_of(stream))))?;
    Ok(read)
}

fn text_of(stream: Option<impl io::Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        let _ = stream.take(LONGEST).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn processor(vendor: &str, features: &[&str]) -> Processor {
        let mut properties: serde_json::Map<_, _> =
            features.iter().map(|name| ((*name).to_owned(), Value::Bool(true))).collect();
        properties.insert("vendor".to_owned(), vendor.into());
        properties.insert("avx512f".to_owned(), Value::Bool(false));
        properties.insert("kvm-asyncpf".to_owned(), Value::Bool(true));
        Processor::of(&json!({ "model": { "name": "max", "props": properties } })).unwrap()
    }

    #[test]
    fn what_only_the_host_had_is_not_missed() {
        // A CI runner is a virtual machine itself, so its kernel shows the flag `hypervisor`, which bare
        // metal lacks.
        let seen = processor("GenuineIntel", &["sse4.1", "avx2", "hypervisor", "kvm-pv-eoi"]);
        let bare_metal = processor("GenuineIntel", &["sse4-1", "avx2", "hypervisor", "vmx"]);
        assert_eq!(seen.missing_on(&bare_metal), None);
    }

    #[test]
    fn what_the_guest_saw_and_this_host_lacks_is_named() {
        let seen = processor("GenuineIntel", &["sse4.1", "avx2", "amx-tile"]);
        let here = processor("GenuineIntel", &["sse4.1"]);
        assert!(seen.missing_on(&here).unwrap().ends_with(": amx-tile, avx2"));
        let other = processor("AuthenticAMD", &["sse4.1", "avx2", "amx-tile"]);
        assert!(
            seen.missing_on(&other)
                .unwrap()
                .contains("of GenuineIntel, and this host has one of AuthenticAMD")
        );
        let many: Vec<String> = (0..20).map(|number| format!("feature{number}")).collect();
        let many = processor("GenuineIntel", &many.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(many.missing_on(&here).unwrap().ends_with(" and 12 more"));
    }

    #[test]
    fn the_model_is_the_last_one_of_the_command() {
        let of = |text: &str| {
            let arguments = text.split_whitespace().map(str::to_owned).collect();
            model_of(&CommandLine { program: "/bin/qemu".into(), arguments }).to_string()
        };
        assert_eq!(of("-m 64"), r#"{"name":"max","props":{}}"#);
        assert_eq!(
            of("-cpu host -m 64 -cpu max,arch-capabilities=off,+avx,-pmu,level=13"),
            r#"{"name":"max","props":{"arch-capabilities":false,"avx":true,"level":13,"pmu":false}}"#
        );
    }

    #[test]
    fn a_program_that_does_not_answer_is_not_waited_for_without_end() {
        let mut quick = Command::new("sh");
        quick.args(["-c", "read line; echo \"$line\"; echo why >&2; exit 1"]);
        assert_eq!(asked(quick, "one\n").unwrap(), ("one\n".to_owned(), "why\n".to_owned()));
        assert!(here(Path::new("/no/such/qemu")).is_err());
    }
}
