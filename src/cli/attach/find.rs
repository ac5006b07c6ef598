//! Finds the moment that the user means: its run, scenario and machine.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::beneath::Beneath;
use crate::presence::is_known_absent;
use crate::record::Folder;
use crate::{Error, ErrorKind, Result, report};

/// The suffix of a kept machine's folder.
const MOMENT: &str = ".moment";

/// Maximum number of names that are read from one folder of a record.
const NAMES: usize = 1 << 16;

/// Returns the folders of the moments that the user means: those of all machines of one scenario, or that of one
/// machine.
pub fn moments(run: &str, scenario: Option<&str>, machine: Option<&str>) -> Result<Vec<PathBuf>> {
    let given = Path::new(run);
    if given.join("moment.json").is_file() {
        return Ok(vec![given.to_owned()]);
    }
    let record = Folder::find(run)?;
    let folder = record.path();
    let failed = |error| Error::io(format_args!("read the record {}", folder.display()), &error);
    let all = all_moments(record.files()).map_err(failed)?;
    if all.is_empty() {
        return Err(Error::new(ErrorKind::Usage, format!("no machine was kept in {}", folder.display()))
            .likely_cause(
                "no scenario of that run failed, or its machines could not be kept: the output of the run says why",
            )
            .next_step("run it again, without NIXVM_KEEP_FAILED=0"));
    }
    let scenario = scenario.map(|name| name.replace("::", "."));
    let fits = |found: &&Moment| {
        scenario
            .as_deref()
            .is_none_or(|its| found.scenario == its || found.scenario.ends_with(&format!(".{its}")))
            && machine.is_none_or(|its| found.machine == its)
    };
    let fitting: Vec<&Moment> = all.iter().filter(fits).collect();
    let list = |of: &[&Moment]| {
        of.iter()
            .map(|one| report::printable(&format!("{} --machine {}", one.scenario, one.machine)))
            .collect::<Vec<_>>()
            .join("\n")
    };
    match fitting.as_slice() {
        [first, others @ ..] if others.iter().all(|other| other.scenario == first.scenario) => {
            Ok(fitting.iter().map(|one| one.folder.clone()).collect())
        }
        [] => Err(Error::new(ErrorKind::Usage, format!("no such machine was kept in {}", folder.display()))
            .section("these were", list(&all.iter().collect::<Vec<_>>()))),
        several => Err(Error::new(
            ErrorKind::Usage,
            format!("{} machines were kept in {}: which one?", several.len(), folder.display()),
        )
        .section("name one of", list(several))),
    }
}

/// A machine that was kept.
struct Moment {
    scenario: String,
    machine: String,
    folder: PathBuf,
}

/// Lists all of them: `RUN/SCENARIO/MACHINE.moment`. A record from elsewhere may contain links; they are not followed.
fn all_moments(run: &Beneath) -> io::Result<Vec<Moment>> {
    let mut found = Vec::new();
    for scenario in names(run)? {
        let folder = match run.folder(&scenario) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(error),
            Err(_) => continue,
            Ok(folder) => folder,
        };
        for name in names(&folder)? {
            let Some(machine) = name.strip_suffix(MOMENT).filter(|_| !name.starts_with('.')) else {
                continue;
            };
            if let Ok(moment) = folder.folder(&name) {
                let (scenario, machine) = (scenario.clone(), machine.to_owned());
                found.push(Moment { scenario, machine, folder: moment.path().to_owned() });
            }
        }
    }
    found.sort_by(|one, other| (&one.scenario, &one.machine).cmp(&(&other.scenario, &other.machine)));
    Ok(found)
}

fn names(folder: &Beneath) -> io::Result<impl Iterator<Item = String>> {
    Ok(folder.names(NAMES)?.into_iter().filter_map(|name| name.into_string().ok()))
}

/// Returns the console socket of a paused machine, given by its run directory or that directory's name.
pub fn live(id: &str) -> Result<PathBuf> {
    let path = Path::new(id);
    // The name comes first: in a folder that everybody may write to, another user could create a folder of that name.
    let candidates = [crate::qemu::RunDirectory::named(id), Some(path.to_owned())];
    let socket = |folder: PathBuf| if folder.is_dir() { folder.join("console.sock") } else { folder };
    let found = candidates.into_iter().flatten().map(socket).find(|socket| !is_known_absent(socket));
    let socket = found.ok_or_else(|| {
        Error::new(ErrorKind::Usage, format!("no run is paused as {id:?}"))
            .next_step("give what the run printed when it paused, such as 1a2b3c4d.1")
    })?;
    let owner = std::fs::metadata(&socket).map(|found| found.uid()).ok();
    match owner.filter(|owner| *owner != rustix::process::geteuid().as_raw()) {
        None => Ok(socket),
        Some(other) => Err(Error::new(
            ErrorKind::Usage,
            format!("{} belongs to another user (user ID {other})", socket.display()),
        )
        .likely_cause("what you type there goes to that user, not to a machine of yours")
        .next_step("attach as the user who runs the machine")),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn run() -> tempfile::TempDir {
        let run = tempfile::tempdir().unwrap();
        for moment in
            ["web.login/server.moment", "web.login/client.moment", "db.login/machine.moment", "ping/m.moment"]
        {
            fs::create_dir_all(run.path().join(moment)).unwrap();
        }
        fs::write(run.path().join("events.jsonl"), "").unwrap();
        run
    }

    #[test]
    fn the_machines_of_one_scenario_are_meant_or_all_that_could_be_are_named() {
        let run = run();
        let path = run.path().canonicalize().unwrap();
        let of = |scenario, machine| moments(path.to_str().unwrap(), scenario, machine);
        let is = |found: Result<Vec<PathBuf>>, expected: &[&str]| {
            let expected: Vec<PathBuf> = expected.iter().map(|folder| path.join(folder)).collect();
            assert_eq!(found.unwrap(), expected);
        };
        is(of(Some("ping"), None), &["ping/m.moment"]);
        is(of(Some("web::login"), Some("client")), &["web.login/client.moment"]);
        is(of(Some("web.login"), None), &["web.login/client.moment", "web.login/server.moment"]);
        is(of(None, Some("machine")), &["db.login/machine.moment"]);
        let several = of(Some("login"), None).unwrap_err().to_string();
        assert!(
            several.contains("3 machines") && several.contains("web.login --machine server"),
            "{several}"
        );
        let none = of(Some("pong"), None).unwrap_err().to_string();
        assert!(none.contains("ping --machine m"), "{none}");
    }

    #[test]
    fn a_run_without_failures_says_so() {
        let run = tempfile::tempdir().unwrap();
        fs::write(run.path().join("events.jsonl"), "").unwrap();
        let error = moments(run.path().to_str().unwrap(), None, None).unwrap_err().to_string();
        assert!(error.contains("no machine was kept"), "{error}");
    }
}
