//! Compiles the helper that serves the control channel inside a machine: a static program without a C
//! library, for Linux on the architecture that this crate is built for.
//!
//! Where it can't be compiled the build goes on without it, and machines are served by the shell way.

#![allow(clippy::disallowed_methods, reason = "a build script, which does not have `crate::environment`")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

const SOURCES: &str = "src/channel/guest";

fn main() {
    println!("cargo::rerun-if-changed={SOURCES}");
    println!("cargo::rerun-if-changed=build.rs");
    let helper = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("helper");
    let architecture = match compile(&helper) {
        Ok(architecture) => architecture,
        Err(why) => {
            println!("cargo::warning=the control channel will be served by a shell: {why}");
            String::new()
        }
    };
    if architecture.is_empty()
        && let Err(error) = fs::write(&helper, "")
    {
        println!("cargo::error={} can't be written: {error}", helper.display());
    }
    println!("cargo::rustc-env=NIXVM_GUEST_HELPER={}", helper.display());
    println!("cargo::rustc-env=NIXVM_GUEST_HELPER_MACHINE={architecture}");
    // The folder of a build for a named target has its name (src/scenario/compile/own_build.rs).
    println!("cargo::rustc-env=NIXVM_TARGET={}", env::var("TARGET").unwrap_or_default());
}

/// Compiles it; the architecture as `uname -m` has it.
fn compile(helper: &Path) -> Result<String, String> {
    let architecture = env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
    let system = env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    if system != "linux" || !["x86_64", "aarch64"].contains(&architecture.as_str()) {
        return Err(format!("there is no helper for {system} on {architecture}"));
    }
    // A linker of the system's, else the one that comes with Rust.
    let by_system: &[&str] = &["-Clink-args=-nostartfiles -nostdlib -static -Wl,--build-id=none"];
    let by_rust: &[&str] = &["-Clinker=rust-lld", "-Clinker-flavor=ld.lld"];
    let first = match run_rustc(helper, by_system) {
        Ok(()) => return Ok(architecture),
        Err(why) => why,
    };
    run_rustc(helper, by_rust).map(|()| architecture).map_err(|second| format!("{first}; {second}"))
}

fn run_rustc(helper: &Path, linking: &[&str]) -> Result<(), String> {
    let output = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .args(["--edition=2024", "--crate-type=bin", "--crate-name=helper", "--target"])
        .arg(env::var_os("TARGET").unwrap_or_default())
        .args(["-Cpanic=abort", "-Copt-level=s", "-Clto=fat", "-Ccodegen-units=1", "-Cstrip=symbols"])
        .args(["-Crelocation-model=static", "-Ctarget-feature=+crt-static"])
        .args(linking)
        .arg(Path::new(SOURCES).join("helper/main.rs"))
        .arg("-o")
        .arg(helper)
        .output()
        .map_err(|error| format!("rustc can't be run: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let line = said.lines().find(|line| line.starts_with("error")).unwrap_or("rustc failed");
    Err(line.to_owned())
}
