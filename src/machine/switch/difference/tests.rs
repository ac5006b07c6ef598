//! Folders that imitate systems in a store.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::units::{KeyChange, unit_changes};
use super::{System, SystemDiff};
use crate::ErrorKind;

/// A store with two systems.
struct Store(tempfile::TempDir);

impl Store {
    fn new() -> Self {
        let store = Self(tempfile::tempdir().unwrap());
        for system in ["old", "new"] {
            fs::create_dir_all(store.at(system, "etc/systemd/system")).unwrap();
        }
        store
    }

    fn at(&self, system: &str, path: &str) -> PathBuf {
        self.0.path().canonicalize().unwrap().join("store").join(system).join(path)
    }

    /// Writes a file of a system.
    fn put(&self, system: &str, path: &str, text: impl AsRef<[u8]>) {
        let path = self.at(system, path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Makes a link of a system.
    fn link(&self, system: &str, path: &str, target: impl AsRef<Path>) {
        let path = self.at(system, path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
    }

    fn unit(&self, system: &str, name: &str, text: &str) {
        self.put(system, &format!("etc/systemd/system/{name}"), text);
    }

    fn changes(&self, unit: &str) -> Vec<KeyChange> {
        unit_changes(&self.at("old", ""), &self.at("new", ""), unit).unwrap()
    }

    /// The keys that differ, as `[Section] Key`.
    fn keys(&self, unit: &str) -> Vec<String> {
        self.changes(unit).iter().map(|change| format!("[{}] {}", change.section, change.key)).collect()
    }

    fn diff(&self) -> SystemDiff {
        SystemDiff::of(&self.at("old", ""), &self.at("new", ""), &[], &[]).unwrap()
    }
}

#[test]
fn keys_are_compared_by_section_and_what_no_switch_regards_is_left_out() {
    let unit = |text: &str| format!("[Unit]\n{text}\n[Install]\nWantedBy=multi-user.target\n");
    for (old, new, keys) in [
        ("Description=a", "Description=b", &[][..]),
        ("OnFailure=a\nDocumentation=b", "", &[]),
        ("After=a\n# a comment", "; another\nAfter = a", &[]),
        ("After=a \\\n  b", "After=a b", &[]),
        ("After=a \\\n# between\n  b", "After=a b", &[]),
        ("After=a", "After=b", &["[Unit] After"]),
        ("After=a\nAfter=b", "After=b\nAfter=a", &["[Unit] After"]),
        ("", "X-RestartIfChanged=false", &["[Unit] X-RestartIfChanged"]),
        (
            "[Service]\nExecStart=a\nType=simple",
            "[Service]\nExecStart=b",
            &["[Service] ExecStart", "[Service] Type"],
        ),
        ("[Service]\nDescription=a", "[Service]\nDescription=b", &["[Service] Description"]),
        ("[Service]\nExecStart=a", "[Service]\nExecStart=a\n[Install]\nAlias=b", &[]),
        ("[Service]\nExecStart=a", "[Service]\nExecStart=\nExecStart=a", &["[Service] ExecStart"]),
        ("no key", "[", &[]),
    ] {
        let store = Store::new();
        store.unit("old", "a.service", &unit(old));
        store.unit("new", "a.service", &unit(new));
        assert_eq!(store.keys("a.service"), keys, "{old:?} → {new:?}");
    }
}

#[test]
fn a_change_shows_the_values_that_differ_on_both_sides() {
    let store = Store::new();
    store.unit(
        "old",
        "a.service",
        "[Service]\nExecStart=/nix/store/one-a/bin/a\nEnvironment=A=1\nEnvironment=B=2\n",
    );
    store.unit(
        "new",
        "a.service",
        "[Service]\nExecStart=/nix/store/two-a/bin/a\nEnvironment=A=1\nEnvironment=B=\u{1b}[2J3\n",
    );
    let shown: Vec<String> = store.changes("a.service").iter().map(KeyChange::to_string).collect();
    assert_eq!(
        shown,
        [
            "[Service] Environment\n  - B=2\n  + B=3",
            "[Service] ExecStart\n  - /nix/store/one-a/bin/a\n  + /nix/store/two-a/bin/a",
        ]
    );
}

#[test]
fn the_lists_of_triggers_are_read_and_not_only_their_paths() {
    let store = Store::new();
    for (system, lists) in [("old", "/conf/a /conf/b"), ("new", "/conf/c /conf/b")] {
        let list = store.at(system, "X-Restart-Triggers-a");
        store.put(system, "X-Restart-Triggers-a", lists);
        store.unit(system, "a.service", &format!("[Unit]\nX-Restart-Triggers={}\n", list.display()));
    }
    let shown: Vec<String> = store.changes("a.service").iter().map(KeyChange::to_string).collect();
    assert_eq!(shown, ["[Unit] X-Restart-Triggers\n  - /conf/a\n  + /conf/c"]);
    for system in ["old", "new"] {
        store.unit(system, "a.service", "[Unit]\nX-Restart-Triggers=/etc/passwd /X-Restart-Triggers\n");
    }
    assert!(store.changes("a.service").is_empty(), "paths out of the store are left alone");
}

#[test]
fn drop_ins_count_and_an_instance_has_those_of_its_template() {
    let store = Store::new();
    for system in ["old", "new"] {
        store.unit(system, "a.service", "[Service]\nExecStart=a\n");
        store.unit(system, "getty@.service", "[Service]\nExecStart=getty\n");
        store.unit(system, "getty@tty9.service.d/overrides.conf", "[Service]\nNice=1\n");
    }
    store.unit("new", "a.service.d/10-more.conf", "[Service]\nRestart=always\n");
    store.unit("new", "a.service.d/no-drop-in", "[Service]\nType=oneshot\n");
    assert_eq!(store.keys("a.service"), ["[Service] Restart"]);
    store.unit("new", "getty@.service.d/overrides.conf", "[Service]\nNice=2\nTTYReset=no\n");
    assert_eq!(store.keys("getty@tty1.service"), ["[Service] Nice", "[Service] TTYReset"]);
    // The drop-in of the instance replaces the template's of the same name.
    assert_eq!(store.keys("getty@tty9.service"), [""; 0]);
    assert_eq!(store.keys("getty@.service"), ["[Service] Nice", "[Service] TTYReset"]);
    // The unit itself is the distribution's, and only the drop-in is in the system.
    store.unit("old", "ssh.service.d/nixos.conf", "[Service]\nNice=1\n");
    store.unit("new", "ssh.service.d/nixos.conf", "[Service]\nNice=2\n");
    assert_eq!(store.keys("ssh.service"), ["[Service] Nice"]);
}

#[test]
fn a_unit_that_is_absent_or_masked_in_one_system_has_one_change() {
    let store = Store::new();
    for name in ["gone.service", "masked.service", "emptied.service", "aliased.service"] {
        store.unit("old", name, "[Service]\nExecStart=a\n");
    }
    store.link("new", "etc/systemd/system/masked.service", "/dev/null");
    store.unit("new", "emptied.service", "");
    store.unit("new", "real.service", "[Service]\nExecStart=a\n");
    store.link("new", "etc/systemd/system/aliased.service", "real.service");
    let state = |unit: &str| {
        let changes = store.changes(unit);
        let [change] = changes.as_slice() else { panic!("{unit}: {changes:?}") };
        (change.section.is_empty() && change.key == "state")
            .then(|| (change.before.clone(), change.after.clone()))
    };
    let words = |before: &str, after: &str| Some((vec![before.to_owned()], vec![after.to_owned()]));
    assert_eq!(state("gone.service"), words("present", "absent"));
    assert_eq!(state("masked.service"), words("present", "masked"));
    assert_eq!(state("emptied.service"), words("present", "masked"));
    assert_eq!(state("real.service"), words("absent", "present"));
    assert_eq!(store.keys("aliased.service"), [""; 0], "an alias has the unit's file");
    for unit in ["none.service", "../../../../etc/passwd", "multi-user.target.wants", "", "a\nb.service"] {
        assert_eq!(store.keys(unit), [""; 0], "{unit:?}");
    }
}

#[test]
fn links_are_followed_beneath_the_store_only() {
    let store = Store::new();
    let outside = store.0.path().canonicalize().unwrap().join("outside.service");
    fs::write(&outside, "[Service]\nExecStart=secret\n").unwrap();
    store.unit("old", "a.service", "[Service]\nExecStart=a\n");
    store.link("new", "etc/systemd/system/a.service", &outside);
    let changes = store.changes("a.service");
    assert!(!format!("{changes:?}").contains("secret"), "{changes:?}");
    assert_eq!(changes.first().unwrap().after, [outside.display().to_string()]);
    // Another path in the store is the system's.
    store.put("unit-b", "b.service", "[Service]\nExecStart=b\n");
    store.unit("old", "b.service", "[Service]\nExecStart=a\n");
    store.link("new", "etc/systemd/system/b.service", store.at("unit-b", "b.service"));
    assert_eq!(store.keys("b.service"), ["[Service] ExecStart"]);
    // A loop of links, a FIFO and a file that is no text are no reason to fail or to wait.
    store.link("new", "etc/systemd/system/loop.service", "loop.service");
    store.put("old", "etc/systemd/system/bytes.service", b"\xff\0");
    store.put("new", "etc/systemd/system/bytes.service", b"\xfe\0");
    let fifo = store.at("new", "etc/systemd/system/fifo.service");
    assert!(std::process::Command::new("mkfifo").arg(fifo).status().unwrap().success());
    let names: Vec<_> = store.diff().units().map(|(name, _)| name.to_owned()).collect();
    assert_eq!(names, ["a.service", "b.service", "bytes.service", "fifo.service", "loop.service"]);
}

#[test]
fn a_difference_has_a_part_for_each_kind_in_a_stable_order() {
    let store = Store::new();
    for (system, version) in [("old", 1), ("new", 2)] {
        store.put(system, "kernel-params", format!("quiet loglevel=4 v={version}"));
        store.link(system, "kernel", format!("/nix/store/linux-6.{version}/bzImage"));
        store.link(system, "systemd", "/nix/store/systemd");
        store.unit(system, "same.service", "[Service]\nExecStart=a\n");
        store.unit(system, "b.service", &format!("[Service]\nExecStart=b-{version}\n"));
        store.put(system, "etc/ssh/sshd_config", format!("Port 22\nMaxAuthTries {version}\nUsePAM yes\n"));
        store.put(system, "etc/blob", [0, version, 255]);
        store.link(system, "etc/localtime", format!("/etc/zoneinfo/{version}"));
        store.put(system, "etc/long", (0..100).map(|line| format!("{line} {version}\n")).collect::<String>());
        store.put(system, "etc/hosts", "127.0.0.1 localhost\n");
    }
    store.unit("old", "z.timer", "[Timer]\n");
    store.unit("new", "a.service", "[Service]\n");
    store.put("old", "etc/issue", "");
    store.put("new", "etc/motd", "");
    let diff = store.diff();
    let text = diff.to_string();
    assert!(!diff.is_empty() && text == store.diff().to_string());
    let (start, rest) = text.split_once("  /etc/long\n").unwrap();
    assert_eq!(
        start,
        "units:\n  + a.service\n  b.service\n    [Service] ExecStart\n      - b-1\n      + b-2\n  - z.timer\n\
         files in /etc:\n  /etc/blob\n  - /etc/issue\n  /etc/localtime\n    - -> /etc/zoneinfo/1\n    + -> /etc/zoneinfo/2\n"
    );
    let (long, rest) = rest.split_once("  + /etc/motd\n").unwrap();
    assert!(long.ends_with("    … and 160 more lines\n") && long.lines().count() == 41, "{long}");
    assert_eq!(
        rest,
        "  /etc/ssh/sshd_config\n    - MaxAuthTries 1\n    + MaxAuthTries 2\n\
         from the next boot on:\n  kernel\n    - /nix/store/linux-6.1/bzImage\n    + /nix/store/linux-6.2/bzImage\n  \
         kernel parameters\n    - v=1\n    + v=2"
    );
    let parts: Vec<_> = diff.boot().collect();
    assert_eq!(parts[1], ("kernel parameters", "v=1", "v=2"));
    assert!(diff.files().any(|(path, lines)| path == "/etc/blob" && lines.is_empty()));
    assert_eq!(diff.units().nth(1), Some(("b.service", "[Service] ExecStart\n  - b-1\n  + b-2".to_owned())));
    let json = serde_json::to_value(&diff).unwrap();
    assert_eq!(json["units"][1]["keys"][0]["after"][0], "b-2");
}

#[test]
fn systems_that_are_alike_have_no_difference() {
    let store = Store::new();
    for system in ["old", "new"] {
        store.unit(system, "a.service", "[Service]\nExecStart=a\n");
        store.put(system, "etc/hosts", "127.0.0.1 localhost\n");
        // What the module for networks says to the runner is no part of the configuration.
        store.put(system, "etc/nixvm-test/network.json", system);
    }
    let diff = store.diff();
    assert!(diff.is_empty(), "{diff}");
    assert_eq!(diff.to_string(), "no difference");
}

#[test]
fn a_replay_has_no_system_to_compare() {
    let system = System::recorded("next", "configuration.nix".to_owned());
    assert_eq!(system.diff(&system).unwrap_err().kind(), ErrorKind::NotRecorded);
}
