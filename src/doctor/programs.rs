//! Checks programs and their versions.

use std::process::Stdio;
use std::time::Duration;

use super::{Finding, State};
use crate::environment::text;
use crate::nix::Source;
use crate::nix::host::{missing, needs_of_the_stand_in, search_path};
use crate::packages::{CC, Distribution, NIX, NIX_BUILD, Program, QEMU, QEMU_IMG, TESSERACT};
use crate::settings::Settings;

/// How long a program may take to print its version.
const LIMIT: Duration = Duration::from_secs(10);
/// The oldest QEMU with which this program is tested.
const OLDEST_QEMU: [u32; 2] = [7, 2];
const RUSTUP: &str = "curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh";

fn install(programs: &[Program]) -> String {
    Distribution::of_this_host().install(programs, rustix::process::geteuid().is_root())
}

/// Returns the output of a program, or `None` if it does not run.
async fn says(program: &str, arguments: &[&str]) -> Option<String> {
    let mut command = tokio::process::Command::new(program);
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(LIMIT, command.output()).await.ok()?.ok()?;
    // Some programs print their version to stderr.
    let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    let text = String::from_utf8_lossy(&text).into_owned();
    output.status.success().then(|| crate::console::shown(text.as_bytes(), 40))
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default().trim()
}

/// Returns the first number with a dot in it: 7.2 for `QEMU emulator version 7.2.22 (Debian…)`.
fn version(text: &str) -> Option<[u32; 2]> {
    text.split(|letter: char| !letter.is_ascii_digit() && letter != '.').find_map(|word| {
        let mut parts = word.split('.');
        Some([parts.next()?.parse().ok()?, parts.next()?.parse().ok()?])
    })
}

pub(super) async fn nix(settings: &Settings) -> Finding {
    let program = match &settings.source {
        Some(Source::Flake(_)) => NIX,
        _ => NIX_BUILD,
    };
    let needed = !matches!(settings.source, Some(Source::Built(_)));
    match says(program.name, &["--version"]).await {
        Some(said) => Finding::ok("Nix", first_line(&said)),
        None if !needed => Finding::ok("Nix", "not installed, and not needed: the VM is built already"),
        None => {
            let own = "sh <(curl --proto '=https' --tlsv1.2 -L https://nixos.org/nix/install) --daemon";
            let fix = match Distribution::of_this_host() {
                Distribution::Debian | Distribution::NixOs => install(&[program]),
                _ => own.to_owned(),
            };
            Finding::new("Nix", State::Missing, format!("there is no program {}", program.name), fix)
        }
    }
}

/// Checks QEMU. The stand-in's script takes it from PATH; real NixOS brings its own.
pub(super) async fn qemu(standin: bool) -> Finding {
    let state = if standin { State::Missing } else { State::Warning };
    let lacks = missing(&[QEMU, QEMU_IMG], &search_path());
    let Some(said) = says(QEMU.name, &["--version"]).await.filter(|_| lacks.is_empty()) else {
        let names: Vec<&str> = lacks.iter().map(|program| program.name).collect();
        let found = match names.as_slice() {
            [] => format!("{} does not run", QEMU.name),
            names => format!("there is no {}", names.join(" and no ")),
        };
        let found = if standin { found } else { format!("{found}; a VM of NixOS brings its own") };
        return Finding::new("QEMU", state, found, install(&[QEMU, QEMU_IMG]));
    };
    let line = first_line(&said).trim_start_matches("QEMU emulator version ").to_owned();
    match version(&line) {
        Some(found) if found < OLDEST_QEMU => {
            let [major, minor] = OLDEST_QEMU;
            let found =
                format!("{line}, older than {major}.{minor}: machines may boot cold instead of being cloned");
            Finding::new("QEMU", State::Warning, found, install(&[QEMU, QEMU_IMG]))
        }
        _ => Finding::ok("QEMU", line),
    }
}

/// Checks the programs with which the stand-in builds its VM.
pub(super) fn stand_in() -> Finding {
    let needs: Vec<Program> =
        needs_of_the_stand_in().into_iter().filter(|program| ![QEMU, QEMU_IMG].contains(program)).collect();
    let lacks = missing(&needs, &search_path());
    let names =
        |programs: &[Program]| programs.iter().map(|program| program.name).collect::<Vec<_>>().join(", ");
    if lacks.is_empty() {
        return Finding::ok("stand-in", format!("{} are installed", names(&needs)));
    }
    let fix = format!("{}, or use a real nixpkgs: --nixpkgs channel:nixos-26.05", install(&lacks));
    Finding::new("stand-in", State::Missing, format!("it needs {}", names(&lacks)), fix)
}

pub(super) async fn cargo() -> Finding {
    let program = text("CARGO").unwrap_or_else(|| "cargo".to_owned());
    match says(&program, &["--version"]).await {
        Some(said) => Finding::ok("cargo", first_line(&said)),
        None => {
            let found = "there is no cargo, which compiles scenarios";
            Finding::new("cargo", State::Missing, found, rust())
        }
    }
}

pub(super) async fn rustc() -> Finding {
    let program = text("RUSTC").unwrap_or_else(|| "rustc".to_owned());
    let Some(said) = says(&program, &["--version"]).await else {
        return Finding::new("rustc", State::Missing, "there is no Rust compiler", rust());
    };
    let line = first_line(&said);
    let oldest = env!("CARGO_PKG_RUST_VERSION");
    match (version(line), version(oldest)) {
        (Some(found), Some(needed)) if found < needed => {
            let found = format!("{line}, and scenarios need {oldest} or newer");
            let fix = if says("rustup", &["--version"]).await.is_some() { "rustup update" } else { RUSTUP };
            Finding::new("rustc", State::Missing, found, fix)
        }
        _ => Finding::ok("rustc", line),
    }
}

/// Returns how to install Rust: by its own installer, or from the system if that is new enough.
fn rust() -> String {
    match Distribution::of_this_host() {
        Distribution::NixOs => "nix-shell -p cargo rustc gcc".to_owned(),
        Distribution::Fedora => "sudo dnf install cargo".to_owned(),
        _ => RUSTUP.to_owned(),
    }
}

pub(super) async fn linker() -> Finding {
    if !missing(&[CC], &search_path()).is_empty() {
        return Finding::new(
            "linker",
            State::Missing,
            "there is no cc, which Rust needs to link",
            install(&[CC]),
        );
    }
    let said = says(CC.name, &["--version"]).await;
    Finding::ok("linker", first_line(&said.unwrap_or_else(|| "cc".to_owned())))
}

/// Checks the program that reads screens, and its language data.
pub(super) async fn tesseract() -> Finding {
    const FOR: &str = "only scenarios that read a screen need it (wait_for_text, get_screen_text)";
    let Some(said) = says(TESSERACT.name, &["--version"]).await else {
        let found = format!("there is no tesseract; {FOR}");
        return Finding::new("tesseract", State::Warning, found, install(&[TESSERACT]));
    };
    let languages = says(TESSERACT.name, &["--list-langs"]).await.unwrap_or_default();
    if languages.lines().any(|line| line.trim() == "eng") {
        return Finding::ok("tesseract", format!("{}, with English", first_line(&said)));
    }
    let fix = match Distribution::of_this_host() {
        Distribution::Debian => "sudo apt-get install tesseract-ocr-eng",
        Distribution::Fedora => "sudo dnf install tesseract-langpack-eng",
        _ => "put eng.traineddata into the folder that `tesseract --list-langs` searches (TESSDATA_PREFIX)",
    };
    let found = format!("{} without its English data; {FOR}", first_line(&said));
    Finding::new("tesseract", State::Warning, found, fix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_programs_say_them() {
        assert_eq!(version("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)"), Some([7, 2]));
        assert_eq!(version("rustc 1.88.0-nightly (abc 2025-01-01)"), Some([1, 88]));
        assert_eq!(version("nix-build (Nix) 2.8.0"), Some([2, 8]));
        assert_eq!(version("no number"), None);
        assert!([1, 9] < [1, 88] && [10, 0] > [7, 2]);
    }
}
