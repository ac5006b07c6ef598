//! Writes the file for a bug report.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use super::Tried;
use crate::{environment, secrets, text};

/// The file's name in the current folder.
const NAME: &str = "nixvm-test-kvm.txt";
/// The maximum number of lines about KVM from the host's log.
const LINES: usize = 100;

/// Writes the file, and returns its path, or `None` if it can't be written.
pub(super) fn write(steps: &[Tried], log: &str) -> Option<PathBuf> {
    let text = report(steps, log, &of_the_host());
    let folders = [std::env::current_dir().ok(), Some(environment::temporary_folder())];
    let mut paths = folders.into_iter().flatten().map(|folder| folder.join(NAME));
    paths.find(|path| written(path, &text).is_ok())
}

/// Writes a new file and renames it, so that an existing link is replaced and not followed.
fn written(path: &Path, text: &str) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(path);
    let file = tempfile::NamedTempFile::new_in(folder)?;
    fs::write(file.path(), text)?;
    file.persist(path)?;
    Ok(())
}

/// Returns the steps and the output of the guest and QEMU, without known passwords and control characters.
fn report(steps: &[Tried], log: &str, host: &str) -> String {
    let mut report = format!("nixvm-test {}, doctor --kvm\n\n", env!("CARGO_PKG_VERSION"));
    for Tried { name, state, tried, took, found, fix } in steps {
        let state = state.map_or("-", |state| state.name());
        // Writing to a String can't fail.
        let _ = writeln!(report, "{state:8} {name:10} {:5.1} s  {tried}: {found}", took.as_secs_f64());
        if let Some(fix) = fix {
            let _ = writeln!(report, "{:8} {:10}          -> {fix}", "", "");
        }
    }
    let _ = write!(report, "\n{log}\n== lines about KVM in the kernel's log of this host\n{host}\n");
    secrets::lines(&text::lines(&report))
}

/// Returns what the host's kernel logged about KVM, if the log may be read.
fn of_the_host() -> String {
    use std::io::Read as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let Ok(mut log) = fs::File::options().read(true).custom_flags(flags).open("/dev/kmsg") else {
        return "no permission to read it".to_owned();
    };
    let (mut lines, mut record) = (Vec::new(), [0; 16 << 10]);
    // Each read returns a record. At the end there is an error, because the descriptor does not block.
    loop {
        match log.read(&mut record) {
            Ok(read @ 1..) => {
                let record = String::from_utf8_lossy(&record[..read]);
                let said = record.split_once(';').map_or(&*record, |(_, said)| said);
                let line = said.lines().next().unwrap_or_default();
                if line.to_lowercase().contains("kvm") {
                    lines.push(line.to_owned());
                }
            }
            // Records were overwritten while they were read.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::PIPE.raw_os_error()) => {}
            _ => break,
        }
    }
    lines.split_off(lines.len().saturating_sub(LINES)).join("\n")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::doctor::State;

    #[test]
    fn it_holds_the_steps_and_the_log_and_neither_passwords_nor_control_characters() {
        secrets::know("Attached-Pw");
        let step = Tried {
            name: "kernel",
            state: Some(State::Warning),
            tried: "the VM".to_owned(),
            took: Duration::from_millis(1500),
            found: "KVM internal error\x1b[31m".to_owned(),
            fix: Some("do this".to_owned()),
        };
        let report = report(&[step], "== console\nlogin: alice Attached-Pw\x07\r\n", "kvm: none\n");
        assert!(report.contains("warning  kernel       1.5 s  the VM: KVM internal error"), "{report}");
        assert!(report.contains("-> do this") && report.contains("login: alice ****"), "{report}");
        assert!(report.contains("kvm: none"));
        assert!(!report.contains(['\x1b', '\x07', '\r']) && !report.contains("Attached-Pw"), "{report:?}");
        let folder = tempfile::tempdir().unwrap();
        let (kept, link) = (folder.path().join("kept"), folder.path().join(NAME));
        fs::write(&kept, "kept").unwrap();
        std::os::unix::fs::symlink(&kept, &link).unwrap();
        written(&link, &report).unwrap();
        assert_eq!(fs::read_to_string(&kept).unwrap(), "kept");
        assert_eq!(fs::read_to_string(&link).unwrap(), report);
    }
}
