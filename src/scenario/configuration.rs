//! Finds what a machine or a system of a scenario is built from. That is what its attribute names, else the
//! configuration for the whole run, else `configuration.nix` in the folder of the scenario's file or in the nearest
//! folder above it.

use std::path::{Path, PathBuf};

use super::registry::Scenario;
use crate::nix::{Source, Written, relative};
use crate::presence::is_known_absent;
use crate::{Error, ErrorKind, Result, above, environment};

/// The name of the file that is searched for.
pub(super) const NAME: &str = "configuration.nix";

/// The variable with built VMs for the configurations that scenarios name:
/// `web.nix=/nix/store/…-nixos-vm,client.nix=…`. It is for places where no Nix can run, such as within a
/// build of Nix itself.
const BUILT: &str = "NIXVM_VMS";

/// Returns what to build for a machine or a system of `scenario`. `asked` is the source in its attribute, `given`
/// the one for the whole run (`--configuration`, `--flake`, `--vm`).
///
/// # Errors
/// [`ErrorKind::Usage`] if nothing is found; the text names every place that was searched.
pub(super) fn find(scenario: &Scenario, asked: Option<&str>, given: Option<&Source>) -> Result<Source> {
    let Some(list) = environment::variable(BUILT) else { return named(scenario, asked, given) };
    let list = list.into_string().map_err(|list| not_a_list(&list.to_string_lossy()))?;
    // First by its text: where no Nix can run, there may be no repository either.
    if let Some(vm) = asked.and_then(|asked| built_as(asked, &list)) {
        return Ok(Source::Built(vm.into()));
    }
    built_already(named(scenario, asked, given)?, &list)
}

/// Returns the built VM that `list` has for a source, by its whole text.
fn built_as<'a>(asked: &str, list: &'a str) -> Option<&'a str> {
    let vm = list.split(',').find_map(|pair| pair.strip_prefix(asked)?.strip_prefix('='));
    vm.filter(|vm| !vm.is_empty())
}

/// Returns the nixpkgs that the attribute of `scenario` names. A relative path starts at the scenario's folder.
pub(super) fn nixpkgs(scenario: &Scenario, asked: &str) -> String {
    relative::nixpkgs(asked, folder_of(&source_file(scenario)))
}

/// Returns the built VM that `list` has for a configuration, or else the source itself.
fn built_already(source: Source, list: &str) -> Result<Source> {
    let pairs = list.split(',').map(|pair| match pair.split_once('=') {
        Some((name, vm)) if !name.is_empty() && !vm.is_empty() => Ok((name, vm)),
        _ => Err(not_a_list(list)),
    });
    let pairs = pairs.collect::<Result<Vec<_>>>()?;
    let Source::Configuration(path) = &source else { return Ok(source) };
    let found = pairs.iter().find(|(name, _)| path.ends_with(name));
    Ok(found.map_or(source, |(_, vm)| Source::Built(vm.into())))
}

fn not_a_list(list: &str) -> Error {
    Error::new(ErrorKind::Usage, format!("{BUILT}={list} is not a list of VMs")).next_step(format!(
        "it takes configurations and their built VMs: {BUILT}=web.nix=./result,client.nix=./client"
    ))
}

fn named(scenario: &Scenario, asked: Option<&str>, given: Option<&Source>) -> Result<Source> {
    let file = source_file(scenario);
    let folder = folder_of(&file);
    let usual = || match given {
        Some(given) => Ok(given.clone()),
        None => nearest(folder).map(Source::Configuration),
    };
    if let Some(asked) = asked {
        let written = Written::parse(asked);
        let source = written.source(folder, usual)?;
        let Some(path) = written.file().map(|path| folder.join(path)) else { return Ok(source) };
        if !is_known_absent(&path) {
            return Ok(source);
        }
        let summary = format!("no configuration `{asked}` beside {}", file.display());
        let error =
            Error::new(ErrorKind::Usage, summary).section("looked at", path.display().to_string()).next_step(
                "a path in `#[scenario(…)]` is relative to the folder of the scenario's file; other sources begin with \
                 git:, profile:, flake: or vm:",
            );
        return Err(match folder.parent().map(|above| above.join(asked)).filter(|above| above.is_file()) {
            Some(_) => error.likely_cause(format!("it is in the folder above: \"../{asked}\"")),
            None => error,
        });
    }
    usual()
}

/// Returns where a configuration is searched for first; `None` if `asked` is another kind of source.
pub(super) fn beside(scenario: &Scenario, asked: Option<&str>) -> Option<PathBuf> {
    let asked = Written::parse(asked.unwrap_or(NAME)).file()?;
    Some(folder_of(&source_file(scenario)).join(asked))
}

/// Returns the folder of a file, at which paths in its attributes start.
fn folder_of(file: &Path) -> &Path {
    file.parent().unwrap_or(Path::new("."))
}

/// Returns the nearest `configuration.nix`, from `folder` up to the repository's root (or, outside of a
/// repository, to the root of the file system).
fn nearest(folder: &Path) -> Result<PathBuf> {
    above::nearest(folder, NAME).map_err(|places| {
    Error::new(ErrorKind::Usage, format!("no {NAME} for scenarios in {}", folder.display()))
        .section("looked at", places)
        .next_step(
            "put one beside the scenario, name one with `#[scenario(configuration = \"FILE.nix\")]`, or give \
             one for the whole run: `--configuration FILE.nix` (NIXVM_CONFIGURATION), `--flake .#HOST`, `--vm ./result`; `nixvm-test init` makes a first one",
        )
    })
}

/// Returns the path of the file of `scenario`. `file!()` is relative to the root of the workspace in which it
/// was compiled. Only the package's folder is known, so the root is that folder or one above it.
pub(super) fn source_file(scenario: &Scenario) -> PathBuf {
    located(scenario.file, scenario.manifest_dir)
}

/// Returns the path of a file that `file!()` named, in a package that was compiled in `manifest_dir`.
pub(super) fn located(file: &str, manifest_dir: &str) -> PathBuf {
    let file = Path::new(file);
    if file.is_absolute() {
        return file.to_owned();
    }
    // cargo sets this at run time, too, and so does nextest for an archive that runs elsewhere than where it
    // was built.
    let now = environment::path("CARGO_MANIFEST_DIR");
    let packages = [now.as_deref(), Some(Path::new(manifest_dir))];
    let places = packages.into_iter().flatten().flat_map(Path::ancestors).map(|folder| folder.join(file));
    places.into_iter().find(|path| path.is_file()).unwrap_or_else(|| file.to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn scenario(file: &Path) -> Scenario {
        Scenario {
            file: Box::leak(file.display().to_string().into_boxed_str()),
            manifest_dir: "/nowhere",
            ..Scenario::sample()
        }
    }

    fn path(source: Source) -> PathBuf {
        match source {
            Source::Configuration(path) => path,
            other => panic!("{other:?}"),
        }
    }

    /// Makes a repository with `deep/scenarios/login.rs`, and a configuration at its root.
    fn repository() -> (tempfile::TempDir, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("repository/deep/scenarios")).unwrap();
        fs::create_dir(root.path().join("repository/.git")).unwrap();
        let file = root.path().join("repository/deep/scenarios/login.rs");
        fs::write(&file, "").unwrap();
        (root, file)
    }

    #[test]
    fn the_nearest_configuration_is_found_beside_the_file_first() {
        let (root, file) = repository();
        let far = root.path().join("repository/configuration.nix");
        let near = root.path().join("repository/deep/scenarios/configuration.nix");
        fs::write(&far, "{}").unwrap();
        assert_eq!(path(find(&scenario(&file), None, None).unwrap()), far);
        fs::write(&near, "{}").unwrap();
        assert_eq!(path(find(&scenario(&file), None, None).unwrap()), near);
    }

    #[test]
    fn the_search_ends_at_the_repository_and_names_each_place() {
        let (root, file) = repository();
        fs::write(root.path().join("configuration.nix"), "{}").unwrap();
        let error = find(&scenario(&file), None, None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        let text = error.to_string();
        for place in ["deep/scenarios", "deep", "."] {
            let place = root.path().join("repository").join(place).join(NAME);
            let place = place.display().to_string().replace("/./", "/");
            assert!(text.contains(&place), "{place} is missing:\n{text}");
        }
        let outside = root.path().join(NAME).display().to_string();
        assert!(!text.contains(&outside), "{text}");
    }

    #[test]
    fn the_attribute_wins_over_the_run_and_the_run_over_the_search() {
        let (root, file) = repository();
        let web = root.path().join("repository/deep/scenarios/web.nix");
        fs::write(&web, "{}").unwrap();
        fs::write(root.path().join("repository/configuration.nix"), "{}").unwrap();
        let given = Source::Configuration(PathBuf::from("/given.nix"));
        assert_eq!(path(find(&scenario(&file), Some("web.nix"), Some(&given)).unwrap()), web);
        assert_eq!(path(find(&scenario(&file), None, Some(&given)).unwrap()), Path::new("/given.nix"));
    }

    #[test]
    fn a_configuration_that_is_built_already_is_known_by_the_end_of_its_path() {
        let web = || Source::Configuration("/suite/scenarios/web.nix".into());
        let list = "client.nix=/nix/store/c,scenarios/web.nix=/nix/store/a=b-vm";
        assert_eq!(built_already(web(), list).unwrap(), Source::Built("/nix/store/a=b-vm".into()));
        assert_eq!(built_already(web(), "eb.nix=/x").unwrap(), web());
        let given = Source::Built("/given".into());
        assert_eq!(built_already(given.clone(), "given=/x").unwrap(), given);
        for list in ["web.nix", "web.nix=", "=/x", "web.nix=/x,,"] {
            let error = built_already(web(), list).unwrap_err().to_string();
            assert!(error.contains(list) && error.contains("it takes"), "{error}");
        }
    }

    #[test]
    fn a_configuration_that_is_not_there_is_named_with_its_place() {
        let (root, file) = repository();
        let text = find(&scenario(&file), Some("wbe.nix"), None).unwrap_err().to_string();
        let place = root.path().join("repository/deep/scenarios/wbe.nix");
        assert!(text.contains(&place.display().to_string()), "{text}");
    }

    #[test]
    fn a_relative_file_is_found_from_the_package_up() {
        let (root, file) = repository();
        let mut relative = scenario(Path::new("deep/scenarios/login.rs"));
        let package = root.path().join("repository/deep");
        relative.manifest_dir = Box::leak(package.display().to_string().into_boxed_str());
        assert_eq!(source_file(&relative), file);
    }
}
