//! The system profile of a machine, and its Nix database.

use crate::machine::Machine;
use crate::machine::command_text::quoted;
use crate::machine::system::System;
use crate::{Error, ErrorKind, Result};

/// Prints each generation of the profile: its link, and the system that the link points to.
pub(super) const GENERATIONS: &str = "for l in /nix/var/nix/profiles/system-*-link; do \
                                      [ ! -L \"$l\" ] || printf '%s %s\\n' \"$l\" \"$(readlink \"$l\")\"; done";

/// Sets the profile, as `nix-env --set` does: a new generation, unless the profile has the system already; `$back` takes
/// an older one, as `nix-env --rollback` does. nix-env itself refuses a path that is not in the machine's database.
///
/// The profile of a VM is empty at first, unlike that of an installed machine, so it gets the booted system before.
const SET: &str = r#"p=/nix/var/nix/profiles
mkdir -p "$p"
b=$(readlink -e /run/booted-system || true)
if [ -n "$b" ] && [ ! -L "$p/system" ] && [ ! -L "$p/system-1-link" ]; then
  ln -s "$b" "$p/system-1-link"; ln -s system-1-link "$p/system"
fi
if [ "$(readlink -f "$p/system")" = "$t" ]; then exit 0; fi
last=0; old=
for l in "$p"/system-*-link; do
  n=${l##*/system-}; n=${n%-link}
  case $n in ''|*[!0-9]*) continue ;; esac
  [ "$n" -le "$last" ] || last=$n
  if [ -n "$back" ] && [ "$(readlink "$l")" = "$t" ]; then
    [ -n "$old" ] && [ "$old" -ge "$n" ] || old=$n
  fi
done
if [ -z "$old" ]; then old=$((last + 1)); ln -s "$t" "$p/system-$old-link"; fi
ln -sfn "system-$old-link" "$p/.nixvm-system"
mv -fT "$p/.nixvm-system" "$p/system""#;

impl Machine {
    /// Makes `system` the newest generation of the system profile; `back` takes an existing generation.
    pub(super) async fn set_profile(&self, system: &System, back: bool) -> Result {
        let path = match self.life().replay() {
            Some(_) => String::new(),
            None => system.path()?.display().to_string(),
        };
        let text = format!("t={} back={}\n{SET}", quoted(&path), if back { "1" } else { "" });
        let command = self.root().command(&text).named("set the system profile");
        let output =
            command.asked_as(format!("set the system profile to {}", system.name())).output().await?;
        if output.success() {
            return Ok(());
        }
        let summary = format!("{}: the system profile could not be set", self.name());
        Err(self.life().with_outputs(Error::new(ErrorKind::CommandFailed, summary), &output))
    }
}

/// Reads the printed generations, the oldest first.
pub(super) fn generations(printed: &str) -> Vec<(u64, String)> {
    let generation = |line: &str| {
        let (link, system) = line.split_once(' ')?;
        let number = link.rsplit_once("/system-")?.1.strip_suffix("-link")?;
        Some((number.parse().ok()?, system.to_owned()))
    };
    let mut generations: Vec<_> = printed.lines().filter_map(generation).collect();
    generations.sort();
    generations
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn generations_are_sorted_by_number() {
        let printed = "/nix/var/nix/profiles/system-10-link /nix/store/b\n/nix/var/nix/profiles/system-9-link \
                       /nix/store/a\n/nix/var/nix/profiles/system-x-link /nix/store/c\n";
        let expected = [(9, "/nix/store/a".to_owned()), (10, "/nix/store/b".to_owned())];
        assert_eq!(generations(printed), expected);
    }

    #[test]
    fn a_profile_gets_a_new_generation_and_goes_back_to_an_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let profiles = folder.path().join("profiles");
        let booted = folder.path().join("booted-system");
        let set = |target: &str, back: &str| {
            let script = SET.replace("/nix/var/nix/profiles", &profiles.display().to_string());
            let script = script.replace("/run/booted-system", &booted.display().to_string());
            let text = format!("set -euo pipefail\nt={target} back={back}\n{script}");
            let output = Command::new("bash").args(["-c", &text]).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let link = std::fs::read_link(profiles.join("system")).unwrap();
            link.display().to_string()
        };
        assert_eq!(set("/a", ""), "system-1-link");
        assert_eq!(set("/a", ""), "system-1-link", "the profile has it already");
        assert_eq!(set("/b", ""), "system-2-link");
        assert_eq!(set("/a", "1"), "system-1-link");
        assert_eq!(set("/c", "1"), "system-3-link", "there was no such generation");
        assert_eq!(set("/a", ""), "system-4-link", "a switch forward makes a new generation");
        assert_eq!(std::fs::read_link(profiles.join("system-4-link")).unwrap().display().to_string(), "/a");

        std::fs::remove_dir_all(&profiles).unwrap();
        let today = folder.path().join("today");
        std::fs::create_dir(&today).unwrap();
        std::os::unix::fs::symlink(&today, &booted).unwrap();
        let today = today.display().to_string();
        assert_eq!(set("/b", ""), "system-2-link", "the booted system is the first generation");
        assert_eq!(set(&today, "1"), "system-1-link");
        std::fs::remove_dir_all(&profiles).unwrap();
        assert_eq!(set(&today, ""), "system-1-link");
    }
}
