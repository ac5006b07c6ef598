//! Checks whether another user can replace what a path leads to, through the folders above it.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use super::{named, refused};

/// The owner that the kernel shows for every user who is not in the user namespace.
const OVERFLOW: u32 = 65_534;
/// Groups below this number belong to the system: root decides who their members are (`staff`, `adm`,
/// `wheel`).
const FIRST_GROUP_OF_USERS: u32 = 1000;
/// The group `users`, which has every user as a member on some systems.
const USERS: u32 = 100;
/// The kernel's own limit on the symbolic links in a path.
const MOST_LINKS: u32 = 40;

/// Checks that only root and this user can change what `path` leads to. Every folder and symbolic link on the
/// way, and `path` itself if it exists, must belong to one of them, and no other user may write to it. A
/// folder with the sticky bit (`/tmp`) may be writable, because other users can't rename or remove what is
/// not theirs.
///
/// # Errors
/// [`io::ErrorKind::PermissionDenied`], with the folder and its owner; the errors of reading its metadata.
pub(crate) fn leads_to_ours(path: &Path) -> io::Result<()> {
    // The parent of a relative name is the empty path.
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let mut links = MOST_LINKS;
    follow(&std::path::absolute(path)?, &mut links).map(drop)
}

/// Checks every component of an absolute path, and returns the path without symbolic links.
fn follow(path: &Path, links: &mut u32) -> io::Result<PathBuf> {
    let mut here = PathBuf::from("/");
    is_ours(&here, &fs::symlink_metadata(&here)?)?;
    for part in path.components() {
        match part {
            Component::Normal(name) => {
                let next = here.join(name);
                let found = match fs::symlink_metadata(&next) {
                    Ok(found) => found,
                    // This user will create the rest in a folder that was checked.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        here = next;
                        continue;
                    }
                    Err(error) => return Err(named(&next, error)),
                };
                is_ours(&next, &found)?;
                if found.is_symlink() {
                    let Some(left) = links.checked_sub(1) else {
                        return Err(refused(&next, "too many symbolic links lead to it"));
                    };
                    *links = left;
                    let target = fs::read_link(&next).map_err(|error| named(&next, error))?;
                    here = follow(&here.join(target), links)?;
                } else {
                    here = next;
                }
            }
            Component::ParentDir => {
                here.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    Ok(here)
}

/// Checks that only root and this user can change a file, a symbolic link, or the content of a folder.
///
/// # Errors
/// [`io::ErrorKind::PermissionDenied`], with the owner or the mode.
pub(crate) fn is_ours(path: &Path, found: &Metadata) -> io::Result<()> {
    let me = rustix::process::geteuid().as_raw();
    let why = stranger(&Owner::of(found), me, is_mapped(OVERFLOW));
    why.map_or(Ok(()), |why| Err(refused(path, &why)))
}

/// Who can change a file.
#[derive(Debug, Clone, Copy)]
struct Owner {
    user: u32,
    group: u32,
    mode: u32,
    is_folder: bool,
    is_link: bool,
}

impl Owner {
    fn of(found: &Metadata) -> Self {
        let (user, group, mode) = (found.uid(), found.gid(), found.mode());
        Self { user, group, mode, is_folder: found.is_dir(), is_link: found.is_symlink() }
    }
}

/// Returns why a user other than root and `me` can change it. `has_overflow` says whether the overflow user
/// exists in this namespace. If it does not, it stands for users outside of the namespace, such as the host's
/// root, which a container can't name.
fn stranger(its: &Owner, me: u32, has_overflow: bool) -> Option<String> {
    let outside = its.user == OVERFLOW && !has_overflow;
    if its.user != me && its.user != 0 && !outside {
        return Some(format!(
            "it belongs to the user {}, who can change its content, and this process runs as {me}",
            its.user
        ));
    }
    let mode = its.mode & 0o7777;
    if its.is_link || its.is_folder && mode & 0o1000 != 0 {
        return None;
    }
    let of_group = mode & 0o020 != 0 && !is_trusted(its.group, its.user);
    (mode & 0o002 != 0 || of_group).then(|| {
        let who =
            if mode & 0o002 != 0 { "every user".to_owned() } else { format!("the group {}", its.group) };
        format!("{who} may write to it (mode {mode:o}, and it belongs to the user {})", its.user)
    })
}

/// Whether the members of a group are chosen by root, or are the owner alone. A user's private group has the
/// user's number.
fn is_trusted(group: u32, owner: u32) -> bool {
    group == owner && group != OVERFLOW
        || group < FIRST_GROUP_OF_USERS && group != USERS && owner == 0
        || group == 0
}

/// Whether a number is that of a user in this user namespace.
fn is_mapped(user: u32) -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    // Without /proc nothing is known, so the overflow user is not trusted.
    map.is_empty() || has(&map, user)
}

/// Whether a map of users, in the format of /proc/self/uid_map, covers a number.
fn has(map: &str, user: u32) -> bool {
    map.lines().any(|line| {
        let mut numbers = line.split_whitespace().map(|number| number.parse::<u64>().unwrap_or(0));
        let (first, _, count) = (numbers.next(), numbers.next(), numbers.next());
        first
            .zip(count)
            .is_some_and(|(first, count)| (first..first.saturating_add(count)).contains(&user.into()))
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, chown, lchown, symlink};

    use super::*;

    #[test]
    fn a_stranger_who_can_change_a_folder_is_found() {
        let folder = |user, group, mode| Owner { user, group, mode, is_folder: true, is_link: false };
        // The owner, the group, the mode, whether the overflow user exists, and whether the user 1000 trusts
        // it.
        let cases = [
            (0, 0, 0o755, true, true),
            (1000, 1000, 0o700, true, true),
            (1000, 1000, 0o775, true, true),
            (1000, 100, 0o775, true, false),
            (1000, 50, 0o775, true, false),
            (1000, 1001, 0o775, true, false),
            (1001, 1001, 0o700, true, false),
            (1001, 1001, 0o1777, true, false),
            (0, 0, 0o1777, true, true),
            (0, 0, 0o777, true, false),
            (0, 0, 0o775, true, true),
            (0, 50, 0o2775, true, true),
            (0, 100, 0o775, true, false),
            (0, 1001, 0o775, true, false),
            (0, 1001, 0o755, true, true),
            (65_534, 65_534, 0o755, true, false),
            (65_534, 65_534, 0o755, false, true),
            (65_534, 65_534, 0o775, false, false),
            (65_534, 65_534, 0o777, false, false),
            (65_534, 65_534, 0o1777, false, true),
        ];
        for (user, group, mode, has_overflow, trusted) in cases {
            let why = stranger(&folder(user, group, mode), 1000, has_overflow);
            assert_eq!(why.is_none(), trusted, "{user}:{group} {mode:o} {has_overflow}: {why:?}");
        }
        let link = |user| Owner { user, group: user, mode: 0o777, is_folder: false, is_link: true };
        assert_eq!(stranger(&link(1000), 1000, true), None);
        assert!(stranger(&link(1001), 1000, true).is_some());
        let file = Owner { user: 0, group: 0, mode: 0o1666, is_folder: false, is_link: false };
        assert!(stranger(&file, 1000, true).is_some(), "the sticky bit of a file means nothing");
    }

    #[test]
    fn a_map_of_users_says_who_exists() {
        assert!(has("         0          0 4294967295\n", OVERFLOW));
        assert!(!has("         0       1000          1\n", OVERFLOW));
        assert!(has("0 1000 1\n1 100000 65536\n", OVERFLOW));
        assert!(!has("", 0));
    }

    #[test]
    fn each_folder_and_link_on_the_way_is_looked_at() {
        let base = tempfile::tempdir().unwrap();
        assert!(
            leads_to_ours(Path::new("")).map_err(|error| error.kind()) != Err(io::ErrorKind::InvalidInput)
        );
        let path = base.path().join("home/x/.cache/nixvm-test");
        leads_to_ours(&path).unwrap();
        fs::create_dir_all(&path).unwrap();
        leads_to_ours(&path).unwrap();
        let home = base.path().join("home");
        fs::set_permissions(&home, fs::Permissions::from_mode(0o777)).unwrap();
        let why = leads_to_ours(&path).unwrap_err().to_string();
        assert!(why.contains(&format!("{} is not used: every user may write", home.display())), "{why}");
        let link = base.path().join("link");
        symlink("home/x/.cache", &link).unwrap();
        assert!(leads_to_ours(&link.join("nixvm-test")).is_err(), "a link leads through it");
        fs::set_permissions(&home, fs::Permissions::from_mode(0o1777)).unwrap();
        leads_to_ours(&link.join("nixvm-test")).unwrap();
        symlink("round", base.path().join("round")).unwrap();
        assert!(leads_to_ours(&base.path().join("round")).unwrap_err().to_string().contains("too many"));
        if !rustix::process::geteuid().is_root() {
            return;
        }
        for (what, through) in [(&home, &path), (&home.join("x"), &path)] {
            chown(what, Some(4242), None).unwrap();
            let why = leads_to_ours(through).unwrap_err().to_string();
            assert!(why.contains(what.to_str().unwrap()) && why.contains("the user 4242"), "{why}");
            chown(what, Some(0), None).unwrap();
        }
        leads_to_ours(&link).unwrap();
        lchown(&link, Some(4242), None).unwrap();
        assert!(leads_to_ours(&link.join("nixvm-test")).is_err(), "its owner can turn it elsewhere");
        assert!(leads_to_ours(&link).is_err());
    }
}
