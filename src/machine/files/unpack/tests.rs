//! Forged archives. Each is unpacked beside files that must not change.

use std::collections::BTreeMap;
use std::fs as std_fs;
use std::os::unix::fs::{MetadataExt as _, symlink};

use super::*;

/// An archive header with any content, valid or not.
struct Entry {
    header: tar::Header,
    data: Vec<u8>,
}

fn entry(kind: u8, name: &[u8], data: &[u8]) -> Entry {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(EntryType::new(kind));
    header.set_size(data.len() as u64);
    header.set_mode(0o644);
    header.set_mtime(1_000_000_000);
    header.set_uid(0);
    header.set_gid(0);
    let field = &mut header.as_old_mut().name;
    let length = name.len().min(field.len());
    field[..length].copy_from_slice(&name[..length]);
    Entry { header, data: data.to_vec() }
}

impl Entry {
    fn link(mut self, to: &[u8]) -> Self {
        self.header.as_old_mut().linkname[..to.len()].copy_from_slice(to);
        self
    }

    fn mode(mut self, mode: u32) -> Self {
        self.header.set_mode(mode);
        self
    }

    fn size(mut self, size: u64) -> Self {
        self.header.set_size(size);
        self
    }

    fn field(mut self, at: std::ops::Range<usize>, bytes: &[u8]) -> Self {
        self.header.as_mut_bytes()[at].copy_from_slice(bytes);
        self
    }
}

fn file(name: &str) -> Entry {
    entry(b'0', name.as_bytes(), b"data")
}

fn folder(name: &str) -> Entry {
    entry(b'5', name.as_bytes(), b"").mode(0o755)
}

fn link(name: &str, to: &str) -> Entry {
    entry(b'2', name.as_bytes(), b"").link(to.as_bytes())
}

fn hard(name: &str, to: &str) -> Entry {
    entry(b'1', name.as_bytes(), b"").link(to.as_bytes())
}

fn pax(pairs: &[(&str, &[u8])]) -> Entry {
    let mut data = Vec::new();
    for (key, value) in pairs {
        let rest = key.len() + value.len() + 3;
        let length =
            (1..).map(|digits| rest + digits).find(|all| all.to_string().len() == all - rest).unwrap();
        data.extend_from_slice(format!("{length} {key}=").as_bytes());
        data.extend_from_slice(value);
        data.push(b'\n');
    }
    entry(b'x', b"pax", &data)
}

fn archive(entries: Vec<Entry>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for Entry { mut header, data } in entries {
        header.set_cksum();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(&data);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

/// A folder for unpacking, surrounded by files that the archive tries to reach.
struct TestFolder(tempfile::TempDir);

impl TestFolder {
    fn new() -> Self {
        let base = tempfile::tempdir().unwrap();
        std_fs::create_dir_all(base.path().join("in/other")).unwrap();
        std_fs::write(base.path().join("in/other/file"), "other").unwrap();
        std_fs::write(base.path().join("victim"), "victim").unwrap();
        symlink("../victim", base.path().join("in/way")).unwrap();
        Self(base)
    }

    fn unpack(&self, bytes: &[u8]) -> io::Result<()> {
        unpack(bytes, &self.target())?.place()
    }

    fn target(&self) -> PathBuf {
        self.0.path().join("in/target")
    }

    /// Returns the modes, owners and content of all files except the target.
    fn others(&self) -> BTreeMap<PathBuf, (u32, u32, Vec<u8>)> {
        let mut all = tree(self.0.path());
        all.retain(|path, _| !path.starts_with(self.target()));
        all
    }
}

fn tree(folder: &Path) -> BTreeMap<PathBuf, (u32, u32, Vec<u8>)> {
    let mut all = BTreeMap::new();
    for entry in std_fs::read_dir(folder).unwrap().flatten() {
        let (path, found) = (entry.path(), entry.path().symlink_metadata().unwrap());
        let content = if found.is_file() { std_fs::read(&path).unwrap() } else { Vec::new() };
        all.insert(path.clone(), (found.mode(), found.uid(), content));
        if found.is_dir() {
            all.extend(tree(&path));
        }
    }
    all
}

#[test]
fn an_archive_that_is_made_up_leaves_nothing_and_the_error_names_the_entry() {
    let long = |kind: u8, size: usize| entry(kind, b"././@LongLink", &vec![b'a'; size]);
    let deep = "d/".repeat(45);
    let up = "/../".repeat(8);
    // Sizes are octal digits, or base 256 with the highest bit set.
    let size_field = 124..136;
    let cases: Vec<(&str, Vec<Entry>, &str)> = vec![
        ("a FIFO", vec![folder("x"), entry(b'6', b"x/pipe", b"")], "x/pipe"),
        ("a FIFO alone", vec![entry(b'6', b"./pipe", b"")], "pipe"),
        ("a character device", vec![folder("x"), entry(b'3', b"x/null", b"")], "x/null"),
        ("a block device", vec![entry(b'4', b"disk", b"")], "disk"),
        ("a FIFO after a file", vec![file("x/a"), file("x/b"), entry(b'6', b"x/last", b"")], "x/last"),
        ("an unknown type", vec![entry(b'Q', b"x", b"")], "`x`"),
        ("a sparse file", vec![entry(b'S', b"sparse", b"").field(483..495, b"77777777777\0")], "sparse"),
        ("a sparse file of no size", vec![entry(b'S', b"sparse", b"")], ""),
        (
            "a sparse file of POSIX",
            vec![pax(&[("GNU.sparse.realsize", b"9999999999999")]), file("x")],
            "sparse",
        ),
        ("a way up", vec![file("../x")], "../x"),
        ("a way up in the middle", vec![file("x/../../victim")], "victim"),
        ("a way up at the end", vec![folder("x/..")], "x/.."),
        ("many ways up", vec![file(&format!("x{up}etc/nixvm-owned"))], "nixvm-owned"),
        ("an absolute name", vec![file("/tmp/nixvm-owned")], "nixvm-owned"),
        ("an absolute folder", vec![folder("/")], "`/`"),
        ("an empty name", vec![file("")], "``"),
        ("the folder itself", vec![file(".")], "`.`"),
        ("a way up by POSIX's name", vec![pax(&[("path", b"../victim")]), file("x")], "../victim"),
        (
            "an absolute name by POSIX's",
            vec![pax(&[("path", b"/tmp/nixvm-owned")]), file("x")],
            "nixvm-owned",
        ),
        ("a NUL by POSIX's name", vec![pax(&[("path", b"x\0y")]), file("x")], "archive"),
        ("a way up by GNU's name", vec![entry(b'L', b"l", b"../victim\0"), file("x")], "../victim"),
        (
            "a link and through it",
            vec![folder("x"), link("x/l", "/tmp"), file("x/l/nixvm-owned")],
            "nixvm-owned",
        ),
        (
            "a link up and through it",
            vec![folder("x"), link("x/l", "../.."), file("x/l/victim")],
            "x/l/victim",
        ),
        ("a link and over it", vec![folder("x"), link("x/l", "../../victim"), file("x/l")], "x/l"),
        ("a link and a folder over it", vec![folder("x"), link("x/l", "../.."), folder("x/l")], "x/l"),
        ("a link twice", vec![folder("x"), link("x/l", "a"), link("x/l", "b")], "x/l"),
        ("a file twice", vec![file("x/a"), file("x/a")], "x/a"),
        ("a file, then a folder", vec![file("x/a"), folder("x/a")], "x/a"),
        ("a file, and a file in it", vec![file("x/a"), file("x/a/b")], "x/a/b"),
        ("a hard link up", vec![folder("x"), hard("x/h", "../../victim")], "x/h"),
        ("a hard link to the host", vec![folder("x"), hard("x/h", "/etc/passwd")], "x/h"),
        (
            "a hard link through a link",
            vec![folder("x"), link("x/l", "../.."), hard("x/h", "x/l/victim")],
            "x/h",
        ),
        ("a hard link to nothing", vec![folder("x"), hard("x/h", "x/none")], "x/h"),
        ("a hard link without a target", vec![folder("x"), hard("x/h", "")], "x/h"),
        ("a hard link to a folder", vec![folder("x"), folder("x/d"), hard("x/h", "x/d")], "x/h"),
        ("a link without a target", vec![link("l", "")], "`l`"),
        (
            "a hard link by POSIX's",
            vec![folder("x"), pax(&[("linkpath", b"/etc/passwd")]), hard("x/h", "x")],
            "x/h",
        ),
        ("a name without end", vec![long(b'L', 1 << 20), file("x")], "1048576"),
        ("a link without end", vec![long(b'K', 1 << 20), link("x", "y")], "1048576"),
        ("a name that claims gigabytes", vec![entry(b'L', b"l", b"").size(6 << 30), file("x")], "6442450944"),
        (
            "extensions that claim gigabytes",
            vec![entry(b'x', b"x", b"").size(6 << 30), file("x")],
            "6442450944",
        ),
        ("extensions without form", vec![entry(b'x', b"x", b"nonsense\n"), file("x")], ""),
        ("another size by POSIX's", vec![pax(&[("size", b"1")]), file("x")], "two sizes"),
        ("an invalid size", vec![pax(&[("size", b"-1")]), file("x")], "size"),
        ("a file that is cut", vec![file("x").size(1 << 40)], "x"),
        ("a size of 256 values", vec![file("x").field(size_field.clone(), &[0xff; 12])], ""),
        ("a size of letters", vec![file("x").field(size_field, b"not a number")], ""),
        ("a mode of letters", vec![file("x").field(100..108, b"notoctal")], ""),
        ("a tree without end", vec![pax(&[("path", deep.repeat(10).as_bytes())]), folder("x")], "d/d"),
        ("two things", vec![file("one"), file("two")], "the requested file or folder"),
        ("nothing", vec![], "the requested file or folder"),
        ("a type that hides in the name", vec![entry(b'0', b"x/", b"")], "x/"),
    ];
    assert!(cases.len() >= 25);
    let mut wrong = Vec::new();
    for (what, entries, said) in cases {
        let place = TestFolder::new();
        let before = place.others();
        match place.unpack(&archive(entries)) {
            Err(error) if error.to_string().contains(said) => {}
            other => wrong.push(format!("{what}: {other:?}")),
        }
        if place.target().symlink_metadata().is_ok() || Path::new("/tmp/nixvm-owned").exists() {
            wrong.push(format!("{what}: something was written"));
        }
        if place.others() != before {
            wrong.push(format!("{what}: something else is changed or left behind"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_mode_that_lends_rights_arrives() {
    for mode in [0o4755, 0o2755, 0o6777, 0o7777, 0o1644, 0o4000, 0o177_777] {
        let place = TestFolder::new();
        // A folder created inside a setgid folder inherits the setgid bit.
        let inherits = Permissions::from_mode(0o2755);
        std_fs::set_permissions(place.0.path().join("in"), inherits).unwrap();
        let entries = vec![
            folder("x").mode(mode | 0o700),
            file("x/a").mode(mode),
            hard("x/b", "x/a"),
            folder("x/d").mode(mode | 0o700),
            // In the form of a capability.
            pax(&[("SCHILY.xattr.security.capability", b"\x01\0\0\x02"), ("SCHILY.xattr.user.x", b"y")]),
            file("x/d/c").mode(mode),
            link("x/l", "a").mode(mode),
        ];
        place.unpack(&archive(entries)).unwrap();
        let all = tree(&place.target());
        assert_eq!(all.len(), 5);
        let target = (place.target(), place.target().metadata().unwrap().mode());
        for (path, mode) in all.into_iter().map(|(path, (mode, ..))| (path, mode)).chain([target]) {
            assert_eq!(mode & 0o6000, 0, "{}: {mode:o}", path.display());
        }
        let mut names = [0_u8; 256];
        let extended = rustix::fs::listxattr(place.target().join("d/c"), &mut names[..]).unwrap_or(0);
        let names = String::from_utf8_lossy(&names[..extended]);
        assert!(!names.contains("capability") && !names.contains("user.x"), "{names}");
        let bits = place.target().join("a").metadata().unwrap().mode() & 0o1777;
        assert_eq!(bits, mode & 0o777, "what a file's owner, group and others may do stays");
    }
}

#[test]
fn what_is_sound_arrives_as_it_was() {
    let place = TestFolder::new();
    let name = "n".repeat(200);
    let entries = vec![
        folder("./x/").mode(0o1755),
        file("./x/script").mode(0o750),
        entry(b'7', b"./x/contiguous", b"c"),
        entry(b'\0', b"./x/old", b"o"),
        link("./x/up", "../../victim"),
        link("./x/nowhere", "/no/where"),
        hard("./x/hard", "./x/script"),
        hard("./x/hard-link-of-a-link", "./x/up"),
        folder("./x/closed").mode(0o000),
        file("./x/missing/parent"),
        entry(b'L', b"././@LongLink", format!("./x/{name}\0").as_bytes()),
        file("./x/cut"),
        pax(&[("path", b"./x/posix"), ("mtime", b"1.5"), ("uid", b"1000")]),
        file("./x/cut"),
        entry(b'g', b"global", b"12 path=/etc\n"),
        file("./x/odd\n\u{e9}'\""),
    ];
    let before = place.others();
    place.unpack(&archive(entries)).unwrap();
    let target = place.target();
    let mode = |name: &str| target.join(name).symlink_metadata().unwrap().mode() & 0o7777;
    assert_eq!((mode(""), mode("script"), mode("closed")), (0o1755, 0o750, 0));
    for name in ["script", "hard", "missing/parent", "posix", "odd\n\u{e9}'\"", &name] {
        assert_eq!(std_fs::read(target.join(name)).unwrap(), b"data", "{name}");
    }
    assert_eq!(std_fs::read(target.join("contiguous")).unwrap(), b"c");
    assert_eq!(std_fs::read(target.join("old")).unwrap(), b"o");
    for name in ["up", "hard-link-of-a-link"] {
        assert_eq!(std_fs::read_link(target.join(name)).unwrap(), Path::new("../../victim"));
    }
    assert_eq!(
        target.join("script").metadata().unwrap().ino(),
        target.join("hard").metadata().unwrap().ino()
    );
    assert_eq!(target.join("script").metadata().unwrap().mtime(), 1_000_000_000);
    assert_eq!(target.join("script").metadata().unwrap().uid(), rustix::process::geteuid().as_raw());
    assert!(!target.join("cut").exists());
    assert_eq!(place.others(), before);
}

#[test]
fn one_file_and_one_link_are_copied_too_and_an_odd_time_is_no_reason_to_fail() {
    for time in [0, 1 << 33, u64::MAX >> 1, u64::MAX] {
        let place = TestFolder::new();
        let mut one = file("./x");
        one.header.as_gnu_mut().unwrap().set_real_size(0);
        one.header.set_mtime(time);
        place.unpack(&archive(vec![one])).unwrap();
        assert_eq!(std_fs::read(place.target()).unwrap(), b"data");
    }
    let place = TestFolder::new();
    place.unpack(&archive(vec![link("x", "../../etc/passwd")])).unwrap();
    assert_eq!(std_fs::read_link(place.target()).unwrap(), Path::new("../../etc/passwd"));
}

#[test]
fn an_archive_that_is_cut_or_damaged_leaves_nothing() {
    let whole = archive(vec![folder("x"), file("x/a"), file("x/b")]);
    // An archive that is cut between two entries looks like a shorter one; tar's status shows that the guest was cut
    // off.
    for length in [1, 100, 511, 513, 1024, 1025, 1030, 1600, 2600] {
        let place = TestFolder::new();
        let before = place.others();
        if let Ok(unpacked) = unpack(&whole[..length], &place.target()) {
            drop(unpacked);
        }
        assert!(place.target().symlink_metadata().is_err(), "{length}");
        assert_eq!(place.others(), before, "{length}");
    }
    let mut damaged = whole;
    damaged[0] ^= 1;
    let place = TestFolder::new();
    place.unpack(&damaged).unwrap_err();
    assert!(place.target().symlink_metadata().is_err());
}

#[test]
fn a_target_that_came_meanwhile_stays_as_it_is() {
    let place = TestFolder::new();
    let unpacked = unpack(&archive(vec![folder("x").mode(0), file("x/a")])[..], &place.target()).unwrap();
    std_fs::write(place.target(), "mine").unwrap();
    let before = place.others();
    assert_eq!(unpacked.place().unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(std_fs::read(place.target()).unwrap(), b"mine");
    assert!(before.len() > place.others().len(), "what was unpacked is left behind");
}

#[test]
fn a_copy_takes_the_place_of_what_was_copied_before_and_of_nothing_else() {
    let place = TestFolder::new();
    let over =
        |entries: Vec<Entry>| unpack(&archive(entries)[..], &place.target()).and_then(Unpacked::place_over);
    over(vec![folder("x").mode(0o755), file("x/a"), link("x/b", "a"), folder("x/in"), file("x/in/c")])
        .unwrap();
    std_fs::write(place.target().join("mine"), "mine").unwrap();
    std_fs::write(place.target().join("a"), "older").unwrap();
    // An existing link is replaced, and its target is not written to.
    std_fs::remove_file(place.target().join("in/c")).unwrap();
    symlink(place.0.path().join("victim"), place.target().join("in/c")).unwrap();
    over(vec![
        folder("x").mode(0o700),
        file("x/a"),
        link("x/b", "in"),
        folder("x/in").mode(0o500),
        file("x/in/c"),
    ])
    .unwrap();
    assert_eq!(std_fs::read(place.target().join("mine")).unwrap(), b"mine");
    assert_ne!(std_fs::read(place.target().join("a")).unwrap(), b"older");
    assert!(place.target().join("in/c").symlink_metadata().unwrap().is_file());
    assert_eq!(std_fs::read(place.0.path().join("victim")).unwrap(), b"victim");
    assert_eq!(std_fs::read_link(place.target().join("b")).unwrap(), Path::new("in"));
    assert_eq!(place.target().symlink_metadata().unwrap().mode() & 0o777, 0o700);
    assert_eq!(place.target().join("in").symlink_metadata().unwrap().mode() & 0o777, 0o500);
    // A folder does not replace a file, and a file does not replace a folder.
    assert_eq!(over(vec![file("x")]).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(over(vec![folder("x"), folder("x/a")]).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(std_fs::read(place.target().join("mine")).unwrap(), b"mine");
}
