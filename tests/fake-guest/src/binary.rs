//! Where the fake guest's program is.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

/// The fake guest's program, built first where there is none or its sources are newer. Cargo builds no program of a
/// dependency, so a test of another crate has to ask for it; it is asked once a process, and not at all where the
/// program is fresh, so that a test runner with a process a test (cargo-nextest) loses no time.
///
/// # Panics
/// When cargo can't build it: a test without its stage has nothing to say.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR"));
        let target = target_directory(source);
        let binary = target.join("debug/fake-guest");
        let edited = newest(&source.join("src")).max(modified(&source.join("Cargo.toml")));
        if modified(&binary).is_some_and(|built| edited.is_some_and(|edited| edited <= built)) {
            return binary;
        }
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into());
        let built = Command::new(cargo)
            .args(["build", "--quiet", "--bin", "fake-guest", "--manifest-path"])
            .arg(source.join("Cargo.toml"))
            .arg("--target-dir")
            .arg(&target)
            .output();
        match built {
            Ok(output) if output.status.success() => binary,
            Ok(output) => {
                panic!("cargo could not build the fake guest:\n{}", String::from_utf8_lossy(&output.stderr))
            }
            Err(error) => panic!("cargo could not be started to build the fake guest: {error}"),
        }
    })
}

/// Whether the host has this program: a test that needs zsh or fish says so when it can't run.
pub fn installed(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).is_file()))
}

/// A test is `TARGET/PROFILE/deps/NAME-HASH`; anything else builds beside the workspace.
fn target_directory(source: &Path) -> PathBuf {
    let here = std::env::current_exe().ok();
    let deps = here.as_deref().and_then(|test| {
        test.ancestors().find(|folder| folder.file_name().is_some_and(|name| name == "deps"))
    });
    match deps.and_then(Path::parent).and_then(Path::parent) {
        Some(target) => target.to_path_buf(),
        None => source.join("../../target"),
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|data| data.modified()).ok()
}

/// The time of the last edit below `path`.
fn newest(path: &Path) -> Option<SystemTime> {
    let Ok(entries) = std::fs::read_dir(path) else { return modified(path) };
    entries.filter_map(|entry| newest(&entry.ok()?.path())).max()
}
