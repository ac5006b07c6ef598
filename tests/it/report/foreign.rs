//! Records of another user, who made them to get at what root may read and write. The attacker is a user of their own
//! here (setpriv), so these tests need root and say so where they have it not.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const ATTACKER: u32 = 65_534;

/// What only root may read.
const SECRET: &str = "root:$6$the-secret-of-root";

/// A folder with a secret of root's and a record of the attacker's.
struct Place(tempfile::TempDir);

impl Place {
    /// `None` without root.
    fn new() -> Option<Self> {
        if Command::new("setpriv").arg("--version").output().is_err() || !rustix::process::geteuid().is_root()
        {
            eprintln!("not tested: becoming another user needs root and setpriv");
            return None;
        }
        let place = Self(tempfile::tempdir().unwrap());
        fs::set_permissions(place.0.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(place.path("root")).unwrap();
        fs::set_permissions(place.path("root"), fs::Permissions::from_mode(0o700)).unwrap();
        for name in ["shadow", "secret.rs", "secret.film"] {
            fs::write(place.path("root").join(name), format!("{SECRET}\n")).unwrap();
        }
        fs::create_dir(place.path("attacker")).unwrap();
        chown(place.path("attacker"), Some(ATTACKER), Some(ATTACKER)).unwrap();
        place.attack("mkdir -p record/a; : > record/events.jsonl");
        Some(place)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs a shell script as the attacker, in their folder; `$ROOT` is root's folder.
    fn attack(&self, script: &str) {
        let id = ATTACKER.to_string();
        let ran = Command::new("setpriv")
            .args(["--reuid", &id, "--regid", &id, "--clear-groups", "sh", "-euc", script])
            .current_dir(self.path("attacker"))
            .env("ROOT", self.path("root"))
            .output()
            .unwrap();
        assert!(ran.status.success(), "{script}: {}", String::from_utf8_lossy(&ran.stderr));
    }

    /// The attacker's record has these events.
    fn events(&self, lines: &[&str]) {
        let events = self.path("attacker/record/events.jsonl");
        fs::write(&events, lines.join("\n") + "\n").unwrap();
        chown(&events, Some(ATTACKER), Some(ATTACKER)).unwrap();
    }

    /// Runs the program as root, with a limit on its memory and time.
    fn nixvm(&self, arguments: &[&str]) -> Output {
        let limited = "ulimit -v 2000000; exec timeout 300 \"$0\" \"$@\"";
        Command::new("sh")
            .args(["-c", limited, env!("CARGO_BIN_EXE_nixvm-test")])
            .args(arguments)
            .env("NIXVM_CACHE_DIR", self.path("root/cache"))
            .env("NIXVM_RUNS", self.path("root/runs"))
            .env_remove("DISPLAY")
            .env_remove("WAYLAND_DISPLAY")
            .output()
            .unwrap()
    }

    fn record(&self) -> String {
        self.path("attacker/record").display().to_string()
    }

    /// `report` of the attacker's record; the text of the page, and where it is.
    fn page(&self) -> (String, PathBuf) {
        let ran = self.nixvm(&["report", "--no-open", &self.record()]);
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        let path = PathBuf::from(String::from_utf8(ran.stdout).unwrap().trim_end());
        (fs::read_to_string(&path).unwrap(), path)
    }

    /// Every command that reads a record, and what each said.
    fn all(&self) -> Vec<(i32, String)> {
        let record = self.record();
        let commands: [&[&str]; 4] = [
            &["report", "--no-open", &record],
            &["replay", &record],
            &["diff", &record, &record],
            &["attach", &record],
        ];
        let said = |ran: Output| {
            let text = [ran.stdout, ran.stderr].concat();
            (ran.status.code().unwrap_or(-1), String::from_utf8_lossy(&text).into_owned())
        };
        commands.iter().map(|arguments| said(self.nixvm(arguments))).collect()
    }
}

/// Every file of a folder: its mode, its time of change and its content.
fn state(folder: &Path) -> BTreeMap<PathBuf, (u32, i64, Vec<u8>)> {
    let mut state = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let (path, found) = (entry.path(), entry.path().symlink_metadata().unwrap());
        let content =
            if found.is_file() && found.len() < 1 << 20 { fs::read(&path).unwrap() } else { Vec::new() };
        state.insert(path.clone(), (found.mode(), found.mtime_nsec(), content));
        if found.is_dir() {
            state.extend(self::state(&path));
        }
    }
    state
}

fn line(event: &str) -> String {
    format!(r#"{{"v":1,"time":1,"scenario":"a",{event}}}"#)
}

fn started(file: &str) -> String {
    line(&format!(r#""event":"scenario_started","about":"","file":"{file}","line":1,"attempt":1"#))
}

fn kept(kind: &str, path: &str) -> String {
    line(&format!(r#""event":"file_kept","machine":"m","kind":"{kind}","path":"{path}""#))
}

#[test]
fn nothing_is_written_into_the_record_of_another_user_nor_through_its_links() {
    let Some(place) = Place::new() else { return };
    place.events(&[&started("a.rs")]);
    for name in [".reports.lock", ".lock", "report.html", "junit.xml"] {
        place.attack(&format!("ln -sfn $ROOT/shadow record/{name}"));
    }
    let (root, attackers) = (state(&place.path("root")), state(&place.path("attacker")));
    let (_, page) = place.page();
    assert!(page.starts_with(place.path("root/cache")), "{}", page.display());
    assert_eq!(fs::metadata(&page).unwrap().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(page.parent().unwrap()).unwrap().mode() & 0o777, 0o700);
    place.all();
    assert_eq!(state(&place.path("attacker")), attackers);
    fs::remove_dir_all(place.path("root/cache")).unwrap();
    assert_eq!(state(&place.path("root")), root);
}

#[test]
fn no_file_of_this_host_gets_into_the_page() {
    let Some(place) = Place::new() else { return };
    let root = place.path("root").display().to_string();
    // A film that has the form of one.
    let film = format!(r#"{{"length":1.0,"frames":[{{"t":0.0,"r":[[0,[["{SECRET}"]]]]}}]}}"#);
    fs::write(place.path("root/secret.film"), film).unwrap();
    let base64_of_secret = "cm9vdDokNiR0aGUtc2VjcmV0";
    place.attack(
        "ln -s $ROOT/shadow record/a/m.journal; ln -s $ROOT/shadow record/a/m.png;
         ln -s $ROOT/secret.film record/a/m.film; : > record/a/m.transcript; ln -s $ROOT record/b",
    );
    let (shadow, source) = (format!("{root}/shadow"), format!("{root}/secret.rs"));
    let paths = |ending: &str| {
        let up = format!("../../root/{ending}");
        [format!("{root}/{ending}"), up, format!("b/{ending}"), format!("a/../b/{ending}")]
    };
    let mut events = vec![started(&shadow), started(&source), started("../root/secret.rs")];
    events.extend([
        kept("journal", "a/m.journal"),
        kept("screenshot", "a/m.png"),
        kept("transcript", "a/m.transcript"),
    ]);
    events.extend(paths("shadow").map(|path| kept("journal", &path)));
    events.extend(paths("shadow").map(|path| kept("screenshot", &path)));
    events.extend(paths("secret.transcript").map(|path| kept("transcript", &path)));
    events.push(line(&format!(r#""event":"scenario_finished","took":2,"failure":{{"summary":"no","kind":"Other","report":"no","file":"{source}","line":1}}"#)));
    place.events(&events.iter().map(String::as_str).collect::<Vec<_>>());
    let (page, _) = place.page();
    assert!(!page.contains(SECRET) && !page.contains(base64_of_secret));
    // A copy of it that belongs to root is no more to be believed.
    let copy = place.path("root/copy");
    assert!(Command::new("cp").arg("-r").arg(place.record()).arg(&copy).status().unwrap().success());
    let _ = fs::remove_file(copy.join("a/m.journal"));
    symlink(&shadow, copy.join("a/m.journal")).unwrap();
    let ran = place.nixvm(&["report", "--no-open", copy.to_str().unwrap()]);
    assert!(ran.status.success());
    assert!(!fs::read_to_string(copy.join("report.html")).unwrap().contains(SECRET));
    assert!(!fs::read_to_string(copy.join("junit.xml")).unwrap().contains("[[ATTACHMENT|/etc"));
    for (_, said) in place.all() {
        assert!(!said.contains(SECRET), "{said}");
    }
}

#[test]
fn a_page_that_came_with_a_record_is_not_shown() {
    let Some(place) = Place::new() else { return };
    place.events(&[&started("a.rs")]);
    place.attack(
        "for name in report.html junit.xml; do echo '<script>alert(1)</script>' > record/$name; done;
         wc -c < record/events.jsonl > record/.reports.lock",
    );
    let (page, _) = place.page();
    assert!(!page.contains("alert(1)"));
    // The same in one that was copied, and belongs to whoever looks at it.
    let copy = place.path("root/copy");
    assert!(Command::new("cp").arg("-r").arg(place.record()).arg(&copy).status().unwrap().success());
    let ran = place.nixvm(&["report", "--no-open", copy.to_str().unwrap()]);
    assert_eq!(String::from_utf8(ran.stdout).unwrap(), format!("{}\n", copy.join("report.html").display()));
    assert!(!fs::read_to_string(copy.join("report.html")).unwrap().contains("alert(1)"));
    // And none at all where no other can be made.
    fs::write(copy.join("report.html"), "<script>alert(1)</script>").unwrap();
    fs::remove_file(copy.join(".reports.lock")).unwrap();
    fs::create_dir(copy.join(".reports.lock")).unwrap();
    let ran = place.nixvm(&["report", "--no-open", copy.to_str().unwrap()]);
    assert!(!ran.status.success() && ran.stdout.is_empty());
}

#[test]
fn what_is_no_regular_file_neither_holds_up_nor_fills_the_memory() {
    let Some(place) = Place::new() else { return };
    let events = [started("a.rs"), kept("transcript", "a/m.transcript"), kept("journal", "a/m.journal")];
    let events: Vec<&str> = events.iter().map(String::as_str).collect();
    let made = [
        ("a FIFO", "mkfifo"),
        ("a link to /dev/zero", "ln -sfn /dev/zero"),
        ("a link to a FIFO", "test -p fifo || mkfifo fifo; ln -sfn ../fifo"),
        ("a folder", "mkdir -p"),
        ("6 TiB", "truncate -s 6T"),
    ];
    let names = [
        "events.jsonl",
        ".reports.lock",
        "report.html",
        "a/m.transcript",
        "a/m.transcript.times",
        "a/m.journal",
        "a/m.film",
    ];
    for (what, command) in made {
        // The events alone, and all the others.
        for names in [&names[..1], &names[1..]] {
            place.events(&events);
            place.attack("rm -rf record/a; mkdir record/a; : > record/a/m.transcript");
            place.attack(&format!(
                "for name in {}; do rm -rf record/$name; {command} record/$name; done",
                names.join(" ")
            ));
            for (status, said) in place.all() {
                // Not ended by the limits, a signal or a panic.
                assert!((0..=99).contains(&status), "{what} as {names:?}: status {status}: {said}");
                assert!(!said.contains("panicked") && !said.contains("memory allocation"), "{what}: {said}");
            }
            place.attack(&format!("for name in {}; do rm -rf record/$name; done", names.join(" ")));
        }
    }
}

#[test]
fn a_record_over_a_limit_is_an_error_that_names_the_limit() {
    let Some(place) = Place::new() else { return };
    let event = |number: usize, event: &str| {
        format!(r#"{{"v":1,"time":1,"scenario":"a",{}}}"#, event.replace('#', &number.to_string()))
    };
    let scenario = r##""event":"scenario_started","about":"","file":"#.rs","line":1,"attempt":1"##;
    let machine = r#""event":"machine_stopped","machine":"m#","how":"x""#;
    let file = r#""event":"file_kept","machine":"m","kind":"journal","path":"j#""#;
    let phase = r##""event":"phase","machine":"m","phase":"p#","at":1"##;
    let cases = [
        (scenario, 10_000, "10000 scenarios"),
        (machine, 200, "200 machines"),
        (file, 2_000, "2000 files"),
        (phase, 2_000, "2000 phases"),
    ];
    let first = started("a.rs");
    for (what, most, said) in cases {
        let mut lines = vec![first.clone()];
        lines.extend((0..=most).map(|number| event(number, what)));
        place.events(&lines.iter().map(String::as_str).collect::<Vec<_>>());
        for (status, text) in place.all().into_iter().take(3) {
            assert!(status != 0 && text.contains(said), "{said}: {status}: {text}");
        }
    }
    place.attack("truncate -s 300M record/events.jsonl");
    let (status, text) = place.all().swap_remove(0);
    assert!(status != 0 && text.contains("314572800") && text.contains("268435456"), "{text}");
}

#[test]
fn events_that_make_a_reader_look_for_long_are_read_in_time() {
    let Some(place) = Place::new() else { return };
    let mut lines = vec![started("a.rs")];
    // Steps that never end, ends of steps that never began, scenarios of one name: each was looked for among all others.
    lines.extend(
        (0..50_000).map(|number| {
            line(&format!(r#""event":"step_started","machine":"m","step":{number},"text":"""#))
        }),
    );
    lines.extend((0..50_000).map(|number| {
        line(&format!(r#""event":"step_finished","machine":"m","step":{},"took":1"#, number + 1_000_000))
    }));
    lines.extend((0..9_000).map(|number| started(&format!("{number}.rs"))));
    place.events(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    for (status, said) in place.all().into_iter().take(3) {
        assert!((0..=99).contains(&status), "{status}: {said}");
    }
}

#[test]
fn names_in_a_foreign_record_do_not_drive_the_terminal() {
    let Some(place) = Place::new() else { return };
    place.attack(
        "d=$(printf 'x\\033]0;owned\\007\\n'); for m in 1 2; do mkdir -p \"record/$d/m$m.moment\"; done",
    );
    let evil = r"\u001b]0;owned\u0007";
    place.events(&[&format!(
        r#"{{"v":1,"time":1,"scenario":"{evil}","event":"scenario_started","about":"","file":"a","line":1,"attempt":1}}"#
    )]);
    for (_, said) in place.all() {
        assert!(!said.contains('\u{1b}') && !said.contains('\u{7}'), "{said:?}");
    }
}

#[test]
fn a_run_does_not_write_into_a_folder_of_another_user() {
    let Some(place) = Place::new() else { return };
    place.attack("mkdir -m 777 run; : > run/events.jsonl; chmod 666 run/events.jsonl");
    // Of the run of another test binary nothing is to be had here; the folder is opened as any run opens it.
    let script = place.path("attacker/run");
    let before = state(&script);
    let ran = crate::again::command("report::foreign::begins_a_record")
        .env("NIXVM_RUN", &script)
        .env("NIXVM_BEGIN_A_RECORD", "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(said.contains("belongs to the user 65534"), "{said}");
    assert_eq!(state(&script), before);
}

/// A part of the test above, in a process with another environment.
#[test]
#[ignore = "is started by the test above"]
fn begins_a_record() {
    if std::env::var_os("NIXVM_BEGIN_A_RECORD").is_some() {
        println!("{}", nixvm_test::internals::record::Folder::begin().unwrap_err());
    }
}
