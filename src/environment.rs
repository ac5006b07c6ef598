//! What the user's environment says. An empty variable is none, as the shells' own `${NAME:-…}` and the XDG base
//! directories have it.

use std::ffi::OsString;
use std::path::PathBuf;

/// The value of the variable `name`; `None` where it is not set, or empty.
pub fn variable(name: &str) -> Option<OsString> {
    said(std::env::var_os(name))
}

/// Whether the variable `name` is set to something, whatever that is.
pub fn is_set(name: &str) -> bool {
    variable(name).is_some()
}

/// The path that the variable `name` is set to, as it stands there: it may be relative, and lead nowhere.
pub fn path(name: &str) -> Option<PathBuf> {
    variable(name).map(PathBuf::from)
}

/// Where what users made stays between runs (records, the repl's history): `$XDG_STATE_HOME/nixvm-test`, else
/// `~/.local/state/nixvm-test`. It may not be there. `None` where HOME is not set either.
///
/// What can be made again is in the cache instead.
pub fn state_folder() -> Option<PathBuf> {
    state_folder_of(path)
}

fn state_folder_of(path: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let home = || Some(path("HOME")?.join(".local/state"));
    Some(path("XDG_STATE_HOME").or_else(home)?.join("nixvm-test"))
}

fn said(value: Option<OsString>) -> Option<OsString> {
    value.filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_variable_is_none() {
        assert_eq!(said(Some("".into())), None);
        assert_eq!(said(Some("0".into())), Some("0".into()));
        assert_eq!(said(None), None);
    }

    #[test]
    fn the_folder_for_state_goes_before_the_one_at_home() {
        let of = |all: &[(&str, &str)]| {
            state_folder_of(|name| all.iter().find(|(key, _)| *key == name).map(|(_, path)| path.into()))
        };
        let all = [("XDG_STATE_HOME", "/x"), ("HOME", "/h")];
        assert_eq!(of(&all), Some("/x/nixvm-test".into()));
        assert_eq!(of(&all[1..]), Some("/h/.local/state/nixvm-test".into()));
        assert_eq!(of(&[]), None);
    }
}
