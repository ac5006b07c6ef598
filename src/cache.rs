//! The cache: one folder per user for files that can be made again.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::Access;
use rustix::io::Errno;

use crate::beneath::{Beneath, leads_to_ours};
use crate::{Error, ErrorKind, Result, environment, io_error, text};

/// Returns the cache folder: `$NIXVM_CACHE_DIR`, else `$XDG_CACHE_HOME/nixvm-test`, else
/// `~/.cache/nixvm-test`. It is created if it is missing. It contains programs that this user runs, so no
/// other user may write to it. If it is on a read-only file system, another folder is used for this run.
///
/// # Errors
/// [`ErrorKind::Host`] when none of the variables names a folder, the folder can't be created, it belongs to
/// another user, or others may write to it.
pub(crate) fn dir() -> Result<PathBuf> {
    let dir = locate(environment::path).ok_or_else(|| {
        Error::new(ErrorKind::Host, "no folder for the cache: HOME is not set")
            .next_step("set HOME, or NIXVM_CACHE_DIR to a folder of your choice")
    })?;
    let advice = format!(
        "`chmod 700 {}` if it is yours and no other user has written to it, or set NIXVM_CACHE_DIR to a folder of your own, \
         which no other user may write to",
        text::line(&dir.display().to_string())
    );
    let failed = |source: std::io::Error| Error::host("use the cache folder", &source).next_step(advice);
    let dir = std::path::absolute(dir).map_err(failed.clone())?;
    match private(&dir).and_then(|()| Ok(rustix::fs::access(&dir, Access::WRITE_OK)?)) {
        Ok(()) => Ok(dir),
        Err(source) if io_error::code(&source) == Some(Errno::ROFS.raw_os_error()) => instead_of(&dir),
        Err(source) => Err(failed(source)),
    }
}

/// Why this run uses another folder than the user's cache, which is read-only.
static READ_ONLY: OnceLock<String> = OnceLock::new();

/// Returns why machines boot cold and nothing is kept for later runs, if the cache is on a read-only file system. It is
/// known once the cache was used.
pub(crate) fn is_read_only() -> Option<&'static str> {
    READ_ONLY.get().map(String::as_str)
}

/// Returns a folder for temporary files in place of a cache that is read-only. All processes of this user share it, so
/// that they count their machines together.
fn instead_of(cache: &Path) -> Result<PathBuf> {
    let user = rustix::process::geteuid().as_raw();
    let dir = environment::temporary_folder().join(format!("nixvm-test-cache-{user}"));
    let dir = std::path::absolute(dir).and_then(|dir| private(&dir).map(|()| dir));
    let dir = dir.map_err(|source| {
        Error::host("use a temporary folder in place of the cache", &source)
            .likely_cause(format!("the cache, {}, is read-only", text::line(&cache.display().to_string())))
            .next_step("set NIXVM_CACHE_DIR to a folder of your own that can be written")
    })?;
    READ_ONLY.get_or_init(|| {
        format!(
            "the cache, {}, is read-only: machines boot cold, and {} is used in its place",
            text::line(&cache.display().to_string()),
            text::line(&dir.display().to_string())
        )
    });
    Ok(dir)
}

/// Makes `dir` accessible for this user only. If it is a symbolic link, it is followed if it belongs to this
/// user, too. Programs in it are run by their path, so no other user may change a folder above it either.
fn private(dir: &Path) -> std::io::Result<()> {
    if let Some(above) = dir.parent() {
        leads_to_ours(above)?;
    }
    let own = rustix::process::geteuid().as_raw();
    let place = match fs::symlink_metadata(dir) {
        Ok(found) if found.is_symlink() && found.uid() == own => dir.canonicalize()?,
        Ok(_) => dir.to_owned(),
        Err(_) => {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(dir)
                .map_err(|error| io_error::named(dir.display(), error))?;
            dir.to_owned()
        }
    };
    leads_to_ours(place.parent().unwrap_or(&place))?;
    Beneath::private(place).map(drop)
}

fn locate(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    variable("NIXVM_CACHE_DIR")
        .or_else(|| variable("XDG_CACHE_HOME").map(|base| base.join("nixvm-test")))
        .or_else(|| variable("HOME").map(|home| home.join(".cache/nixvm-test")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn located(variables: &[(&str, &str)]) -> Option<PathBuf> {
        locate(|name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into()))
    }

    #[test]
    fn the_folder_of_its_own_goes_before_the_users_cache_and_home() {
        let all = [("NIXVM_CACHE_DIR", "/n"), ("XDG_CACHE_HOME", "/x"), ("HOME", "/h")];
        assert_eq!(located(&all), Some("/n".into()));
        assert_eq!(located(&all[1..]), Some("/x/nixvm-test".into()));
        assert_eq!(located(&all[2..]), Some("/h/.cache/nixvm-test".into()));
        assert_eq!(located(&[]), None);
    }

    #[test]
    fn the_folder_is_this_users_alone_or_it_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let place = tempfile::tempdir().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        let dir = place.path().join("home/.cache/nixvm-test");
        private(&dir).unwrap();
        assert_eq!(mode(&dir), 0o700);
        set(&dir, 0o755);
        private(&dir).unwrap();
        assert_eq!(mode(&dir), 0o700);
        // As with a umask of 002.
        let found = fs::metadata(&dir).unwrap();
        set(&dir, 0o775);
        assert_eq!(private(&dir).is_ok(), found.gid() == found.uid());
        set(&dir, 0o700);
        let link = place.path().join("link");
        std::os::unix::fs::symlink(&dir, &link).unwrap();
        private(&link).unwrap();
        set(&dir, 0o777);
        for path in [&dir, &link] {
            let refused = private(path).unwrap_err().to_string();
            assert!(refused.contains("other users may write to it"), "{refused}");
        }
        set(&dir, 0o700);
        let home = place.path().join("home");
        set(&home, 0o777);
        for path in [&dir, &link, &home.join("new/cache")] {
            let refused = private(path).unwrap_err().to_string();
            assert!(refused.contains(&format!("{} is not used: every user", home.display())), "{refused}");
        }
        assert!(!home.join("new").exists(), "nothing is made in another user's reach");
        set(&home, 0o755);
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&home, Some(4242), None).unwrap();
            let refused = private(&dir).unwrap_err().to_string();
            assert!(
                refused.contains(&format!("{} is not used: it belongs to the user 4242", home.display())),
                "{refused}"
            );
            std::os::unix::fs::chown(&home, Some(0), None).unwrap();
        }
        set(&dir, 0o777);
        fs::write(place.path().join("file"), "").unwrap();
        assert!(private(&place.path().join("file")).is_err());
        if rustix::process::geteuid().is_root() {
            set(&dir, 0o755);
            std::os::unix::fs::lchown(&link, Some(4242), None).unwrap();
            assert!(private(&link).unwrap_err().to_string().contains("symbolic link"));
            std::os::unix::fs::chown(&dir, Some(4242), None).unwrap();
            assert!(private(&dir).unwrap_err().to_string().contains("belongs to the user 4242"));
        }
    }
}
