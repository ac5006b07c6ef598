//! Where this tool keeps what it can make again: one folder a user.

use std::path::PathBuf;

use crate::{Error, ErrorKind, Result, environment};

/// The cache folder, made if it is missing: `$NIXVM_CACHE_DIR`, else `$XDG_CACHE_HOME/nixvm-test`,
/// else `~/.cache/nixvm-test`.
///
/// # Errors
/// [`ErrorKind::Host`] when none of the variables names a folder, or it can't be made.
pub(crate) fn dir() -> Result<PathBuf> {
    let dir = locate(environment::path).ok_or_else(|| {
        Error::new(ErrorKind::Host, "no folder for the cache: HOME is not set")
            .next_step("set HOME, or NIXVM_CACHE_DIR to a folder of your choice")
    })?;
    std::fs::create_dir_all(&dir).map_err(|source| {
        Error::new(ErrorKind::Host, format!("could not make the cache folder {}: {source}", dir.display()))
            .next_step("set NIXVM_CACHE_DIR to a folder that you may write to")
    })?;
    std::path::absolute(&dir)
        .map_err(|source| Error::io(format_args!("find the cache folder {}", dir.display()), &source))
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
}
