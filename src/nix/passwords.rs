//! Reads the initial passwords of a configuration from the built VM. NixOS keeps the data of the users in a file beside
//! the script that creates them (nixos/modules/config/users-groups.nix).

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::BuiltVm;
use crate::{Error, ErrorKind, Result};

/// The end of that file's name.
const NAME: &str = "users-groups.json";

#[derive(Deserialize)]
struct Users {
    users: Vec<User>,
    #[serde(default)]
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    name: String,
    #[serde(default)]
    members: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct User {
    name: String,
    #[serde(default)]
    group: String,
    password: Option<String>,
    initial_password: Option<String>,
    #[serde(default)]
    is_system_user: bool,
}

/// Returns the password with which `user` logs in on a fresh disk.
///
/// # Errors
/// [`ErrorKind::Usage`] when the configuration has no such user, or does not hold their password as text.
pub fn password_of(vm: &BuiltVm, user: &str) -> Result<String> {
    let unknown = |why: String| {
        Error::new(ErrorKind::Usage, format!("a session of {user} needs their password: {why}")).next_step(
            format!(
                "give the password: `#[scenario(from = logged_in(\"{user}\", \"…\"))]`, or set \
                users.users.{user}.initialPassword"
            ),
        )
    };
    let found = accounts(vm).map_err(unknown)?.users.into_iter().find(|its| its.name == user);
    let found = found.ok_or_else(|| unknown(format!("the configuration has no user {user}")))?;
    found
        .password
        .or(found.initial_password)
        .ok_or_else(|| unknown("the configuration does not hold it as text".to_owned()))
}

/// Returns the first user of a configuration, other than root, who can log in with their initial password, and that
/// password; else root, if root's password allows it. `None` if the configuration contains no such password.
pub fn first_user(vm: &BuiltVm) -> Option<(String, String)> {
    first(accounts(vm).ok()?.users)
}

/// Returns the first such user who can become root: root, or a member of the group `wheel`.
pub(crate) fn first_admin(vm: &BuiltVm) -> Option<(String, String)> {
    let Users { mut users, groups } = accounts(vm).ok()?;
    let wheel = groups.into_iter().find(|group| group.name == "wheel");
    let members = wheel.map(|group| group.members).unwrap_or_default();
    users.retain(|user| user.name == "root" || user.group == "wheel" || members.contains(&user.name));
    first(users)
}

fn first(mut users: Vec<User>) -> Option<(String, String)> {
    // System users don't log in.
    users.retain(|user| !user.is_system_user || user.name == "root");
    users.sort_by_key(|user| user.name == "root");
    users.into_iter().find_map(|user| Some((user.name, user.password.or(user.initial_password)?)))
}

fn accounts(vm: &BuiltVm) -> Result<Users, String> {
    let file = vm.system().and_then(users_file);
    let file = file.ok_or_else(|| "the built VM does not describe its users".to_owned())?;
    let text = fs::read(&file).map_err(|error| format!("could not read {}: {error}", file.display()))?;
    serde_json::from_slice(&text).map_err(|error| format!("{} is not as expected: {error}", file.display()))
}

/// Returns the file that the activation script of a system names.
fn users_file(system: &Path) -> Option<PathBuf> {
    let script = fs::read_to_string(system.join("activate")).ok()?;
    let end = script.find(NAME)? + NAME.len();
    let start = script[..end].rfind(|character: char| character.is_whitespace() || "\"'".contains(character));
    Some(PathBuf::from(&script[start.map_or(0, |at| at + 1)..end]))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn vm(users: &str) -> (tempfile::TempDir, BuiltVm) {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("bin")).unwrap();
        fs::create_dir(path("system")).unwrap();
        fs::write(path("bin/run-nixos-vm"), "#!/bin/sh\n").unwrap();
        fs::set_permissions(path("bin/run-nixos-vm"), fs::Permissions::from_mode(0o755)).unwrap();
        let groups = r#"[{"name":"users","members":["alice"]},{"name":"wheel","gid":1,"members":["zoe"]}]"#;
        let text = format!("{{\"users\":[{users}],\"groups\":{groups}}}");
        fs::write(path("users-groups.json"), text).unwrap();
        fs::write(path("system/activate"), format!("perl x.pl {}\n", path("users-groups.json").display()))
            .unwrap();
        let vm = BuiltVm::open(folder.path()).unwrap();
        (folder, vm)
    }

    #[test]
    fn the_first_user_who_can_log_in_is_a_person_if_there_is_one() {
        let root = r#"{"name":"root","initialPassword":"r"}"#;
        let system = r#"{"name":"nginx","isSystemUser":true,"password":"n"}"#;
        let locked = r#"{"name":"eve","initialPassword":null}"#;
        let alice = r#"{"name":"alice","initialPassword":"test","isSystemUser":false}"#;
        let first = |users: &[&str]| first_user(&vm(&users.join(",")).1);
        assert_eq!(first(&[root, system, locked, alice]), Some(("alice".to_owned(), "test".to_owned())));
        assert_eq!(first(&[system, locked, root]), Some(("root".to_owned(), "r".to_owned())));
        assert_eq!(first(&[system, locked]), None);
        let zoe = r#"{"name":"zoe","password":"z"}"#;
        let admin = |users: &[&str]| first_admin(&vm(&users.join(",")).1);
        assert_eq!(admin(&[root, alice, zoe]), Some(("zoe".to_owned(), "z".to_owned())));
        assert_eq!(admin(&[root, alice]), Some(("root".to_owned(), "r".to_owned())));
        assert_eq!(admin(&[alice]), None);
        let bob = r#"{"name":"bob","group":"wheel","password":"b"}"#;
        assert_eq!(admin(&[alice, bob]), Some(("bob".to_owned(), "b".to_owned())));
    }
}
