use super::*;

const RUN_VM: &str = include_str!("../../../../../standin/nixpkgs/nixos/image/run-vm.sh");
const GENUINE: &str = include_str!("run-nixos-vm.sh");

fn read(text: &str, script: &Path) -> Result<Vec<PathBuf>, String> {
    let variable = |name: &str| match name {
        "HOME" => Some("/home/x".to_owned()),
        "GIVEN" => Some("/given".to_owned()),
        _ => None,
    };
    paths(text, script, &variable)
}

#[test]
fn a_file_is_found_by_whatever_a_script_calls_it() {
    let there = tempfile::tempdir().unwrap();
    let at = there.path().canonicalize().unwrap();
    for name in ["x.img", "a b.img"] {
        std::fs::write(at.join(name), "").unwrap();
    }
    let (image, script) = (at.join("x.img"), at.join("run"));
    let at = at.display();
    let cases = [
        format!("DATA={at}\ncp \"$DATA\"/x.img \"$TMPDIR\"/probe.img"),
        format!("DATA=\"{at}\"; cp ${{DATA}}/x.img $TMPDIR"),
        format!("export DATA='{at}'\ncp $DATA/x.img $TMPDIR"),
        format!("DATA=${{DATA:-{at}}}\ncp $DATA/x.img $TMPDIR"),
        format!(": ${{DATA:={at}}}\ncp $DATA/x.img $TMPDIR"),
        format!("f() {{ local from=\"$DATA\"; cp \"$from\"/x.img x; }}\nDATA={at}\nf"),
        format!("A={at}; B=$A; C=${{B}}/x; exec qemu -drive file=$C.img,if=none"),
        format!("cp {at}/x.img y"),
        "cp \"$(dirname \"$0\")\"/x.img \"$TMPDIR\"".to_owned(),
        "cp ${0%/*}/x.img \"$TMPDIR\"".to_owned(),
        "cp `dirname $0`/x.img y".to_owned(),
        "here=$(cd \"$(dirname \"${BASH_SOURCE[0]}\")\" && pwd)\ncp \"$here/x.img\" y".to_owned(),
        "cp \"$(dirname \"$(readlink -f \"$0\")\")/x.img\" y".to_owned(),
        "cd \"$(dirname \"$0\")\"\ncp x.img \"$TMPDIR\"/y".to_owned(),
        "cd ${0%/*} && cp ./x.img \"$TMPDIR\"/y".to_owned(),
        format!("cd {at}\ncp \"$PWD\"/x.img $(pwd)/x.img y"),
        format!("for f in {at}/x.img /other; do cp $f y; done"),
        format!("D={at}; D+=/x; cp $D.img y"),
        format!("bash -c 'D={at}; cp $D/x.img y'\nD={at}"),
        format!("sub=$(echo {at}); cp $sub/x.img y"),
    ];
    for text in cases {
        let found: Vec<PathBuf> =
            read(&format!("#!/bin/sh\n{text}\n"), &script).unwrap_or_else(|word| panic!("{text}: {word}"));
        let files: Vec<PathBuf> = found
            .iter()
            .map(|path| path.components().filter(|part| part.as_os_str() != ".").collect())
            .collect();
        assert!(files.contains(&image), "{text}: {found:?}");
    }
    let spaced = read(&format!("D='{at}'; cp \"$D/a b.img\" y"), &script).unwrap();
    assert!(spaced.contains(&PathBuf::from(format!("{at}/a b.img"))), "{spaced:?}");
    for (text, path) in [("cp ~/x.img y", "/home/x/x.img"), ("cp \"$GIVEN\"/x.img y", "/given/x.img")] {
        assert!(read(text, &script).unwrap().contains(&PathBuf::from(path)), "{text}");
    }
}

#[test]
fn a_path_that_can_not_be_told_is_named() {
    for text in [
        "cp \"$1\"/x.img y",
        "cp \"$(hidden)\"/x.img y",
        "IMAGE=$(hidden); cp \"$IMAGE\" y",
        "cp $(cat /etc/where) y",
        "cp $(cat /etc/where).img y",
        "if true; then . /etc/settings; fi\ncp $D/x.img y",
        "tool -I$1/x.img",
        "cp /data/*.img y",
        "cp /data/{a,b}.img y",
        "cp ~other/x.img y",
        "read D < /etc/where; cp $D/x.img y",
        ". /etc/settings\ncp $D/x.img y",
        "eval \"$(hidden)\"; cp $D/x.img y",
        "cd \"$1\"; cp x.img y",
        "cp \"$TMPDIR\"/../../../x.img y",
        "cp ../../../x.img y",
        "D=(/data /other); cp ${D[1]}/x.img y",
        "N=D; D=/data; cp ${!N}/x.img y",
        "D=/a/data; cp ${D/a/b}/x.img y",
        "cat > y <<END\n/data\nEND",
        "cp \"/data/x.img",
    ] {
        let found = read(text, Path::new("/opt/run"));
        assert!(found.is_err(), "{text}: {found:?}");
    }
    assert_eq!(read("cp a b\ncp \"$1\"/x.img y", Path::new("/opt/run")).unwrap_err(), "\"$1\"/x.img");
}

#[test]
fn the_scripts_of_nixos_and_of_the_stand_in_name_no_file_that_can_not_be_told() {
    let mut stand_in = RUN_VM.replace("@emptyDisks@", "512 1024 64").replace("@options@", " -nographic");
    for name in ["image", "diskImage", "base", "initrd", "toplevel"] {
        stand_in = stand_in.replace(&format!("@{name}@"), &format!("/nix/store/abc-{name}"));
    }
    let with_disk = stand_in.replace("/nix/store/abc-diskImage", "./nixos.qcow2");
    for (what, text, other) in [
        ("NixOS", GENUINE, &[][..]),
        ("the stand-in", &stand_in, &["/bin/sh", "/usr/bin", "/bin", "/usr/sbin", "/sbin"]),
        ("the stand-in with a disk", &with_disk, &["/bin/sh", "/usr/bin", "/bin", "/usr/sbin", "/sbin"]),
    ] {
        for script in ["/nix/store/abc-vm/bin/run-nixos-vm", "/home/x/result/bin/run-nixos-vm"] {
            let found = read(text, Path::new(script)).unwrap_or_else(|word| panic!("{what}: {word}"));
            let mut outside: Vec<PathBuf> =
                found.into_iter().filter(|path| !path.starts_with(STORE)).collect();
            outside.retain(|path| path != Path::new(script) && path != Path::new("/dev/null"));
            outside.dedup();
            assert_eq!(outside, other.iter().map(PathBuf::from).collect::<Vec<_>>(), "{what}");
        }
    }
}
