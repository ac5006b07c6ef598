//! `tests/beside-vms.sh`, with programs that stand in for cargo and for the VM.

use std::path::Path;
use std::process::Command;

use nixvm_fake_guest::write_executable;

/// cargo, which "builds" a VM. Its run script goes to TMPDIR and splits QEMU_OPTS at spaces, as NixOS's does.
const CARGO: &str = r#"#!/bin/sh
set -e
for link; do :; done
mkdir -p "$link/bin"
cat >"$link/bin/run-nixos-vm" <<'END'
#!/bin/sh
cd "$TMPDIR"
set -- $QEMU_OPTS
[ $# = 10 ] || { echo "QEMU does not know: $*"; exit 1; }
shift 9
echo 'nixos login: ' >"${1#file:}"
exec sleep 600
END
chmod +x "$link/bin/run-nixos-vm"
"#;

#[test]
fn the_folder_for_temporary_files_may_have_a_space_in_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let temporary = folder.path().join("with a space");
    std::fs::create_dir_all(&temporary).unwrap();
    write_executable(folder.path().join("cargo"), CARGO).unwrap();
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/beside-vms.sh");
    let ran = Command::new("bash")
        .arg(script)
        .args(["2", "echo", "beside them"])
        .env("PATH", path)
        .env("TMPDIR", &temporary)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{said}");
    assert_eq!(String::from_utf8_lossy(&ran.stdout), "beside them\n");
    assert_eq!(std::fs::read_dir(temporary).unwrap().count(), 0, "{said}");
}
