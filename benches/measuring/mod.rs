//! What the benches of real VMs share: their arguments, the VM, figures, and the name of this host.

// Each bench uses a part of it.
#![allow(dead_code)]

use std::path::Path;
use std::process::Command;

use nixvm_test::Result;
use nixvm_test::internals::BuiltVm;
use nixvm_test::internals::nix::{Builder, Source};
use nixvm_test::internals::{Event, Events};

/// The value of the argument `name`.
pub fn given(name: &str) -> Option<String> {
    std::env::args().skip_while(|argument| argument != name).nth(1)
}

/// Whether the argument `name` is there.
pub fn has(name: &str) -> bool {
    std::env::args().any(|argument| argument == name)
}

/// Shows what a build says.
pub fn events() -> Events {
    Events::new(|event| {
        if let Event::Note { text } | Event::BuildLine { text } = event {
            eprintln!("{text}");
        }
    })
}

/// The VM that `--vm` gives, which is built already, or that of a configuration of this repository.
pub async fn vm(configuration: &str, events: &Events) -> Result<BuiltVm> {
    let source = match given("--vm") {
        Some(vm) => Source::Built(vm.into()),
        None => Source::Configuration(Path::new(env!("CARGO_MANIFEST_DIR")).join(configuration)),
    };
    Builder::new().build(&source, events).await
}

/// The middle one of `figures`, which are not empty.
pub fn median<T: Copy + PartialOrd>(figures: &[T]) -> T {
    let mut sorted = figures.to_vec();
    sorted.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    sorted[sorted.len() / 2]
}

/// Processor, cores and kernel of this host, and its QEMU.
pub fn machine_name() -> String {
    let first_line = |text: String| text.lines().next().unwrap_or_default().to_owned();
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        cpu.lines().find_map(|line| line.strip_prefix("model name\t: ")).unwrap_or("unknown processor");
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let qemu = Command::new("qemu-system-x86_64").arg("--version").output();
    let qemu = qemu.map(|output| first_line(String::from_utf8_lossy(&output.stdout).into_owned()));
    format!("{model}, {cores} cores, Linux {}, {}", kernel.trim(), qemu.unwrap_or_default())
}
