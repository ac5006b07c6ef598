//! Tests of what makes waiting pointless, and of what only looks like it.

use super::text::engine;
use crate::ErrorKind;
use crate::console::engine::Engine;
use crate::console::{Pattern, Watch};

fn fatal(watch: Watch, bytes: &[u8]) -> Option<ErrorKind> {
    let mut whole = Engine::new(1 << 16, watch, None);
    whole.push(bytes);
    let mut torn = Engine::new(1 << 16, watch, None);
    bytes.iter().for_each(|byte| {
        torn.push(&[*byte]);
    });
    assert_eq!(whole.fatal(), torn.fatal(), "chunks make no difference");
    whole.fatal().map(|fatal| fatal.kind)
}

const PANICS: [&[u8]; 5] = [
    b"[   12.345678] Kernel panic - not syncing: sysrq triggered crash\r\n",
    b"boot\r\n[    0.913400][    T1] Kernel panic - not syncing: VFS: Unable to mount root fs\r\n",
    b"[12345.345678][  C0] Kernel panic - not syncing: x\r\n",
    b"[alice@nixos:~]$ [  120.000001] Kernel panic - not syncing: in the middle of a prompt\r\n",
    b"\x1b[1m[    1.000000] \x1b[0mKernel panic - not syncing: coloured\r\n",
];

const NO_PANICS: [&[u8]; 6] = [
    b"the words Kernel panic - not syncing in the middle of a line\r\n",
    b"  Kernel panic - not syncing\r\n",
    b"[1.2] Kernel panic - not syncing: no time stamp of a kernel\r\n",
    b"[   .123456] Kernel panic - not syncing\r\n",
    b"[    1.000000][T] Kernel panic - not syncing\r\n",
    b"grep: Kernel panic - not syncing\r\n",
];

#[test]
fn a_kernel_panic_is_known_by_its_time_stamp_wherever_it_lands() {
    for bytes in PANICS {
        for watch in [Watch::Boot, Watch::Session] {
            assert_eq!(fatal(watch, bytes), Some(ErrorKind::KernelPanic), "{}", bytes.escape_ascii());
        }
        assert_eq!(fatal(Watch::Off, bytes), None);
    }
}

#[test]
fn a_command_that_prints_the_words_of_a_panic_does_not_fail_the_run() {
    for bytes in NO_PANICS {
        for watch in [Watch::Boot, Watch::Session] {
            assert_eq!(fatal(watch, bytes), None, "{}", bytes.escape_ascii());
        }
    }
}

#[test]
fn a_panic_without_a_time_stamp_is_at_the_start_of_a_line_and_needs_silence_in_a_session() {
    let bytes = b"# echo c > /proc/sysrq-trigger\r\nKernel panic - not syncing: sysrq\r\n";
    assert_eq!(fatal(Watch::Boot, bytes), Some(ErrorKind::KernelPanic));
    assert_eq!(fatal(Watch::Session, bytes), None);
    let mut engine = Engine::new(1 << 16, Watch::Session, None);
    engine.push(bytes);
    assert!(engine.suspicion().is_some());
    engine.push(b"CPU: 0 PID: 1\r\n---[ end Kernel panic - not syncing: sysrq ]---\r\n");
    assert!(engine.suspicion().is_some(), "the end mark of the panic is part of it");
    engine.push(b"$ ");
    assert!(engine.suspicion().is_none(), "something else came behind");
}

#[test]
fn a_guest_that_answers_afterwards_has_not_panicked() {
    let mut engine = Engine::new(1 << 16, Watch::Session, None);
    engine.begin(&["done".into()]);
    engine.push(b"Kernel panic - not syncing\r\ndone\r\nKernel panic - not syncing");
    assert!(engine.take_found().is_some());
    // The message is at the end for the second time, but it came together with the answer.
    engine.push(b"\r\n");
    assert!(engine.suspicion().is_none());
}

#[test]
fn emergency_mode_fails_a_boot_and_only_a_boot() {
    for bytes in [
        &b"\r\nYou are in emergency mode. After logging in, type \"journalctl -xb\"\r\n"[..],
        b"\r\nCannot open access to console, the root account is locked.\r\n",
    ] {
        assert_eq!(fatal(Watch::Boot, bytes), Some(ErrorKind::EmergencyMode));
        assert_eq!(fatal(Watch::Session, bytes), None);
    }
    assert_eq!(fatal(Watch::Boot, b"echo You are in emergency mode\r\n"), None);
}

#[test]
fn what_came_before_the_panic_is_still_found() {
    let mut engine = Engine::new(1 << 16, Watch::Session, None);
    engine.begin(&["login: ".into()]);
    engine.push(b"login: \r\n[    1.000000] Kernel panic - not syncing: x\r\n");
    assert!(engine.take_found().is_some());
    let mut engine = Engine::new(1 << 16, Watch::Session, None);
    engine.begin(&["login: ".into()]);
    engine.push(b"[    1.000000] Kernel panic - not syncing: x\r\nlogin: ");
    assert!(engine.take_found().is_none());
}

#[test]
fn a_new_boot_begins_with_a_clean_slate() {
    let mut engine = engine(PANICS[0]);
    assert!(engine.fatal().is_some());
    engine.set_watch(Watch::Boot);
    assert!(engine.fatal().is_none());
    engine.begin(&[Pattern::from("login: ")]);
    engine.push(b"login: ");
    assert!(engine.take_found().is_some());
}

#[test]
fn a_booting_guest_gets_the_answers_of_a_terminal_and_a_session_none() {
    let ask = b"\x1b[18t\x1b[6n\x1b[32766;32766H\x1b[6n\x1bP+q544e\x1b\\\x1b[c";
    let answers = b"\x1b[8;24;80t\x1b[1;1R\x1b[24;80R\x1bP0+r\x1b\\\x1b[?62c";
    assert_eq!(engine(ask).take_answers(), answers);
    let mut session = Engine::new(1 << 16, Watch::Session, None);
    session.push(ask);
    assert_eq!(session.take_answers(), b"");
    let many = b"\x1b[6n".repeat(10_000);
    assert!(engine(&many).take_answers().len() <= 256, "a guest that only asks");
}
