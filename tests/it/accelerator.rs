//! The choice of the accelerator, by what the environment and this very host say.

use std::sync::{Arc, Mutex};

use nixvm_test::internals::qemu::{Accelerator, accelerator};
use nixvm_test::internals::{Event, Events};
use nixvm_test::{ErrorKind, Speed};

use crate::again;
use crate::run_script::RunScript;

#[test]
fn the_choice_starts_nothing_and_follows_the_variable() {
    let cache = tempfile::tempdir().unwrap();
    let mut choice = again::command("accelerator::choice");
    again::passes(choice.env("NIXVM_CACHE_DIR", cache.path()).env_remove("NIXVM_ACCELERATOR"));
}

/// The test, in a process of its own, since it sets variables.
#[test]
#[ignore = "is started by the test above"]
fn choice() {
    let cache = std::path::PathBuf::from(std::env::var_os("NIXVM_CACHE_DIR").unwrap());
    let script = RunScript::new(&format!("touch {}/started", cache.display()));
    let vm = script.vm();
    let notes = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&notes);
    let events = Events::new(move |event| {
        if let Event::Note { text } = event {
            sink.lock().unwrap().push(text.clone());
        }
    });
    let choose = || accelerator::choose(&vm, &events);

    let opens = std::fs::File::options().read(true).write(true).open("/dev/kvm").is_ok();
    let first = choose().unwrap();
    assert_eq!(first.accelerator, if opens { Accelerator::Kvm } else { Accelerator::Tcg }, "{first:?}");
    assert_eq!(choose().unwrap(), first);
    // That KVM is tried is no news; that there is none is.
    assert_eq!(notes.lock().unwrap().len(), usize::from(!opens));

    accelerator::record_speed(&vm, Accelerator::Tcg, Speed::new(12.0)).unwrap();
    // SAFETY: nothing else of this process reads the environment now.
    unsafe { std::env::set_var("NIXVM_ACCELERATOR", "tcg") };
    let forced = choose().unwrap();
    assert_eq!((forced.accelerator, forced.speed), (Accelerator::Tcg, Speed::new(12.0)));
    unsafe { std::env::set_var("NIXVM_ACCELERATOR", "kvm") };
    let forced = choose().unwrap();
    assert_eq!((forced.accelerator, forced.speed), (Accelerator::Kvm, Speed::new(1.0)));
    unsafe { std::env::set_var("NIXVM_ACCELERATOR", "fast") };
    assert_eq!(choose().unwrap_err().kind(), ErrorKind::Usage);
    assert!(!cache.join("started").exists());
    assert_eq!(accelerator::forget().unwrap(), 0);
}
