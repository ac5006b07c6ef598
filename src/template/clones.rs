//! Whether clones run on this host: what the first ones have shown.
//!
//! There are hosts that save a machine and never run a clone of it. There each scenario would pay for a boot, a save, a
//! clone that fails and one more boot. So the second failure is remembered for this boot of the host, as long as no clone
//! has ever run. It lies where the findings about KVM do and is forgotten with them.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::Key;
use crate::build::BuiltVm;
use crate::qemu::accelerator::{Choice, OF_CLONES, findings, host_boot, subject};
use crate::{Error, Result};

/// The failure of which nothing is cloned any more.
const LAST: u32 = 2;

/// What is known of clones of one QEMU, kernel and CPU model under one accelerator.
#[derive(Debug)]
pub(super) struct Clones(PathBuf);

#[derive(Debug, Serialize, Deserialize)]
struct Shown {
    /// The boot of the host for which it holds.
    boot: String,
    what: What,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
enum What {
    /// A clone has run: whatever fails later is not this host's doing.
    Ran,
    /// No clone has run yet.
    Failed { times: u32, at: Duration, why: String },
}

impl Clones {
    /// That of the VM.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Host`] when there is no folder for the cache.
    pub(super) fn of(vm: &BuiltVm, choice: &Choice) -> Result<Self> {
        let cpu = choice.cpu.unwrap_or_default().to_owned();
        let key = Key::of(&[subject(vm), choice.accelerator.to_string(), cpu]);
        Ok(Self(findings()?.join(format!("{}{OF_CLONES}", key.name()))))
    }

    /// Why nothing is cloned here.
    pub(super) fn impossible(&self) -> Option<String> {
        match self.shown()? {
            What::Failed { times, why, .. } if times >= LAST => Some(format!(
                "clones do not run on this host: {why} (found twice; nixvm-test doctor --retry forgets it)"
            )),
            _ => None,
        }
    }

    /// A clone runs.
    pub(super) fn ran(&self) {
        if self.shown() != Some(What::Ran) {
            self.note(What::Ran);
        }
    }

    /// A clone that was begun then did not run. Several that were begun at the same time count once: one busy moment of
    /// the host may be the cause of all.
    pub(super) fn did_not_run(&self, begun: SystemTime, why: &str) {
        let since = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let times = match self.shown() {
            Some(What::Ran) => return,
            Some(What::Failed { at, .. }) if since(begun) < at => return,
            Some(What::Failed { times, .. }) => times.saturating_add(1),
            None => 1,
        };
        self.note(What::Failed { times, at: since(SystemTime::now()), why: why.to_owned() });
    }

    fn shown(&self) -> Option<What> {
        let shown: Shown = serde_json::from_slice(&fs::read(&self.0).ok()?).ok()?;
        (shown.boot == host_boot()).then_some(shown.what)
    }

    /// Without it the question is only asked again.
    fn note(&self, what: What) {
        let folder = self.0.parent().unwrap_or(&self.0);
        let write = || {
            fs::create_dir_all(folder)?;
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            file.write_all(&serde_json::to_vec(&Shown { boot: host_boot(), what })?)?;
            file.persist(&self.0)?;
            Ok::<(), std::io::Error>(())
        };
        if let Err(error) = write() {
            tracing::debug!(%error, "whether clones run is not remembered");
        }
    }
}

/// What the host lacked for a moment: another clone may have it.
const OF_THE_HOST: [&str; 7] = [
    "Device or resource busy",
    "Cannot allocate memory",
    "cannot set up guest memory",
    "Too many open files",
    "No space left on device",
    "Disk quota exceeded",
    "Resource temporarily unavailable",
];
/// What QEMU and this library say of a state that can't be loaded.
const OF_THE_STATE: [&str; 4] =
    ["loading the state failed", "load of migration failed", "error while loading state", " is damaged: "];

/// Whose fault it is that a clone did not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The template can't be loaded, and never will be.
    State,
    /// The host had no room, no memory, no descriptor.
    Host,
    /// The guest was loaded and gives no sign of life, or QEMU failed otherwise.
    Other,
}

/// By the words of the error, and by those of QEMU in it. The guest's own words in it say nothing.
pub(super) fn fault(error: &Error) -> Fault {
    let of_qemu = error.sections().filter(|(title, _)| title.starts_with("QEMU's")).map(|(_, body)| body);
    let text = of_qemu.fold(error.summary().to_owned(), |text, body| format!("{text}\n{body}"));
    let has = |words: &[&str]| words.iter().any(|words| text.contains(words));
    match () {
        () if has(&OF_THE_HOST) => Fault::Host,
        () if has(&OF_THE_STATE) => Fault::State,
        () => Fault::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    fn clones() -> (tempfile::TempDir, Clones) {
        let folder = tempfile::tempdir().unwrap();
        let clones = Clones(folder.path().join("accelerator/x-clones.json"));
        (folder, clones)
    }

    #[test]
    fn the_second_failure_is_remembered_and_a_clone_that_ran_is_for_good() {
        let (_folder, clones) = clones();
        clones.did_not_run(SystemTime::now(), "no answer");
        assert_eq!(clones.impossible(), None);
        clones.did_not_run(SystemTime::now(), "no answer");
        let why = clones.impossible().unwrap();
        assert!(why.contains("no answer") && why.contains("doctor --retry"), "{why}");
        clones.ran();
        assert_eq!(clones.impossible(), None);
        (0..3).for_each(|_| clones.did_not_run(SystemTime::now(), "no answer"));
        assert_eq!(clones.impossible(), None);
    }

    #[test]
    fn clones_that_were_begun_at_once_count_once() {
        let (_folder, clones) = clones();
        let begun = SystemTime::now();
        (0..4).for_each(|_| clones.did_not_run(begun, "no answer"));
        assert_eq!(clones.impossible(), None);
    }

    #[test]
    fn another_boot_of_the_host_is_another_host() {
        let (_folder, clones) = clones();
        (0..2).for_each(|_| clones.did_not_run(SystemTime::now(), "no answer"));
        let text = fs::read_to_string(&clones.0).unwrap().replace(&host_boot(), "another");
        fs::write(&clones.0, text).unwrap();
        assert_eq!(clones.impossible(), None);
        fs::write(&clones.0, "{").unwrap();
        assert_eq!(clones.impossible(), None);
    }

    #[test]
    fn an_error_of_the_state_is_told_from_one_of_the_host() {
        let qemu = |said: &str| {
            Error::new(ErrorKind::QemuGone, "loading the state failed: QEMU ended")
                .section("QEMU's stderr", said)
        };
        let mut cases = vec![
            (qemu("qemu-kvm: error while loading state for instance 0x0 of device 'cpu'"), Fault::State),
            (qemu("qemu-system-x86_64: load of migration failed: Invalid argument"), Fault::State),
            (Error::new(ErrorKind::Io, "/t/known.json is damaged: EOF"), Fault::State),
            (Error::new(ErrorKind::Timeout, "guest: the control channel did not answer"), Fault::Other),
            (
                Error::new(ErrorKind::Qmp, "QEMU does not run the guest: its state is internal-error"),
                Fault::Other,
            ),
            (
                Error::new(ErrorKind::Timeout, "no answer")
                    .section("the console's last lines", "load of migration failed"),
                Fault::Other,
            ),
        ];
        for words in OF_THE_HOST {
            cases.push((qemu(&format!("qemu-kvm: load of migration failed: {words}")), Fault::Host));
            cases
                .push((Error::new(ErrorKind::Io, format!("could not copy /t/memory: {words}")), Fault::Host));
        }
        for (error, expected) in cases {
            assert_eq!(fault(&error), expected, "{error}");
        }
    }
}
