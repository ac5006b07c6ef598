//! Chooses the nixpkgs that a configuration is built with.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::process;
use crate::presence::is_there;
use crate::{Error, ErrorKind, Events, Result, environment, nearest};

/// The source of the packages.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Nixpkgs {
    /// The user's value: a folder, a URL, or `channel:NAME`. Passed to Nix unchanged.
    Given(String),
    /// The lookup path `<nixpkgs>`, from NIX_PATH or a channel of the user or root.
    Found,
    /// The stand-in in this folder: Debian packages behind a part of NixOS's options. Not NixOS.
    StandIn(PathBuf),
}

/// Time limit of the lookup. Nix finds an existing channel in a few milliseconds. A channel that it must download first
/// does not count as found.
const LOOKUP_LIMIT: Duration = Duration::from_secs(10);

impl Nixpkgs {
    /// Chooses in this order: the value that was given; a lookup path in NIX_PATH; the user's or root's channel; the
    /// stand-in, with a note that says so.
    ///
    /// `given` may be `channel:nixos-26.05`, a folder, a URL, or `<name>` (a lookup path), each with an optional
    /// `nixpkgs=` before it, or `standin`.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when `given` is none of these or does not exist; [`ErrorKind::Host`] when the stand-in is
    /// needed and its folder is gone.
    pub async fn choose(given: Option<&str>, events: &Events) -> Result<Self> {
        let standin = standin_folder();
        if let Some(given) = given {
            return match parse(given)? {
                NixpkgsName::StandIn => standin_in(&standin),
                NixpkgsName::Url(url) => Ok(Self::Given(url)),
                NixpkgsName::Lookup(name) => match find_file(&name).await {
                    Some(path) => Self::at(&path, &standin),
                    None => Err(usage(format!("<{name}> is not in the Nix search path"))
                        .next_step("set NIX_PATH, or give --nixpkgs a folder or channel:NAME")),
                },
                NixpkgsName::Folder(path) => Self::at(&path, &standin),
            };
        }
        let in_nix_path =
            entry(&environment::text("NIX_PATH").unwrap_or_default(), "nixpkgs").map(str::to_owned);
        if let Some(value) = in_nix_path {
            // The value may need a download or be wrong: Nix reports that when it builds.
            let is_standin = same_folder(Path::new(&value), &standin);
            return if is_standin { standin_in(&standin) } else { Ok(Self::Found) };
        }
        if find_file("nixpkgs/nixos").await.is_some() {
            return Ok(Self::Found);
        }
        let chosen = standin_in(&standin)?;
        events.note(
            "no nixpkgs channel found: using the stand-in (Debian packages behind NixOS's options; not NixOS). \
             --nixpkgs channel:NAME or a folder chooses another",
        );
        Ok(chosen)
    }

    /// Returns whether this is the stand-in.
    pub fn is_stand_in(&self) -> bool {
        matches!(self, Self::StandIn(_))
    }

    /// Returns the value of `-I nixpkgs=…`; `None` if Nix's own search path is used.
    pub(super) fn search_path(&self) -> Option<String> {
        match self {
            Self::Given(value) => Some(value.clone()),
            Self::Found => None,
            Self::StandIn(folder) => Some(folder.display().to_string()),
        }
    }

    fn at(folder: &Path, standin: &Path) -> Result<Self> {
        let found = std::fs::canonicalize(folder).map_err(|source| {
            let error =
                usage(format!("there is no nixpkgs at {}: {source}", folder.display())).caused_by(source);
            match folder.file_name().and_then(|name| name.to_str()) {
                Some(name) if name.starts_with("nixos-") || name.starts_with("nixpkgs-") => {
                    error.next_step(format!("for the channel of that name write channel:{name}"))
                }
                Some(name) if nearest(name, ["standin"]).is_some() => {
                    error.next_step("for the stand-in write standin")
                }
                _ => error.next_step(NAMES),
            }
        })?;
        let nixos = found.join("nixos/default.nix");
        if !is_there(&nixos).map_err(|error| Error::io(format_args!("open {}", nixos.display()), &error))? {
            return Err(usage(format!("{} is not a nixpkgs: it has no nixos/default.nix", folder.display())));
        }
        if same_folder(&found, standin) {
            return Ok(Self::StandIn(found));
        }
        let path = found.to_str().ok_or_else(|| usage("the path of nixpkgs is not UTF-8".to_owned()))?;
        Ok(Self::Given(path.to_owned()))
    }
}

/// The values that a user can write.
const NAMES: &str =
    "write channel:nixos-26.05, a folder that has nixos/default.nix, a URL, <nixpkgs> or standin";

enum NixpkgsName {
    StandIn,
    Url(String),
    Lookup(String),
    Folder(PathBuf),
}

fn parse(given: &str) -> Result<NixpkgsName> {
    let given = given.trim();
    let value = given.strip_prefix("nixpkgs=").unwrap_or(given);
    if value.is_empty() || value.starts_with('-') || value.chars().any(char::is_control) {
        return Err(usage(format!("{given:?} is not a nixpkgs")).next_step(NAMES));
    }
    if value == "standin" {
        return Ok(NixpkgsName::StandIn);
    }
    if let Some(name) = value.strip_prefix('<').and_then(|rest| rest.strip_suffix('>')) {
        return Ok(NixpkgsName::Lookup(name.to_owned()));
    }
    if value.contains("://") || value.starts_with("channel:") || value.starts_with("flake:") {
        return Ok(NixpkgsName::Url(value.to_owned()));
    }
    if let Some((scheme, _)) = value.split_once(':')
        && !scheme.is_empty()
        && scheme.bytes().all(|byte| byte.is_ascii_lowercase())
        && !Path::new(value).exists()
    {
        return Err(usage(format!("{value} is not something that a Nix search path takes"))
            .next_step(format!("for a flake reference write flake:{value} (needs Nix 2.14 or newer)")));
    }
    match (value.strip_prefix("~/"), environment::path("HOME")) {
        (Some(rest), Some(home)) => Ok(NixpkgsName::Folder(home.join(rest))),
        _ => Ok(NixpkgsName::Folder(PathBuf::from(value))),
    }
}

/// Returns the value of `name=…` in a NIX_PATH, if it has one. The value of a URL is cut at its colon, which is enough
/// to see that there is one.
fn entry<'a>(nix_path: &'a str, name: &str) -> Option<&'a str> {
    nix_path.split(':').find_map(|entry| entry.strip_prefix(name)?.strip_prefix('='))
}

async fn find_file(name: &str) -> Option<PathBuf> {
    let mut command = std::process::Command::new("nix-instantiate");
    command.args(["--find-file", name]);
    let out = process::run(command, LOOKUP_LIMIT, |_| {}).await.ok()?;
    let path = out.stdout.trim();
    (out.status.success() && !path.is_empty()).then(|| PathBuf::from(path))
}

fn standin_folder() -> PathBuf {
    let compiled_in = crate::sources::folder();
    environment::path("NIXVM_STANDIN")
        .unwrap_or_else(|| standin_of(&compiled_in, environment::path("CARGO_MANIFEST_DIR").as_deref()))
}

/// Returns the stand-in of the package that this was compiled in, else of the package that it runs in. cargo-nextest
/// runs an archive elsewhere, and names that folder.
fn standin_of(compiled_in: &Path, runs_in: Option<&Path>) -> PathBuf {
    let places = [Some(compiled_in), runs_in].into_iter().flatten();
    let mut folders = places.map(|package| package.join("standin/nixpkgs"));
    folders.find(|folder| folder.is_dir()).unwrap_or_else(|| compiled_in.join("standin/nixpkgs"))
}

fn standin_in(folder: &Path) -> Result<Nixpkgs> {
    match std::fs::canonicalize(folder) {
        Ok(found) if found.join("nixos/default.nix").is_file() => Ok(Nixpkgs::StandIn(found)),
        _ => Err(Error::new(
            ErrorKind::Host,
            format!("no nixpkgs, and the stand-in is not in {} either", folder.display()),
        )
        .likely_cause("nixvm-test was installed from a checkout that was moved or removed since")
        .next_step("set NIXVM_STANDIN to standin/nixpkgs of a checkout, or choose a nixpkgs: --nixpkgs channel:nixos-26.05")),
    }
}

fn same_folder(one: &Path, other: &Path) -> bool {
    matches!((std::fs::canonicalize(one), std::fs::canonicalize(other)), (Ok(one), Ok(other)) if one == other)
}

fn usage(why: String) -> Error {
    Error::new(ErrorKind::Usage, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nixpkgs_folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("nixos")).unwrap();
        std::fs::write(folder.path().join("nixos/default.nix"), "{}").unwrap();
        folder
    }

    #[test]
    fn the_stand_in_is_found_where_an_archive_runs() {
        let [built, runs] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let standin = |folder: &tempfile::TempDir| folder.path().join("standin/nixpkgs");
        let found = |runs_in| standin_of(built.path(), runs_in);
        std::fs::create_dir_all(standin(&runs)).unwrap();
        assert_eq!(found(Some(runs.path())), standin(&runs));
        assert_eq!(found(None), standin(&built), "to be named in the error");
        std::fs::create_dir_all(standin(&built)).unwrap();
        assert_eq!(found(Some(runs.path())), standin(&built));
    }

    #[test]
    fn every_way_to_name_a_nixpkgs_is_understood() {
        for url in ["channel:nixos-26.05", "https://x/y.tar.gz", "file:///n.tar.xz", "flake:nixpkgs"] {
            assert!(matches!(parse(url).unwrap(), NixpkgsName::Url(same) if same == url), "{url}");
        }
        assert!(
            matches!(parse("nixpkgs=channel:nixos-26.05").unwrap(), NixpkgsName::Url(url) if url == "channel:nixos-26.05")
        );
        assert!(
            matches!(parse("<nixpkgs-unstable>").unwrap(), NixpkgsName::Lookup(name) if name == "nixpkgs-unstable")
        );
        assert!(matches!(parse("standin").unwrap(), NixpkgsName::StandIn));
        assert!(
            matches!(parse("./nixpkgs").unwrap(), NixpkgsName::Folder(path) if path == Path::new("./nixpkgs"))
        );
    }

    #[test]
    fn what_names_no_nixpkgs_is_refused_with_what_to_write() {
        let error = parse("github:NixOS/nixpkgs").err().unwrap().to_string();
        assert!(error.contains("write flake:github:NixOS/nixpkgs"), "{error}");
        for bad in ["", "nixpkgs=", "--help", "a\nb"] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
        let standin = Path::new("/no/standin");
        let error = Nixpkgs::at(Path::new("nixos-26.05"), standin).unwrap_err().to_string();
        assert!(error.contains("write channel:nixos-26.05"), "{error}");
        let error = Nixpkgs::at(Path::new("standing"), standin).unwrap_err().to_string();
        assert!(error.contains("for the stand-in write standin"), "{error}");
        let error = Nixpkgs::at(Path::new("nothing/here"), standin).unwrap_err().to_string();
        assert!(error.contains("write channel:nixos-26.05, a folder"), "{error}");
        let empty = tempfile::tempdir().unwrap();
        let error = Nixpkgs::at(empty.path(), standin).unwrap_err().to_string();
        assert!(error.contains("no nixos/default.nix"), "{error}");
    }

    #[test]
    fn the_stand_in_is_known_by_its_folder() {
        let (folder, other) = (nixpkgs_folder(), nixpkgs_folder());
        assert!(Nixpkgs::at(folder.path(), folder.path()).unwrap().is_stand_in());
        assert!(!Nixpkgs::at(folder.path(), other.path()).unwrap().is_stand_in());
        assert!(standin_in(folder.path()).unwrap().is_stand_in());
    }

    #[test]
    fn a_stand_in_that_is_gone_is_an_error_that_says_where_it_was_looked_for() {
        let error = standin_in(Path::new("/gone/standin")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Host);
        assert!(error.to_string().contains("/gone/standin"), "{error}");
    }

    #[test]
    fn a_lookup_path_is_seen_in_nix_path() {
        assert_eq!(entry("nixpkgs=/a:nixos-config=/b", "nixpkgs"), Some("/a"));
        assert_eq!(entry("/x:nixpkgs=https://host/n.tar", "nixpkgs"), Some("https"));
        assert_eq!(entry("nixpkgs-unstable=/a:/nixpkgs", "nixpkgs"), None);
        assert_eq!(entry("", "nixpkgs"), None);
    }
}
