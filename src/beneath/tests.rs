use std::ffi::OsStr;
use std::fs as std_fs;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

const MOST: u64 = 1 << 20;

/// Makes a folder with a file and a folder, and a file outside of it.
fn sample() -> (tempfile::TempDir, Beneath) {
    let base = tempfile::tempdir().unwrap();
    std_fs::create_dir_all(base.path().join("record/inner")).unwrap();
    std_fs::write(base.path().join("record/inner/file"), "inside").unwrap();
    std_fs::write(base.path().join("record/file"), "inside").unwrap();
    std_fs::create_dir(base.path().join("outside")).unwrap();
    std_fs::write(base.path().join("outside/file"), "secret").unwrap();
    let record = Beneath::open(base.path().join("record")).unwrap();
    (base, record)
}

/// Opens a file in both ways: by the kernel's lookup, and by the one for kernels without it.
fn open_both(folder: &Beneath, name: &Path) -> [io::Result<Vec<u8>>; 2] {
    let flags = lookup::FILE | OFlags::RDONLY;
    [lookup::open, lookup::open_by_parts].map(|open| {
        let opened = open(folder.as_fd(), name, flags, Mode::empty());
        let (file, _) = folder.regular(name, opened)?;
        let mut bytes = Vec::new();
        file.take(MOST).read_to_end(&mut bytes)?;
        Ok(bytes)
    })
}

#[test]
fn a_regular_file_below_the_folder_is_read() {
    let (_base, record) = sample();
    for name in ["file", "inner/file", "inner//file"] {
        for read in open_both(&record, Path::new(name)) {
            assert_eq!(read.unwrap(), b"inside", "{name}");
        }
    }
    assert_eq!(record.folder("inner").unwrap().read("file", MOST).unwrap(), b"inside");
}

#[test]
fn nothing_but_a_regular_file_below_the_folder_is_opened() {
    let (base, record) = sample();
    let path = |name: &str| base.path().join("record").join(name);
    symlink("../outside/file", path("link")).unwrap();
    symlink("file", path("link-to-a-neighbour")).unwrap();
    symlink("../outside", path("folder-link")).unwrap();
    symlink("inner", path("folder-link-within")).unwrap();
    symlink("loop", path("loop")).unwrap();
    symlink("/dev/zero", path("zero")).unwrap();
    symlink("/proc/self/root", path("magic")).unwrap();
    rustix::fs::mkfifoat(CWD, path("fifo"), Mode::RWXU).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
    let outside = base.path().join("outside/file");
    let hostile = [
        "",
        ".",
        "..",
        "../outside/file",
        "inner/../file",
        "inner/../../outside/file",
        "./file",
        "/etc/passwd",
        outside.to_str().unwrap(),
        "file/..",
        "file/below",
        "inner",
        "link",
        "link-to-a-neighbour",
        "folder-link/file",
        "folder-link-within/file",
        "inner/../folder-link/file",
        "loop",
        "zero",
        "magic/etc/passwd",
        "fifo",
        "socket",
        "nothing",
    ];
    for name in hostile {
        for read in open_both(&record, Path::new(name)) {
            let error = read.unwrap_err().to_string();
            assert!(error.contains(name), "{name:?}: {error}");
        }
    }
    for read in open_both(&record, Path::new(OsStr::from_bytes(b"file\0.log"))) {
        read.unwrap_err();
    }
    let link = record.read("folder-link/file", MOST).unwrap_err().to_string();
    assert!(link.contains("folder-link/file") && link.contains("symbolic link"), "{link}");
    let fifo = record.read("fifo", MOST).unwrap_err().to_string();
    assert!(fifo.contains("FIFO"), "{fifo}");
}

#[test]
fn devices_and_the_magic_links_of_proc_are_refused() {
    let cases = [
        ("/dev", "null"),
        ("/dev", "zero"),
        ("/proc/self", "exe"),
        ("/proc/self", "root/etc/passwd"),
        ("/proc/self", "cwd/Cargo.toml"),
        ("/proc/self", "fd/0"),
        ("/proc", "self/status"),
    ];
    for (folder, name) in cases {
        for read in open_both(&Beneath::open(folder).unwrap(), Path::new(name)) {
            read.expect_err(name);
        }
    }
}

#[test]
fn a_hard_link_to_the_file_of_another_user_is_refused() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let (base, _) = sample();
    let folder = base.path().join("record");
    std_fs::hard_link(base.path().join("outside/file"), folder.join("hard")).unwrap();
    // A hard link of the folder's owner leads to a file that the owner can read anyway.
    assert_eq!(Beneath::open(&folder).unwrap().read("hard", MOST).unwrap(), b"secret");
    std::os::unix::fs::chown(&folder, Some(65_534), None).unwrap();
    let error = Beneath::open(&folder).unwrap().read("hard", MOST).unwrap_err().to_string();
    assert!(error.contains("hard link"), "{error}");
    // A file of another user with a single name is allowed: root may have copied a record for another user.
    assert_eq!(Beneath::open(&folder).unwrap().read("file", MOST).unwrap(), b"inside");
}

#[test]
fn a_file_over_the_limit_is_an_error_with_both_sizes() {
    let (base, record) = sample();
    let sparse = std_fs::File::create(base.path().join("record/sparse")).unwrap();
    sparse.set_len(6 << 40).unwrap();
    let error = record.read("sparse", MOST).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    let text = error.to_string();
    let (size, most) = ((6_u64 << 40).to_string(), MOST.to_string());
    assert!(text.contains("record/sparse") && text.contains(&size) && text.contains(&most), "{text}");
    assert_eq!(record.read("file", 6).unwrap(), b"inside");
    record.read("file", 5).unwrap_err();
}

#[test]
fn a_file_whose_size_is_not_known_before_is_still_bounded() {
    // Files in /proc have the size 0, but are not empty.
    let error = Beneath::open("/proc/self").unwrap().read("maps", 16).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::FileTooLarge, "{error}");
}

#[test]
fn a_link_that_is_swapped_in_meanwhile_is_never_followed() {
    let (base, record) = sample();
    let path = |name: &str| base.path().join("record").join(name);
    std_fs::rename(path("inner"), path("real")).unwrap();
    symlink("../outside", path("evil")).unwrap();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // The folder and the link have the name in turn.
            while !over.load(Ordering::Relaxed) {
                for name in ["real", "evil"] {
                    std_fs::rename(path(name), path("inner")).unwrap();
                    std_fs::rename(path("inner"), path(name)).unwrap();
                }
            }
        });
        for _ in 0..3_000 {
            for bytes in open_both(&record, Path::new("inner/file")).into_iter().flatten() {
                assert_eq!(bytes, b"inside");
            }
        }
        over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn names_are_looked_up_in_the_folder_that_was_opened() {
    let (base, record) = sample();
    std_fs::rename(base.path().join("record"), base.path().join("moved")).unwrap();
    symlink("outside", base.path().join("record")).unwrap();
    assert_eq!(record.read("file", MOST).unwrap(), b"inside");
}

#[test]
fn what_is_written_replaces_a_link_and_does_not_follow_it() {
    let (base, record) = sample();
    let (path, outside) = (|name: &str| base.path().join("record").join(name), base.path().join("outside"));
    symlink("../outside/file", path("link")).unwrap();
    symlink("../outside/new", path("dangling")).unwrap();
    symlink("../outside", path("folder-link")).unwrap();
    for name in ["link", "dangling", "inner/new", "file"] {
        record.replace(name, b"written", 0o600).unwrap();
        let written = std_fs::symlink_metadata(path(name)).unwrap();
        assert!(written.is_file() && written.mode() & 0o7777 == 0o600, "{name}: {:o}", written.mode());
        assert_eq!(record.read(name, MOST).unwrap(), b"written");
    }
    for name in ["folder-link/new", "../outside/new", "/tmp/nixvm-beneath-new", "..", ""] {
        record.replace(name, b"written", 0o600).expect_err(name);
        record.create(name, 0o600).expect_err(name);
        record.open_or_create(name, 0o600).expect_err(name);
        record.make_folder(name, 0o700).expect_err(name);
        record.remove_file(name).expect_err(name);
    }
    record.replace("inner", b"", 0o600).expect_err("a folder has the name");
    assert_eq!(std_fs::read(outside.join("file")).unwrap(), b"secret");
    assert_eq!(std_fs::read_dir(&outside).unwrap().count(), 1);
    // Nothing is left of a file that could not be put into place.
    let names = record.names(100).unwrap();
    assert!(!names.iter().any(|name| name.as_bytes().starts_with(b".new-")), "{names:?}");
}

#[test]
fn a_new_file_is_made_once_and_a_lock_is_never_a_link() {
    let (base, record) = sample();
    let path = |name: &str| base.path().join("record").join(name);
    record.create("new", 0o600).unwrap().write_all(b"one").unwrap();
    assert_eq!(record.create("new", 0o600).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    symlink("../outside/new", path("dangling")).unwrap();
    assert_eq!(record.create("dangling", 0o600).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    record.open_or_create("dangling", 0o600).unwrap_err();
    rustix::fs::mkfifoat(CWD, path("fifo"), Mode::RWXU).unwrap();
    record.open_or_create("fifo", 0o600).unwrap_err();
    drop(record.open_or_create("lock", 0o600).unwrap());
    drop(record.open_or_create("lock", 0o600).unwrap());
    assert!(!base.path().join("outside/new").exists());
}

#[test]
fn setuid_and_setgid_are_not_asked_for() {
    let (base, record) = sample();
    drop(record.create("new", 0o6755).unwrap());
    drop(record.make_folder("folder", 0o7755).unwrap());
    for name in ["new", "folder"] {
        let mode = std_fs::metadata(base.path().join("record").join(name)).unwrap().mode();
        assert_eq!(mode & 0o7000, 0, "{name}: {mode:o}");
    }
}

#[test]
fn a_file_whose_writer_fails_leaves_the_old_one() {
    let (_base, record) = sample();
    let fails = |_: &mut std_fs::File| Err(io::Error::from(io::ErrorKind::StorageFull));
    let error = record.replace_with("file", 0o600, fails).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert_eq!(record.read("file", MOST).unwrap(), b"inside");
    assert_eq!(record.names(100).unwrap().len(), 2);
}

#[test]
fn a_link_is_removed_and_not_what_it_leads_to() {
    let (base, record) = sample();
    symlink("../outside/file", base.path().join("record/link")).unwrap();
    record.remove_file("link").unwrap();
    assert!(base.path().join("outside/file").exists());
    assert_eq!(record.remove_file("link").unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[test]
fn the_names_in_a_folder_have_a_limit() {
    let (_base, record) = sample();
    let mut names = record.names(2).unwrap();
    names.sort();
    assert_eq!(names, ["file", "inner"]);
    assert_eq!(record.names(1).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
}

#[test]
fn a_private_folder_belongs_to_its_user_alone() {
    let base = tempfile::tempdir().unwrap();
    let path = base.path().join("private");
    let mode = || std_fs::metadata(&path).unwrap().mode() & 0o777;
    drop(Beneath::private(&path).unwrap());
    assert_eq!(mode(), 0o700);
    std_fs::set_permissions(&path, std_fs::Permissions::from_mode(0o755)).unwrap();
    drop(Beneath::private(&path).unwrap());
    assert_eq!(mode(), 0o700);
    let set = |mode| std_fs::set_permissions(&path, std_fs::Permissions::from_mode(mode)).unwrap();
    let refused = |open| {
        set(open);
        let error = Beneath::private(&path).unwrap_err().to_string();
        assert!(error.contains("may write") && error.contains(&format!("{open:o}")), "{error}");
    };
    for open in [0o777, 0o1777, 0o702, 0o773] {
        refused(open);
    }
    // As with a umask of 002: the user's own group has no other member.
    let found = std_fs::metadata(&path).unwrap();
    for open in [0o775, 0o770, 0o720] {
        if found.gid() == found.uid() {
            set(open);
            drop(Beneath::private(&path).unwrap());
            assert_eq!(mode(), 0o700);
        } else {
            refused(open);
        }
    }
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&path, None, Some(65_534)).unwrap();
        for open in [0o775, 0o770, 0o720] {
            refused(open);
        }
    }
    let link = base.path().join("link");
    symlink("private", &link).unwrap();
    Beneath::private(&link).unwrap_err();
    std_fs::write(base.path().join("file"), "").unwrap();
    Beneath::private(base.path().join("file")).unwrap_err();
    if rustix::process::geteuid().is_root() {
        std_fs::set_permissions(&path, std_fs::Permissions::from_mode(0o700)).unwrap();
        std::os::unix::fs::chown(&path, Some(65_534), None).unwrap();
        let error = Beneath::private(&path).unwrap_err().to_string();
        assert!(error.contains("belongs to the user 65534"), "{error}");
    }
}
