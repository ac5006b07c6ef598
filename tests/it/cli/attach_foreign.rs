//! Moments from elsewhere: whoever made one decides nothing on the host of the person who goes back to it.

use std::path::{Path, PathBuf};
use std::process::Command;

use expectrl::Expect as _;
use nixvm_fake_guest::FakeVm;
use serde_json::{Value, json};

use crate::cli::attach::{left_as_it_was, on_a_terminal};
use crate::folder::{Folder, Ran};

/// A file that is there when something of the moment was run.
const MARK: &str = "was-run";

/// A moment of a machine that QEMU could go on with, and a program that leaves a mark.
struct Foreign {
    folder: Folder,
}

impl Foreign {
    fn new() -> Self {
        let folder = Folder::new();
        let foreign = Self { folder };
        foreign.program("evil");
        foreign.program("run-evil-vm");
        foreign.program("moment/qemu-system-x86_64");
        foreign.program("elsewhere/qemu-system-x86_64");
        foreign.folder.put("run/events.jsonl", "");
        foreign.put("moment.json", &about("/nix/store/00000000000000000000000000000000-vm/bin/run-nixos-vm"));
        foreign.put("machine.json", &machine(&[]));
        foreign.folder.put("moment/transcript", "login: ");
        foreign.folder.put("moment/state", "QEVM");
        foreign
    }

    fn put(&self, file: &str, value: &Value) {
        self.folder.put(&format!("moment/{file}"), value.to_string());
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A program that says that it was run.
    fn program(&self, name: &str) {
        let mark = self.path(MARK);
        self.folder.program(name, format!("#!/bin/sh\necho \"$0 $*\" >>{}\n", mark.display()));
    }

    fn attach(&self, arguments: &[&str]) -> Ran {
        Ran::of(self.folder.command(&[&["attach"], arguments].concat()).stdin(std::process::Stdio::null()))
    }

    /// It is refused, by name, and nothing of it was run.
    #[track_caller]
    fn is_refused(&self, what: &str, why: &str) {
        let ran = self.attach(&["moment"]);
        assert_eq!(ran.code, Some(2), "{what}: {ran:?}");
        let said = format!("{}{}", ran.out, ran.err);
        assert!(said.contains(why), "{what}: {said}");
        assert!(!said.contains(['\x1b', '\x07', '\u{202e}']), "{what}: {said:?}");
        assert!(said.contains("--trust"), "{what}: {said}");
        self.nothing_was_run(what);
    }

    #[track_caller]
    fn nothing_was_run(&self, what: &str) {
        let run = std::fs::read_to_string(self.path(MARK)).unwrap_or_default();
        assert_eq!(run, "", "{what}");
    }
}

fn about(script: &str) -> Value {
    json!({ "format": 1, "machine": "web", "vm": script, "speed": 1.0, "console": "asitis" })
}

/// What keeps QEMU from opening doors of its own, as each machine has it.
const SHUT: &str = "-display none -chardev socket,id=nixvm-console,fd=3 -serial chardev:nixvm-console \
    -chardev socket,id=nixvm-control,fd=4 -mon chardev=nixvm-control,mode=control";

fn machine(more: &[&str]) -> Value {
    let ordinary = format!("-m 64 -nographic -net none {SHUT}");
    of_arguments(&ordinary.split_whitespace().chain(more.iter().copied()).collect::<Vec<_>>())
}

fn of_arguments(arguments: &[&str]) -> Value {
    json!({
        "command": { "program": "/usr/bin/qemu-system-x86_64", "arguments": arguments },
        "accelerator": "tcg", "version": [7, 2], "images": [], "whole": true
    })
}

#[test]
fn options_that_reach_the_host_are_shown_and_refused() {
    let foreign = Foreign::new();
    let evil = foreign.path("evil").display().to_string();
    let tap = format!("tap,id=n,script={evil},downscript={evil}");
    let exec = format!("exec:{evil}");
    let user = format!("user,id=n,guestfwd=tcp:10.0.2.100:80-cmd:{evil}");
    let disk = "file=/etc/shadow,format=raw,if=virtio,readonly=on";
    let title = "-fake\x1b]0;title\x07\u{202e}option";
    for more in [
        ["-netdev", &tap],
        ["-monitor", &exec],
        ["-incoming", &exec],
        ["-netdev", &user],
        ["-drive", disk],
        ["-hda", "/etc/shadow"],
        ["-chardev", "file,id=c,path=/root/.bashrc"],
        ["-plugin", &evil],
        ["-virtfs", "local,path=/,mount_tag=x,security_model=none"],
        ["-device", "loader,file=/etc/shadow"],
        ["-readconfig", &evil],
        [title, "x"],
    ] {
        foreign.put("machine.json", &machine(&more));
        foreign.is_refused(&format!("{more:?}"), more[0].split('\x1b').next().unwrap());
    }
}

#[test]
fn a_command_that_leaves_qemus_own_doors_open_is_refused() {
    let foreign = Foreign::new();
    foreign.put("machine.json", &of_arguments(&["-m", "64", "-net", "none", "-S"]));
    for lacks in ["-display none", "-mon chardev=", "-serial chardev:", "id=nixvm-control"] {
        foreign.is_refused("open", lacks);
    }
    foreign.put("machine.json", &machine(&["-device", "AC97"]));
    foreign.is_refused("the microphone", "AC97");
}

#[test]
fn a_script_of_the_store_is_not_run_for_a_moment_of_somebody_else() {
    let Some(script) = script_of_the_store() else {
        eprintln!("no VM is in the Nix store");
        return;
    };
    let foreign = Foreign::new();
    foreign.put("moment.json", &about(&script));
    let mut value = machine(&[]);
    value["version"] = json!([9, 9]);
    foreign.put("machine.json", &value);
    for mark in ["", "0123456789abcdef0123456789abcdef"] {
        foreign.folder.put("moment/mark", mark);
        let session = on_a_terminal(&foreign.folder, "attach moment");
        let text = left_as_it_was(&foreign.folder, session);
        assert!(
            text.contains("ended with 2") && text.contains("--trust") && text.contains("QEMU 9.9"),
            "{text}"
        );
    }
}

fn script_of_the_store() -> Option<String> {
    let vms = std::fs::read_dir("/nix/store").ok()?.flatten().map(|vm| vm.path().join("bin"));
    let scripts = vms.filter_map(|bin| std::fs::read_dir(bin).ok()).flatten().flatten();
    let names = scripts.filter_map(|script| script.path().to_str().map(str::to_owned));
    names
        .into_iter()
        .find(|path| path.contains("/bin/run-") && path.ends_with("-vm") && Path::new(path).is_file())
}

#[test]
fn programs_and_scripts_that_a_moment_names_are_not_run() {
    let foreign = Foreign::new();
    for program in ["evil", "moment/evil"] {
        let mut value = machine(&[]);
        value["command"]["program"] = json!(foreign.path(program));
        foreign.put("machine.json", &value);
        foreign.is_refused(program, "the program");
    }
    // One that is called as QEMU is: this host's is taken, and not even asked for its version.
    for program in ["moment/qemu-system-x86_64", "elsewhere/qemu-system-x86_64"] {
        let mut value = machine(&[]);
        value["command"]["program"] = json!(foreign.path(program));
        value["version"] = json!([1, 2]);
        foreign.put("machine.json", &value);
        let ran = foreign.attach(&["moment"]);
        assert_ne!(ran.code, Some(0), "{ran:?}");
        foreign.nothing_was_run(program);
    }
    // A machine that can't be restored boots again, but not by any script.
    let mut value = machine(&[]);
    value["version"] = json!([1, 2]);
    foreign.put("machine.json", &value);
    for script in ["run-evil-vm", "evil", "../run-evil-vm"] {
        foreign.put("moment.json", &about(foreign.path(script).to_str().unwrap()));
        foreign.is_refused(script, "the run script");
    }
    foreign.put("moment.json", &about("/nix/store/../../proc/self/cwd/run-evil-vm"));
    foreign.is_refused("out of the store", "the run script");
}

#[test]
fn disks_that_lead_elsewhere_are_refused() {
    let foreign = Foreign::new();
    let drive = "file=/var/tmp/nixvm-0/ab.1/disk.qcow2,if=virtio";
    let with = |saved: &str, own: &str| {
        let mut value = machine(&["-drive", drive]);
        let at = value["command"]["arguments"].as_array().unwrap().len() - 1;
        value["images"] = json!([{ "at": at, "saved": saved, "own": own }]);
        value
    };
    let create = |arguments: &[&str]| {
        let made =
            Command::new("qemu-img").args(["create", "-q", "-f", "qcow2"]).args(arguments).status().unwrap();
        assert!(made.success());
    };
    let image = foreign.path("moment/image0");
    let image = image.to_str().unwrap();
    let over: [&[&str]; 6] = [
        &["-u", "-b", "/etc/shadow", "-F", "raw", image, "1M"],
        &["-u", "-b", "../../../etc/shadow", "-F", "raw", image, "1M"],
        &["-u", "-b", "nbd://127.0.0.1:1/x", "-F", "raw", image, "1M"],
        &["-u", "-b", "json:{\"driver\":\"file\",\"filename\":\"/etc/shadow\"}", "-F", "raw", image, "1M"],
        &["-u", "-b", "/nix/store/../../etc/shadow", "-F", "raw", image, "1M"],
        &["-u", "-b", "image0", "-F", "qcow2", image, "1M"],
    ];
    foreign.put("machine.json", &with("image0", "disk.qcow2"));
    for arguments in over {
        create(arguments);
        foreign.is_refused(&format!("{arguments:?}"), "the disk image0");
    }
    // Its data in another file.
    let data = foreign.path("data");
    std::fs::write(&data, [0; 1024]).unwrap();
    create(&["-o", &format!("data_file={},data_file_raw=on", data.display()), image, "1M"]);
    foreign.is_refused("data file", "data is in another file");
    // A second format, further on than the first.
    std::fs::write(image, said_twice()).unwrap();
    foreign.is_refused("two formats", "backing image twice");
    // A file that is not a qcow2 image, for a drive without a format.
    std::fs::write(image, [0; 4096]).unwrap();
    foreign.is_refused("raw", "not a qcow2 image");
    // A link, and a file elsewhere.
    std::fs::remove_file(image).unwrap();
    std::os::unix::fs::symlink("/etc/shadow", image).unwrap();
    foreign.is_refused("link", "the disk image0");
    std::fs::remove_file(image).unwrap();
    create(&[image, "1M"]);
    for (saved, own) in [
        ("../../../etc/shadow", "disk.qcow2"),
        ("/etc/shadow", "disk.qcow2"),
        ("image0", "/root/.bashrc"),
        ("image0", "../../x"),
        ("image0", "tmp/../../x"),
        ("image0", "lock"),
    ] {
        foreign.put("machine.json", &with(saved, own));
        foreign.is_refused(&format!("{saved} {own}"), "the disk ");
    }
    // A place that is no drive's.
    let mut value = with("image0", "disk.qcow2");
    value["images"][0]["at"] = json!(1);
    foreign.put("machine.json", &value);
    foreign.is_refused("place", "not the image of a drive");
}

/// A qcow2 image over `evil`, which it first calls raw and, behind 70,000 bytes of something else, qcow2.
fn said_twice() -> Vec<u8> {
    let mut image = vec![0; 4 << 20];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"QFI\xfb\0\0\0\x03");
    put(8, &0x19_0000u64.to_be_bytes());
    put(16, &4u32.to_be_bytes());
    put(20, &21u32.to_be_bytes());
    put(24, &(1u64 << 20).to_be_bytes());
    put(96, &4u32.to_be_bytes());
    put(100, &104u32.to_be_bytes());
    // Names of features, which nothing depends on.
    for (at, kind, size) in
        [(104, 0xe279_2acau32, 3u32), (120, 0x6803_f857, 70_000), (70_128, 0xe279_2aca, 5)]
    {
        put(at, &kind.to_be_bytes());
        put(at + 4, &size.to_be_bytes());
    }
    put(112, b"raw");
    put(70_136, b"qcow2");
    put(0x19_0000, b"evil");
    image
}

#[test]
fn files_that_do_not_end_and_links_hold_up_nobody() {
    for name in ["moment.json", "machine.json", "transcript", "state"] {
        let foreign = Foreign::new();
        let path = foreign.path(&format!("moment/{name}"));
        for (what, make) in [
            ("fifo", ["mkfifo", path.to_str().unwrap()].as_slice()),
            ("device", ["ln", "-s", "/dev/zero", path.to_str().unwrap()].as_slice()),
            ("link", ["ln", "-s", "/etc/shadow", path.to_str().unwrap()].as_slice()),
        ] {
            std::fs::remove_file(&path).unwrap();
            assert!(Command::new(make[0]).args(&make[1..]).status().unwrap().success());
            let ran = foreign.attach(&["moment"]);
            assert_ne!(ran.code, Some(0), "{name} {what}: {ran:?}");
            let packed = foreign.attach(&["moment", "--pack=packed.tar.gz"]);
            assert_ne!(packed.code, Some(0), "{name} {what}: {packed:?}");
            assert!(!foreign.path("packed.tar.gz").exists(), "{name} {what}");
        }
    }
    let foreign = Foreign::new();
    let large = std::fs::File::create(foreign.path("moment/machine.json")).unwrap();
    large.set_len(6 << 30).unwrap();
    let ran = foreign.attach(&["moment"]);
    assert_ne!(ran.code, Some(0), "{ran:?}");
}

#[test]
fn a_moment_of_another_users_is_used_as_a_copy_and_refused_like_any_other() {
    if Command::new("setpriv").arg("--version").output().is_err() || !rustix::process::geteuid().is_root() {
        eprintln!("not root, or no setpriv: there is no second user to try it with");
        return;
    }
    let foreign = Foreign::new();
    // Made by the second user: root goes back to it.
    let theirs = tempfile::tempdir().unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(theirs.path(), open).unwrap();
    let evil = theirs.path().join("evil");
    let mark = theirs.path().join(MARK);
    let value = machine(&["-monitor", &format!("exec:{}", evil.display())]);
    let script = format!(
        "cd {}; mkdir moment; echo '{}' >moment/moment.json; echo '{value}' >moment/machine.json; echo >moment/state; \
         echo >moment/transcript; printf '#!/bin/sh\\ntouch {}\\n' >evil; chmod +x evil",
        theirs.path().display(),
        about(evil.to_str().unwrap()),
        mark.display()
    );
    let made = Command::new("setpriv")
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "sh", "-c", &script])
        .status()
        .unwrap();
    assert!(made.success());
    let ran = foreign.attach(&[theirs.path().join("moment").to_str().unwrap()]);
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.err.contains("-monitor exec:") && !mark.exists(), "{ran:?}");
}

#[test]
fn a_trusted_moment_is_taken_as_it_is_and_still_runs_on_this_hosts_qemu() {
    let foreign = Foreign::new();
    FakeVm::new().write_to(foreign.folder.path());
    let script = std::fs::read_dir(foreign.path("result/bin")).unwrap().next().unwrap().unwrap().path();
    foreign.put("moment.json", &about(script.to_str().unwrap()));
    let mut value = machine(&["-monitor", "none"]);
    value["command"]["program"] = json!(foreign.path("evil"));
    foreign.put("machine.json", &value);
    let mut session = on_a_terminal(&foreign.folder, "attach moment --trust");
    session.expect("evil, which it ran on, is not installed on this host").unwrap();
    session.expect("on the console of web").unwrap();
    session.send([0x1d]).unwrap();
    let text = left_as_it_was(&foreign.folder, session);
    assert!(text.contains("ended with 0"), "{text}");
    foreign.nothing_was_run("the program");
}
