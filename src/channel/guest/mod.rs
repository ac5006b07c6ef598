//! What runs in the machine: a helper that is fetched into its memory, and a shell script for machines
//! where that can't run. Both speak the protocol of the control channel.

use sha2::{Digest, Sha256};

/// The program that serves the port: static, without a C library. Empty where it couldn't be compiled.
const HELPER: &[u8] = include_bytes!(env!("NIXVM_GUEST_HELPER"));

/// What makes itself a service, and then serves the port.
pub(crate) const SERVER: &str = concat!(include_str!("launch.sh"), include_str!("server.sh"));

/// What shows a text page by page and waits for a key, by the variables that name it: those of systemd, git, man and others
/// come before PAGER. Nobody is there to press the key, so each is `cat` for a command of a scenario.
pub(crate) const PAGERS: &str =
    "PAGER SYSTEMD_PAGER GIT_PAGER MANPAGER PSQL_PAGER AWS_PAGER GH_PAGER BAT_PAGER DELTA_PAGER";

/// The command of a shell that says so.
pub(crate) fn no_pager() -> String {
    PAGERS.split(' ').fold("export".to_owned(), |export, name| format!("{export} {name}=cat"))
}

/// Changes when something that runs in the machine does.
pub(crate) fn print() -> String {
    let mut hash = Sha256::new();
    hash.update(HELPER);
    hash.update(SERVER);
    crate::digest::hex(&hash.finalize(), 16)
}

/// The helper for a machine (its `uname -m`), if there is one.
pub(crate) fn helper_for(machine: &str) -> Option<&'static [u8]> {
    (!HELPER.is_empty() && machine == env!("NIXVM_GUEST_HELPER_MACHINE")).then_some(HELPER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_serves_the_channel_lets_no_pager_wait() {
        for script in [SERVER, include_str!("service.sh")] {
            assert!(script.contains(&no_pager()), "{}", no_pager());
        }
    }
}
