//! Tests of the reaction to a failed boot, by the kind of failure.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Arc;

use super::*;
use crate::error::Doubt;
use crate::qemu::Exit;

/// A freshly booted host.
struct Host {
    folder: tempfile::TempDir,
    device: PathBuf,
    vm: BuiltVm,
    notes: Arc<Mutex<Vec<String>>>,
    told: &'static NotedLines,
}

impl Host {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("run-nixos-vm");
        nixvm_fake_guest::write_executable(&script, "#!/bin/sh\n").unwrap();
        let device = folder.path().join("kvm");
        std::fs::write(&device, "").unwrap();
        Self {
            device,
            vm: BuiltVm::open(script).unwrap(),
            notes: Arc::default(),
            told: Box::leak(Box::default()),
            folder,
        }
    }

    fn memory(&self) -> Memory {
        Memory::of(&self.vm, &self.folder.path().join("cache"))
    }

    fn trial(&self, wish: Wish) -> Trial {
        let notes = Arc::clone(&self.notes);
        let events = Events::new(move |event| notes.lock().unwrap().push(format!("{event:?}")));
        Trial::with(self.memory(), &self.device, wish, &events, self.told)
    }

    /// Returns the accelerator of the next machine.
    fn next(&self) -> Accelerator {
        self.trial(Wish::None).choice().accelerator
    }

    fn notes(&self) -> Vec<String> {
        std::mem::take(&mut *self.notes.lock().unwrap())
    }
}

/// QEMU ended with this output.
fn ended(status: i32, stderr: &str) -> Error {
    Exit {
        status: ExitStatus::from_raw(status),
        stderr: stderr.to_owned(),
        script: String::new(),
        killed: false,
    }
    .error("web: QEMU ended")
}

/// The guest fell silent.
fn silent() -> Error {
    Error::new(ErrorKind::BootStalled, "web: the boot stopped").doubted(Some(Doubt::Suspected))
}

const ABORTED: i32 = 6 | 0x80;
const FAILED: i32 = 1 << 8;
const MSR: &str = "qemu-kvm: error: failed to set MSR 0x10a to 0x0";
const BUSY: &str = "ioctl(KVM_CREATE_VM) failed: 16 Device or resource busy\n\
                    qemu-system-x86_64: failed to initialize kvm: Device or resource busy";

#[test]
fn a_login_prompt_proves_kvm_and_is_told_and_remembered() {
    let host = Host::new();
    let trial = host.trial(Wish::None);
    assert_eq!(trial.choice().accelerator, Accelerator::Kvm);
    assert!(trial.choice().is_tried());
    assert!(host.notes().is_empty(), "nothing is known yet");
    trial.succeeded(Speed::new(1.0));
    let notes = host.notes();
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(notes[0].contains("run under KVM: a guest reached its login prompt"), "{notes:?}");
    assert!(!host.trial(Wish::None).choice().is_tried());
    // Later failures are the guest's own.
    let mut later = host.trial(Wish::None);
    let error = later.failed(silent()).unwrap_err();
    assert!(error.doubt().is_none());
    assert_eq!(host.next(), Accelerator::Kvm);
}

#[test]
fn another_machine_may_prove_it_meanwhile() {
    let host = Host::new();
    let (one, mut other) = (host.trial(Wish::None), host.trial(Wish::None));
    one.succeeded(Speed::new(1.0));
    other.overruled().unwrap();
    assert!(other.failed(silent()).is_err());
    assert_eq!(host.next(), Accelerator::Kvm);
}

#[test]
fn what_kvm_says_of_itself_means_tcg_until_the_host_is_booted_again() {
    for words in [
        "KVM internal error. Suberror: 1\nEAX=00000000",
        "KVM: entry failed, hardware error 0x7",
        "error: kvm run failed Function not implemented",
        "qemu-system-x86_64: -machine accel=kvm: invalid accelerator kvm",
    ] {
        let host = Host::new();
        let mut trial = host.trial(Wish::None);
        trial.failed(ended(FAILED, words)).unwrap();
        assert_eq!(
            (trial.choice().accelerator, host.next()),
            (Accelerator::Tcg, Accelerator::Tcg),
            "{words}"
        );
        // The same holds if the guest fails under TCG, which says nothing about KVM.
        assert!(trial.failed(silent()).is_err());
        assert_eq!(host.next(), Accelerator::Tcg, "{words}");
        let line = words.lines().next().unwrap();
        let notes = host.notes().concat();
        assert!(notes.contains(line) && notes.contains("NIXVM_ACCELERATOR=kvm"), "{notes}");
    }
}

#[test]
fn a_silent_boot_means_tcg_once_tcg_has_shown_that_the_guest_is_fine() {
    let host = Host::new();
    let mut trial = host.trial(Wish::None);
    trial.failed(silent()).unwrap();
    assert_eq!(trial.choice().accelerator, Accelerator::Tcg);
    assert_eq!(host.notes().len(), 1);
    assert_eq!(host.next(), Accelerator::Tcg, "others do not try it meanwhile");
    trial.succeeded(Speed::new(8.0));
    assert_eq!(host.next(), Accelerator::Tcg);

    let host = Host::new();
    let mut trial = host.trial(Wish::None);
    trial.failed(silent()).unwrap();
    let error = trial.failed(silent()).unwrap_err();
    assert!(error.to_string().contains("under KVM, earlier"), "{error}");
    assert_eq!(host.next(), Accelerator::Kvm, "the guest fails by itself");
}

#[test]
fn a_guest_that_was_not_waited_for_is_never_remembered_as_one_that_kvm_does_not_run() {
    let host = Host::new();
    let mut trial = host.trial(Wish::None).on_a_host_that_emulates(true);
    assert!(
        trial.choice().is_hasty() && !host.trial(Wish::Kvm).on_a_host_that_emulates(true).choice().is_hasty()
    );
    trial.failed(silent().doubted(Some(Doubt::Hasty))).unwrap();
    trial.succeeded(Speed::new(8.0));
    assert_eq!(host.next(), Accelerator::Tcg, "for a while");
    let findings = host.folder.path().join("cache");
    let mut files = std::fs::read_dir(&findings).unwrap().map(|entry| entry.unwrap().path());
    let finding = files.find(|path| path.to_string_lossy().ends_with("-kvm.json")).unwrap();
    let text = std::fs::read_to_string(&finding).unwrap();
    std::fs::write(&finding, text.replace(r#""until":"#, r#""until":1,"was":"#)).unwrap();
    let mut trial = host.trial(Wish::None).on_a_host_that_emulates(true);
    assert_eq!((trial.choice().is_tried(), trial.choice().is_hasty()), (true, false));
    trial.failed(silent()).unwrap();
    trial.succeeded(Speed::new(8.0));
    assert!(!host.trial(Wish::None).choice().is_tried(), "now it was waited for");
}

#[test]
fn another_machine_that_runs_under_tcg_says_nothing_of_the_one_that_fell_silent() {
    let host = Host::new();
    let mut silent_one = host.trial(Wish::None);
    silent_one.failed(silent()).unwrap();
    // Another VM with the same kernel, started in the meantime.
    let other = host.trial(Wish::None);
    assert_eq!(other.choice().accelerator, Accelerator::Tcg);
    other.succeeded(Speed::new(8.0));
    assert!(silent_one.failed(silent()).is_err());
    assert_eq!(host.next(), Accelerator::Kvm, "the guest fails by itself");
}

#[test]
fn what_belongs_to_the_moment_is_not_remembered() {
    for words in [
        BUSY,
        "qemu-kvm: failed to initialize kvm: Cannot allocate memory",
        "Could not access KVM kernel module: Permission denied\nqemu-kvm: failed to initialize kvm: Permission denied",
        "error: kvm run failed Cannot allocate memory",
    ] {
        let host = Host::new();
        let mut trial = host.trial(Wish::None);
        trial.failed(ended(FAILED, words)).unwrap();
        assert_eq!(trial.choice().accelerator, Accelerator::Tcg, "{words}");
        trial.succeeded(Speed::new(8.0));
        assert_eq!(host.next(), Accelerator::Kvm, "{words}");
    }
}

#[test]
fn a_full_disk_under_the_guests_ram_is_no_matter_of_kvm() {
    for wish in [Wish::None, Wish::Kvm] {
        let host = Host::new();
        let summary = "web: QEMU stopped the guest: error: kvm run failed Bad address";
        let error = Error::new(ErrorKind::GuestStopped, summary).doubted(Some(Doubt::Passing));
        let error = host.trial(wish).failed(error).unwrap_err();
        assert!(error.doubt().is_none() && lacks_room(&error));
        assert_eq!(host.next(), Accelerator::Kvm);
    }
}

#[test]
fn what_has_nothing_to_do_with_kvm_is_the_machines_failure() {
    for words in [
        "qemu-kvm: -netdev user,id=user.0,hostfwd=tcp::8080-:80: Could not set up host forwarding rule 'tcp::8080-:80'",
        "qemu-kvm: -frobnicate: invalid option",
        "qemu-kvm: cannot set up guest memory 'pc.ram': Cannot allocate memory",
        "qemu-img: No space left on device",
        "bzImage: could not be loaded",
    ] {
        let host = Host::new();
        assert!(host.trial(Wish::None).failed(ended(FAILED, words)).is_err(), "{words}");
        assert_eq!(host.next(), Accelerator::Kvm, "{words}");
        assert!(host.notes().is_empty());
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn where_kvm_lacks_a_part_of_the_processor_the_guest_gets_less() {
    let host = Host::new();
    let mut trial = host.trial(Wish::None);
    trial.failed(ended(ABORTED, MSR)).unwrap();
    let less = trial.choice().clone();
    assert_eq!((less.accelerator, less.cpu), (Accelerator::Kvm, Some("max,arch-capabilities=off")));
    assert!(host.notes().is_empty(), "nothing is known yet");
    trial.succeeded(Speed::new(1.0));
    let notes = host.notes().concat();
    assert!(
        notes.contains("under KVM with -cpu max,arch-capabilities=off") && notes.contains("0x10a"),
        "{notes}"
    );
    let next = host.trial(Wish::None);
    assert_eq!((next.choice().cpu, next.choice().is_tried()), (less.cpu, false));
    assert_eq!(host.trial(Wish::Kvm).choice().cpu, less.cpu);
    let told = host.notes().concat();
    assert!(told.is_empty() || told.contains("-cpu max"), "{told}");

    // Nothing runs: the error quotes each of the messages.
    let host = Host::new();
    let mut trial = host.trial(Wish::None);
    trial.failed(ended(ABORTED, MSR)).unwrap();
    trial.failed(ended(ABORTED, MSR)).unwrap();
    assert!(trial.choice().cpu.is_some_and(|cpu| cpu.contains("pmu=off,vmx=off,svm=off")));
    trial.failed(ended(ABORTED, "qemu-kvm: error: failed to set MSR 0x480 to 0x0")).unwrap();
    assert_eq!((trial.choice().accelerator, host.next()), (Accelerator::Tcg, Accelerator::Tcg));
    let notes = host.notes().concat();
    assert!(notes.contains("0x480") && notes.contains("0x10a") && notes.contains("svm=off"), "{notes}");
}

#[test]
fn one_who_waited_for_a_trial_that_failed_does_not_try_again() {
    let host = Host::new();
    let (mut one, mut other) = (host.trial(Wish::None), host.trial(Wish::None));
    one.failed(silent()).unwrap();
    let error = other.overruled().unwrap_err();
    other.failed(error).unwrap();
    assert_eq!(other.choice().accelerator, Accelerator::Tcg);
    assert!(other.overruled().is_ok());
}

#[test]
fn kvm_as_a_promise_is_never_emulated_and_says_what_is_wrong() {
    let host = Host::new();
    let mut trial = host.trial(Wish::Kvm);
    let error = trial.failed(ended(FAILED, BUSY)).unwrap_err();
    assert!(error.doubt().is_some(), "booting it again would end in the same");
    let text = error.to_string();
    for part in ["VirtualBox", "NIXVM_ACCELERATOR is kvm", "next: ", "unset NIXVM_ACCELERATOR", "doctor"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let silence = trial.failed(silent().likely_cause("no console").next_step("add one")).unwrap_err();
    assert_eq!(silence.kind(), ErrorKind::BootStalled);
    let (cause, next) = silence.advice();
    assert_eq!(cause, Some("KVM of this host may not run this guest; or no console"));
    assert!(
        next.is_some_and(|next| next.contains("doctor --kvm") && next.ends_with("or add one")),
        "{next:?}"
    );
    assert!(silence.to_string().contains("NIXVM_ACCELERATOR=tcg the same boot shows which"), "{silence}");
    assert_eq!(trial.choice().accelerator, Accelerator::Kvm);

    std::fs::remove_file(&host.device).unwrap();
    let mut trial = host.trial(Wish::Kvm);
    let words = "Could not access KVM kernel module: No such file or directory";
    let text = trial.failed(ended(FAILED, words)).unwrap_err().to_string();
    assert!(text.contains("likely cause: there is no "), "{text}");
    assert_eq!(host.trial(Wish::Tcg).choice().accelerator, Accelerator::Tcg);
}

#[test]
fn kvm_as_a_promise_that_tcg_has_shown_to_be_broken_is_the_cause() {
    let host = Host::new();
    let mut trial = host.trial(Wish::None);
    trial.failed(ended(FAILED, "KVM internal error. Suberror: 1")).unwrap();
    let silence = host.trial(Wish::Kvm).failed(silent()).unwrap_err();
    let cause = silence.advice().0.unwrap();
    assert!(cause.contains("as an earlier boot showed: KVM internal error"), "{cause}");
    // Its services run, so KVM is not the likely cause.
    let error = Error::new(ErrorKind::NoLoginPrompt, "web: no getty").doubted(Some(Doubt::Suspected));
    let error = host.trial(Wish::Kvm).failed(error.likely_cause("no getty")).unwrap_err();
    assert_eq!(error.advice().0, Some("no getty"));
}

#[test]
fn a_passing_failure_is_told_with_its_cause_and_with_what_to_do() {
    let denied = "Could not access KVM kernel module: Permission denied\nqemu-kvm: failed to initialize kvm: Permission denied";
    for (words, cause, next) in [
        (BUSY, "another hypervisor uses the processor's virtualization", "end the machines of"),
        (denied, "no permission to open", "kvm"),
        (
            "qemu-kvm: kvm_init_vcpu: kvm_get_vcpu failed (0): Too many open files",
            "create a virtual processor",
            "dmesg",
        ),
    ] {
        let host = Host::new();
        host.trial(Wish::None).failed(ended(FAILED, words)).unwrap();
        let notes = host.notes().concat();
        assert!(notes.contains(cause) && notes.contains(next), "{notes}");
    }
}

#[test]
fn without_the_device_nothing_is_tried() {
    let host = Host::new();
    std::fs::remove_file(&host.device).unwrap();
    let trial = host.trial(Wish::None);
    assert_eq!((trial.choice().accelerator, trial.choice().is_tried()), (Accelerator::Tcg, false));
    assert!(trial.choice().reason.starts_with("there is no "), "{:?}", trial.choice());
}

#[test]
fn the_choice_is_told_once() {
    let host = Host::new();
    let told = Choice { tried: false, ..Choice::of(Accelerator::Tcg, None, "of a test", &host.memory()) };
    let notes = Arc::clone(&host.notes);
    let events = Events::new(move |event| notes.lock().unwrap().push(format!("{event:?}")));
    note_once(&told, &events, host.told);
    note_once(&told, &events, host.told);
    let notes = host.notes();
    assert_eq!(notes.len(), 1);
    assert!(notes[0].contains("TCG") && notes[0].contains("of a test"), "{notes:?}");
}
