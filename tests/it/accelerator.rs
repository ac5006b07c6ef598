//! The choice of the accelerator on this very host, with the real QEMU.

use std::sync::{Arc, Mutex};

use nixvm_test::qemu::accelerator::{self, Accelerator};
use nixvm_test::{Error, ErrorKind, Event, Events, Speed};

use crate::again;
use crate::run_script::RunScript;

#[test]
fn the_choice_is_made_once() {
    let cache = tempfile::tempdir().unwrap();
    let mut choice = again::command("accelerator::choice");
    again::passes(choice.env("NIXVM_CACHE_DIR", cache.path()).env_remove("NIXVM_ACCELERATOR"));
}

/// The test, in a process of its own, since it sets variables.
#[test]
#[ignore = "is started by the test above"]
fn choice() {
    let cache = std::path::PathBuf::from(std::env::var_os("NIXVM_CACHE_DIR").unwrap());
    let script = RunScript::new(&format!(
        "printf x >>{}/starts; exec qemu-system-x86_64 -machine accel=kvm:tcg -cpu max -m 64 -net none -nographic \
         $QEMU_OPTS",
        cache.display()
    ));
    let vm = script.vm();
    let notes = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&notes);
    let events = Events::new(move |event| {
        if let Event::Note { text } = event {
            sink.lock().unwrap().push(text.clone());
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let choose = || runtime.block_on(accelerator::choose(&vm, &events));

    let first = choose().unwrap();
    // No kernel is there to speak: whatever this host is, that is no proof of KVM.
    assert_eq!(first.accelerator, Accelerator::Tcg, "{first:?}");
    let starts = || std::fs::read_to_string(cache.join("starts")).unwrap_or_default().len();
    let started = starts();
    assert_eq!(choose().unwrap(), first);
    assert_eq!(starts(), started, "it was tried again");
    let notes = notes.lock().unwrap().clone();
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(notes[0].contains("TCG") && notes[0].contains("kvm"), "{notes:?}");

    accelerator::record_speed(&vm, Accelerator::Tcg, Speed::new(12.0)).unwrap();
    assert_eq!(choose().unwrap().speed, Speed::new(12.0));

    // SAFETY: nothing else of this process reads the environment now: the runtime has one thread, and
    // machines are gone.
    unsafe { std::env::set_var("NIXVM_ACCELERATOR", "kvm") };
    let forced = choose().unwrap();
    assert_eq!((forced.accelerator, forced.speed), (Accelerator::Kvm, Speed::new(1.0)));
    unsafe { std::env::set_var("NIXVM_ACCELERATOR", "fast") };
    let error: Error = choose().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
}
