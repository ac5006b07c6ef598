//! A small disk that is soon full: a tmpfs in a mount namespace of its own.

use std::path::Path;
use std::process::Command;

/// A command for which there is an empty disk of this size at `place`. The words of what is to run are added to it.
pub fn command(place: &Path, size: &str) -> Command {
    with_script(place, size, "exec \"$@\"")
}

/// The same with a shell script that runs the words as `"$@"`; the disk is `$0`.
pub fn with_script(place: &Path, size: &str, script: &str) -> Command {
    let mut command = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    let script = format!("mount -t tmpfs -o size={size} none \"$0\" || exit\n{script}");
    command.args(["--mount", "sh", "-c", &script]).arg(place);
    command
}
