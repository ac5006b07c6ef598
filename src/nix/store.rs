//! Finds how Nix reaches its store on this host, and the settings that follow. Settings are passed as options: nothing
//! in /etc is changed.

use std::path::Path;

use crate::{Error, ErrorKind, Result, environment};

/// The process that writes to the Nix store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Store {
    /// This process, as root.
    Root {
        /// Whether the users that builds run as (the group `nixbld`) exist.
        build_users: bool,
    },
    /// This process, as a user who owns the store.
    Owner,
    /// The nix daemon.
    Daemon,
}

/// The facts that decide it.
struct Facts {
    root: bool,
    remote: Option<String>,
    state_writable: bool,
    socket: bool,
    build_users: bool,
}

/// Nix's state folder; a store without it is not set up yet.
const STATE: &str = "/nix/var/nix";

impl Facts {
    fn gather() -> Self {
        let writable = |path: &str| {
            rustix::fs::access(path, rustix::fs::Access::READ_OK | rustix::fs::Access::WRITE_OK).is_ok()
        };
        let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
        Self {
            root: rustix::process::geteuid().is_root(),
            remote: environment::text("NIX_REMOTE"),
            // An empty /nix that the user owns can become a store: Nix creates the rest.
            state_writable: writable(STATE) || (!Path::new("/nix/var").exists() && writable("/nix")),
            socket: Path::new("/nix/var/nix/daemon-socket/socket").exists(),
            build_users: groups.lines().any(|line| line.starts_with("nixbld:")),
        }
    }
}

impl Store {
    /// Finds the store as Nix does (`openFromNonUri` in its store-api.cc): the store itself if its state is writable,
    /// else the daemon if its socket exists.
    ///
    /// # Errors
    /// [`ErrorKind::Host`] when there is neither, with the next step.
    pub(crate) fn find() -> Result<Self> {
        let store = Self::decide(&Facts::gather())?;
        if store == Self::Owner {
            // Unless this folder exists, Nix 2.10 and newer keep their store below the home folder, where no script of
            // a VM finds it (`resolveStoreConfig` in store-open.cc).
            std::fs::create_dir_all(STATE)
                .map_err(|source| Error::io(format_args!("make {STATE}"), &source))?;
        }
        Ok(store)
    }

    fn decide(facts: &Facts) -> Result<Self> {
        match facts.remote.as_deref() {
            None | Some("auto" | "local") => {}
            Some(_) => return Ok(Self::Daemon),
        }
        if facts.root {
            return Ok(Self::Root { build_users: facts.build_users });
        }
        if facts.state_writable {
            return Ok(Self::Owner);
        }
        if facts.socket {
            return Ok(Self::Daemon);
        }
        Err(Error::new(ErrorKind::Host, "the Nix store /nix can't be written, and no nix daemon runs")
            .next_step("make it yours, as Nix's own installer does: sudo install -d -o \"$USER\" /nix"))
    }

    /// Returns the settings that a build needs here; each is one `--option NAME VALUE`.
    pub(super) fn options(self, stand_in: bool) -> Vec<(&'static str, &'static str)> {
        let mut options = Vec::new();
        match self {
            // Debian's nix-bin is configured to build as the users of a group that it doesn't create.
            Self::Root { build_users } if stand_in || !build_users => {
                options.push(("build-users-group", ""));
            }
            // An untrusted user may not set these: the daemon ignores them with a warning.
            Self::Daemon if !rustix::process::geteuid().is_root() => return options,
            _ => {}
        }
        if stand_in {
            // Its builders fetch Debian packages, and set the setuid bits of a root file system. Nix's own filter
            // forbids the latter even without a sandbox. No binary cache has these results, and asking one takes
            // minutes without a network.
            options.extend([("sandbox", "false"), ("filter-syscalls", "false"), ("substitute", "false")]);
        }
        options
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Facts =
        Facts { root: false, remote: None, state_writable: false, socket: false, build_users: false };

    #[test]
    fn the_store_is_found_as_nix_finds_it() {
        let root = Facts { root: true, socket: true, build_users: true, ..NOTHING };
        assert_eq!(Store::decide(&root).unwrap(), Store::Root { build_users: true });
        let remote = Facts { root: true, remote: Some("daemon".to_owned()), ..NOTHING };
        assert_eq!(Store::decide(&remote).unwrap(), Store::Daemon);
        assert_eq!(
            Store::decide(&Facts { state_writable: true, socket: true, ..NOTHING }).unwrap(),
            Store::Owner
        );
        assert_eq!(Store::decide(&Facts { socket: true, ..NOTHING }).unwrap(), Store::Daemon);
        let error = Store::decide(&NOTHING).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Host);
        assert!(error.to_string().contains("install -d"), "{error}");
    }

    #[test]
    fn root_without_build_users_builds_as_root() {
        let group = ("build-users-group", "");
        assert_eq!(Store::Root { build_users: false }.options(false), [group]);
        assert_eq!(Store::Root { build_users: true }.options(false), []);
        assert!(Store::Root { build_users: true }.options(true).contains(&group));
        assert_eq!(Store::Owner.options(false), []);
        assert!(Store::Owner.options(true).contains(&("filter-syscalls", "false")));
    }
}
