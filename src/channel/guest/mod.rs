//! The code that runs in the machine: a helper that is loaded into its memory, and a shell script for machines that
//! can't run the helper. Both speak the protocol of the control channel.

use sha2::{Digest, Sha256};

/// The program that serves the port: static, without a C library. Empty if it could not be compiled.
const HELPER: &[u8] = include_bytes!(env!("NIXVM_GUEST_HELPER"));

/// The script that makes itself a service, and then serves the port.
pub(crate) const SERVER: &str = concat!(include_str!("launch.sh"), include_str!("server.sh"));

/// Variables that name a pager, a program that shows text page by page and waits for a key. systemd, git, man and
/// others read their own before PAGER. No one can press the key in a scenario, so each is `cat` for its commands.
pub(crate) const PAGERS: &str =
    "PAGER SYSTEMD_PAGER GIT_PAGER MANPAGER PSQL_PAGER AWS_PAGER GH_PAGER BAT_PAGER DELTA_PAGER";

/// Returns the shell command that sets them.
pub(crate) fn no_pager() -> String {
    PAGERS.split(' ').fold("export".to_owned(), |export, name| format!("{export} {name}=cat"))
}

/// Returns a text that changes with the code that runs in the machine.
pub(crate) fn print() -> String {
    let mut hash = Sha256::new();
    hash.update(HELPER);
    hash.update(SERVER);
    crate::digest::hex(&hash.finalize(), 16)
}

/// Returns the helper for a machine (its `uname -m`), if there is one.
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
