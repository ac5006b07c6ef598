//! Remembers whether clones run on this host.
//!
//! Some hosts can save a machine but never run a clone of it, and some templates have no working clones
//! although other templates do. There each scenario would cost a boot, a save, a failed clone and a second
//! boot. So failures are remembered for this boot of the host:
//!
//! - For the host, the second failure is final as long as no clone has ever run.
//! - For a template, failures in a row are counted. After the second failure it is made again once. The
//!   second failure of the new template is final.
//!
//! The files are in the folder with the findings about KVM, and are forgotten together with them.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Key;
use crate::BuiltVm;
use crate::boot_id::boot_id;
use crate::qemu::accelerator::{Choice, OF_CLONES, findings, subject};
use crate::{Error, Result};

/// The failure after which no clone is tried any more.
const LAST: u32 = 2;

/// What is known about clones under one QEMU, kernel, CPU model and accelerator.
#[derive(Debug)]
pub(super) struct Clones {
    folder: PathBuf,
    host: PathBuf,
}

#[derive(Debug, Serialize, Deserialize)]
struct OfThisBoot<T> {
    /// The boot of the host for which this holds.
    boot: String,
    what: T,
}

/// What is known about the host.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
enum What {
    /// A clone has run, so a failure says nothing about the host.
    Ran,
    /// No clone has run yet.
    Failed(Failures),
}

/// Consecutive failures.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Failures {
    times: u32,
    /// When the last failure was recorded, since 1970.
    at: Duration,
    why: String,
}

impl Failures {
    /// Counts a failure of a clone that was started at `begun`. Several clones that were started at the same
    /// time count once, because one overloaded moment of the host may have caused all their failures.
    fn count(&mut self, begun: SystemTime, why: &str) {
        if since_1970(begun) >= self.at {
            let times = self.times.saturating_add(1);
            *self = Self { times, at: since_1970(SystemTime::now()), why: why.to_owned() };
        }
    }
}

/// What is known about a template of which no clone has run since the last failure.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct OfTemplate {
    failures: Failures,
    /// Whether the template was discarded once, so that the failures are those of the new one.
    new: bool,
}

impl Clones {
    /// Returns the record for a VM.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Host`] when there is no folder for the cache.
    pub(super) fn of(vm: &BuiltVm, choice: &Choice) -> Result<Self> {
        let cpu = choice.cpu.unwrap_or_default().to_owned();
        let key = Key::of(&[subject(vm), choice.accelerator.to_string(), cpu]);
        Ok(Self::in_folder(findings()?, key.name()))
    }

    fn in_folder(folder: PathBuf, host: &str) -> Self {
        let host = folder.join(format!("{host}{OF_CLONES}"));
        Self { folder, host }
    }

    /// Returns why this host does not clone the template, or `None` if it may.
    pub(super) fn impossible(&self, template: &Key) -> Option<String> {
        let forget = "nixvm-test doctor --retry forgets this";
        if let Some(What::Failed(Failures { times, why, .. })) = shown(&self.host)
            && times >= LAST
        {
            return Some(format!("clones do not run on this host: {why} (seen twice; {forget})"));
        }
        match shown(&self.of_template(template.name()))? {
            OfTemplate { new: true, failures: Failures { times, why, .. } } if times >= LAST => {
                Some(format!(
                    "clones of this moment do not run: {why} (not even after its template was made again; {forget})"
                ))
            }
            _ => None,
        }
    }

    /// Records that a clone of the template in `folder` runs.
    pub(super) fn ran(&self, folder: &Path) {
        if shown(&self.host) != Some(What::Ran) {
            note(&self.host, What::Ran);
        }
        // A success ends the row of failures.
        let _ = fs::remove_file(self.of_template(&name(folder)));
    }

    /// Records that a clone of the template in `folder`, started at `begun`, did not run. Returns whether to
    /// discard the template.
    pub(super) fn did_not_run(&self, folder: &Path, begun: SystemTime, why: &str) -> bool {
        let mut host = match shown(&self.host) {
            Some(What::Ran) => None,
            Some(What::Failed(failures)) => Some(failures),
            None => Some(Failures::default()),
        };
        if let Some(failures) = &mut host {
            failures.count(begun, why);
        }
        if let Some(failures) = host {
            note(&self.host, What::Failed(failures));
            // While no clone has ever run here, the template is not to blame.
            return false;
        }
        let path = self.of_template(&name(folder));
        let mut known: OfTemplate = shown(&path).unwrap_or_default();
        known.failures.count(begun, why);
        let goes = known.failures.times >= LAST;
        note(&path, known);
        goes
    }

    /// Records that the template in `folder` was discarded. The next one is the last.
    pub(super) fn thrown_away(&self, folder: &Path) {
        let path = self.of_template(&name(folder));
        let known: OfTemplate = shown(&path).unwrap_or_default();
        if !known.new {
            let failures = Failures { times: 0, at: since_1970(SystemTime::now()), ..known.failures };
            note(&path, OfTemplate { failures, new: true });
        }
    }

    fn of_template(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}{OF_CLONES}"))
    }
}

/// Returns the name of a template's key, which is also the name of its folder.
fn name(folder: &Path) -> String {
    folder.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn since_1970(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Returns the content of a file, if it holds for this boot of the host.
fn shown<T: DeserializeOwned>(path: &Path) -> Option<T> {
    let shown: OfThisBoot<T> = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    (shown.boot == boot_id()).then_some(shown.what)
}

/// Writes a file. If that fails, the next run only has to find out again.
fn note(path: &Path, what: impl Serialize) {
    let folder = path.parent().unwrap_or(path);
    let write = || {
        fs::create_dir_all(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(&serde_json::to_vec(&OfThisBoot { boot: boot_id(), what })?)?;
        file.persist(path)?;
        Ok::<(), std::io::Error>(())
    };
    if let Err(error) = write() {
        tracing::debug!(%error, "could not record whether clones run");
    }
}

/// Errors of a host that lacked a resource for a moment. Another clone may get it.
const OF_THE_HOST: [&str; 7] = [
    "Device or resource busy",
    "Cannot allocate memory",
    "cannot set up guest memory",
    "Too many open files",
    "No space left on device",
    "Disk quota exceeded",
    "Resource temporarily unavailable",
];
/// Messages of QEMU and of this library about a state that can't be loaded.
const OF_THE_STATE: [&str; 4] =
    ["loading the state failed", "load of migration failed", "error while loading state", " is damaged: "];

/// What is to blame for a clone that did not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The template, which can never be loaded.
    State,
    /// The host, which lacked disk space, memory or descriptors.
    Host,
    /// Something else: the guest was loaded but does not respond, or QEMU failed otherwise.
    Other,
}

/// Decides by the text of the error and by QEMU's messages in it. The guest's own output does not count.
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
        let clones = Clones::in_folder(folder.path().join("accelerator"), "x");
        (folder, clones)
    }

    /// Makes the key and the folder of a template.
    fn template(name: &str) -> (Key, PathBuf) {
        let key = Key::of(&[name.to_owned()]);
        let folder = Path::new("/templates").join(key.name());
        (key, folder)
    }

    #[test]
    fn the_second_failure_is_remembered_and_a_clone_that_ran_is_for_good() {
        let ((_folder, clones), (key, folder)) = (clones(), template("a"));
        assert!(!clones.did_not_run(&folder, SystemTime::now(), "no answer"));
        assert_eq!(clones.impossible(&key), None);
        assert!(!clones.did_not_run(&folder, SystemTime::now(), "no answer"));
        let why = clones.impossible(&template("b").0).unwrap();
        assert!(why.contains("no answer") && why.contains("doctor --retry"), "{why}");
        clones.ran(&folder);
        assert_eq!(clones.impossible(&key), None);
        (0..9).for_each(|_| _ = clones.did_not_run(&folder, SystemTime::now(), "no answer"));
        assert_eq!(clones.impossible(&template("b").0), None);
    }

    #[test]
    fn a_template_whose_clones_all_fail_is_made_again_once_and_then_none() {
        let ((_folder, clones), (key, folder)) = (clones(), template("bad"));
        let fails = || clones.did_not_run(&folder, SystemTime::now(), "no answer");
        clones.ran(&template("good").1);
        // A clone that runs in between starts a new row.
        assert!(!fails());
        clones.ran(&folder);
        assert!(!fails());
        assert!(fails());
        assert_eq!(clones.impossible(&key), None);
        // Another machine was using it.
        assert!(fails(), "it still has to be discarded");
        clones.thrown_away(&folder);
        assert!(!fails());
        assert_eq!(clones.impossible(&key), None);
        assert!(fails(), "what is of no use takes no room");
        let why = clones.impossible(&key).unwrap();
        assert!(why.contains("no answer") && why.contains("doctor --retry"), "{why}");
        clones.thrown_away(&folder);
        assert!(clones.impossible(&key).is_some());
        assert_eq!(clones.impossible(&template("good").0), None);
    }

    #[test]
    fn a_template_that_is_refused_is_made_again_once_as_well() {
        let ((_folder, clones), (key, folder)) = (clones(), template("bad"));
        clones.ran(&template("good").1);
        // A discarded template always counts, also if its failures were not counted.
        for impossible in [false, false, true] {
            clones.did_not_run(&folder, SystemTime::now(), "load of migration failed");
            clones.thrown_away(&folder);
            assert_eq!(clones.impossible(&key).is_some(), impossible);
        }
    }

    #[test]
    fn clones_that_were_begun_at_once_count_once() {
        for ran_before in [false, true] {
            let ((_folder, clones), (key, folder)) = (clones(), template("a"));
            if ran_before {
                clones.ran(&folder);
            }
            let begun = SystemTime::now();
            for _ in 0..4 {
                assert!(!clones.did_not_run(&folder, begun, "no answer"));
            }
            assert_eq!(clones.impossible(&key), None);
            // A clone of the previous template does not count for the new one.
            clones.thrown_away(&folder);
            for _ in 0..4 {
                assert!(!clones.did_not_run(&folder, begun, "no answer"));
            }
        }
    }

    #[test]
    fn another_boot_of_the_host_is_another_host() {
        let ((_folder, clones), (key, folder)) = (clones(), template("a"));
        (0..2).for_each(|_| _ = clones.did_not_run(&folder, SystemTime::now(), "no answer"));
        let text = fs::read_to_string(&clones.host).unwrap().replace(&boot_id(), "another");
        fs::write(&clones.host, text).unwrap();
        assert_eq!(clones.impossible(&key), None);
        fs::write(&clones.host, "{").unwrap();
        assert_eq!(clones.impossible(&key), None);
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
