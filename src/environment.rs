//! Reads the process's environment. No other module does. An empty variable counts as unset, as in the
//! shell's `${NAME:-…}` and in the specification of the XDG base directories.
//!
//! clippy.toml forbids the functions of `std::env` that read variables. Only this file may call them.

#![allow(clippy::disallowed_methods, reason = "this is the place that the rule points to")]

use std::ffi::OsString;
use std::path::PathBuf;

/// Returns the value of the variable `name`, or `None` if it is unset or empty.
pub fn variable(name: &str) -> Option<OsString> {
    exact(name).filter(|value| !value.is_empty())
}

/// Returns the value of the variable `name` as text, or `None` if it is unset, empty or not UTF-8.
pub fn text(name: &str) -> Option<String> {
    variable(name)?.into_string().ok()
}

/// Returns the path in the variable `name`, unchanged. It may be relative, and it may not exist.
pub fn path(name: &str) -> Option<PathBuf> {
    variable(name).map(PathBuf::from)
}

/// Whether the variable `name` is not empty. Any value counts, even `0`.
pub fn is_set(name: &str) -> bool {
    variable(name).is_some()
}

/// Returns the value of the variable `name` as another program gets it, which may distinguish an empty
/// variable from an unset one. This is for cache keys, and for imitating another program. All other code
/// calls [`variable`].
pub fn exact(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

/// Returns all variables that have a value, sorted by name.
pub fn all() -> Vec<(OsString, OsString)> {
    let mut all: Vec<_> = std::env::vars_os().filter(|(_, value)| !value.is_empty()).collect();
    all.sort();
    all
}

/// Returns the folders of PATH in order. Empty entries are kept, because programs interpret them as the
/// current folder.
pub fn path_folders() -> Vec<PathBuf> {
    variable("PATH").iter().flat_map(std::env::split_paths).collect()
}

/// Returns the folder for temporary files: `$TMPDIR`, else `/tmp`.
pub fn temporary_folder() -> PathBuf {
    path("TMPDIR").unwrap_or_else(|| "/tmp".into())
}

/// Returns the folder for files that users made and that outlive a run (records, the repl's history):
/// `$XDG_STATE_HOME/nixvm-test`, else `~/.local/state/nixvm-test`. It may not exist. Returns `None` if HOME
/// is unset, too.
///
/// Files that can be made again are in the cache instead.
pub fn state_folder() -> Option<PathBuf> {
    state_folder_of(path)
}

fn state_folder_of(path: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let home = || Some(path("HOME")?.join(".local/state"));
    Some(path("XDG_STATE_HOME").or_else(home)?.join("nixvm-test"))
}

/// The variable that marks the process that [`with_variables`] starts.
#[cfg(test)]
const TEST_PROCESS: &str = "NIXVM_TEST_ENVIRONMENT";

/// Runs the test `name` again in a process with these variables, where it has to pass. Returns `true` in that
/// process, where the test continues. A process with threads can't set its own variables.
#[cfg(test)]
pub(crate) fn with_variables(name: &str, variables: &[(&str, &[u8])]) -> bool {
    use std::os::unix::ffi::OsStrExt as _;
    if exact(TEST_PROCESS).is_some() {
        return true;
    }
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name]).env(TEST_PROCESS, "");
    command.envs(variables.iter().map(|(name, value)| (name, std::ffi::OsStr::from_bytes(value))));
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    false
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;

    #[test]
    fn an_empty_variable_counts_as_unset() {
        let variables: [(&str, &[u8]); 4] = [("EMPTY", b""), ("ZERO", b"0"), ("PATH", b""), ("TMPDIR", b"")];
        if !with_variables("environment::tests::an_empty_variable_counts_as_unset", &variables) {
            return;
        }
        assert_eq!((variable("EMPTY"), text("EMPTY"), path("EMPTY")), (None, None, None));
        assert_eq!((is_set("EMPTY"), is_set("ZERO"), is_set("NO_SUCH_VARIABLE")), (false, true, false));
        assert_eq!(exact("EMPTY"), Some(OsString::new()));
        assert_eq!(exact("NO_SUCH_VARIABLE"), None);
        assert_eq!(text("ZERO").as_deref(), Some("0"));
        let all = all();
        assert!(all.contains(&("ZERO".into(), "0".into())));
        assert!(all.iter().all(|(name, _)| name != "EMPTY" && name != TEST_PROCESS), "{all:?}");
        assert_eq!(path_folders(), Vec::<PathBuf>::new());
        assert_eq!(temporary_folder(), PathBuf::from("/tmp"));
    }

    #[test]
    fn a_value_that_is_not_text_is_still_a_path() {
        let variables: [(&str, &[u8]); 2] = [("ODD", b"/a\xff"), ("PATH", b"/a:/b\xff")];
        if !with_variables("environment::tests::a_value_that_is_not_text_is_still_a_path", &variables) {
            return;
        }
        let odd = OsStr::from_bytes(b"/a\xff");
        assert_eq!((text("ODD"), path("ODD")), (None, Some(odd.into())));
        assert!(is_set("ODD"));
        assert!(all().contains(&("ODD".into(), odd.into())));
        assert_eq!(path_folders(), [PathBuf::from("/a"), OsStr::from_bytes(b"/b\xff").into()]);
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
