//! The commit that a NixOS system was built from, as it says itself.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::ask::ask;
use crate::presence::is_known_absent;
use crate::{Error, ErrorKind, Result, text};

/// The program that says it, in a system or a profile.
const PROGRAM: &str = "sw/bin/nixos-version";
/// Time limit of the program.
const LIMIT: Duration = Duration::from_secs(10);

/// Returns the commit that `system.configurationRevision` of the system at `link` names.
///
/// # Errors
/// [`ErrorKind::Usage`] with the reason when it names none.
pub(super) fn revision(link: &Path) -> Result<String> {
    let refuse = |why: String| {
        Error::new(ErrorKind::Usage, format!("the commit of {} is not known: {why}", link.display()))
    };
    let program = link.join(PROGRAM);
    if link.symlink_metadata().is_err() {
        return Err(refuse("there is no such link".to_owned())
            .next_step("name the link of a NixOS system: profile:/nix/var/nix/profiles/system"));
    }
    if is_known_absent(&program) {
        return Err(refuse(format!("it is no NixOS system, since it has no {PROGRAM}"))
            .next_step("name the link of a NixOS system: profile:/nix/var/nix/profiles/system"));
    }
    let mut command = Command::new(&program);
    command.arg("--configuration-revision");
    let answer = ask(command, LIMIT).map_err(|error| refuse(format!("{PROGRAM} does not run: {error}")))?;
    let set = "set system.configurationRevision, in a flake for example to self.rev or self.dirtyRev or null";
    let revision = match answer.line() {
        Some(revision) if !revision.is_empty() && revision != "null" => revision.to_owned(),
        _ => {
            let said = text::lines(&answer.said());
            return Err(refuse("the system does not say it".to_owned())
                .section("it says", said.trim())
                .next_step(format!("{set}, or name a commit: git:REV")));
        }
    };
    if let Some(commit) = revision.strip_suffix("-dirty") {
        return Err(refuse(format!("it was built with uncommitted changes on {}", text::line(commit)))
            .next_step("name the commit that is nearest to it: git:REV"));
    }
    let is_id = (7..=64).contains(&revision.len()) && revision.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_id {
        return Err(refuse(format!("it says {:?}, which is no commit", text::line(&revision)))
            .next_step("name the commit yourself: git:REV"));
    }
    Ok(revision)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    /// A system whose program runs this script.
    fn system(script: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("system/sw/bin/nixos-version");
        fs::create_dir_all(program.parent().unwrap()).unwrap();
        fs::write(
            &program,
            format!("#!/bin/sh\n[ \"$1\" = --configuration-revision ] || exit 9\n{script}\n"),
        )
        .unwrap();
        fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        symlink("system", folder.path().join("link")).unwrap();
        folder
    }

    #[test]
    fn a_system_says_its_commit_or_why_it_is_not_known() {
        let commit = "0123456789abcdef0123456789abcdef01234567";
        let of = |script: &str| revision(&system(script).path().join("link"));
        assert_eq!(of(&format!("echo {commit}")).unwrap(), commit);
        for (script, why) in [
            ("echo \"$0: configuration revision is unknown\"; exit 1", "configuration revision is unknown"),
            ("echo", "does not say it"),
            ("echo null", "does not say it"),
            ("echo 0123456789abcdef-dirty", "built with uncommitted changes on 0123456789abcdef"),
            ("echo main", "says \"main\", which is no commit"),
            ("echo --output=/etc/passwd", "which is no commit"),
            ("printf '\\033[2J'", "which is no commit"),
        ] {
            let error = of(script).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage);
            let text = error.to_string();
            assert!(text.contains(why) && !text.contains('\u{1b}'), "{script}: {text}");
        }
    }

    #[test]
    fn what_is_no_system_is_told_from_a_link_that_is_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let text = revision(&folder.path().join("none")).unwrap_err().to_string();
        assert!(text.contains("there is no such link"), "{text}");
        let text = revision(folder.path()).unwrap_err().to_string();
        assert!(text.contains("it is no NixOS system"), "{text}");
    }
}
