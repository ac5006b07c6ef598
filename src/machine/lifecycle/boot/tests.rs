//! First boots with the fake guest, on hosts with working and with broken KVM.

use std::sync::Mutex as StdMutex;
use std::time::Instant;

use nixvm_fake_guest::FakeVm;

use super::*;
use crate::ErrorKind;
use crate::hang::HANG;
use crate::qemu::Accelerator;

/// A freshly booted host.
struct Host {
    folder: tempfile::TempDir,
    events: Arc<StdMutex<Vec<(Instant, Event)>>>,
    /// The contents of the kept files at the time of the event.
    kept: Arc<StdMutex<Vec<String>>>,
}

impl Host {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), events: Arc::default(), kept: Arc::default() }
    }

    fn write(&self, vm: FakeVm) -> BuiltVm {
        BuiltVm::open(vm.write_to(self.folder.path())).unwrap()
    }

    fn options(&self) -> MachineOptions {
        let (events, kept) = (Arc::clone(&self.events), Arc::clone(&self.kept));
        MachineOptions::new("web").events(Events::new(move |event| {
            if let Event::FileKept { path, kind: FileKind::Log, .. } = event {
                kept.lock().unwrap().push(std::fs::read_to_string(path).unwrap());
            }
            events.lock().unwrap().push((Instant::now(), event.clone()));
        }))
    }

    async fn boot(&self, vm: &BuiltVm, options: MachineOptions) -> Result<Machine> {
        let trial = Trial::on_a_host(vm, self.folder.path(), false, &options.events);
        Machine::tried(vm, options, trial).await
    }

    /// Returns the events since the last call.
    fn events(&self) -> Vec<(Instant, Event)> {
        std::mem::take(&mut *self.events.lock().unwrap())
    }

    /// Returns how many machines were reported as gone since the last call.
    fn stops(&self) -> usize {
        let is_stop = |(_, event): &&(Instant, Event)| matches!(event, Event::MachineStopped { .. });
        self.events.lock().unwrap().iter().filter(is_stop).count()
    }

    /// Returns how many times QEMU was started since the last call, and the notes.
    fn told(&self) -> (usize, Vec<String>) {
        let (mut starts, mut notes) = (0, Vec::new());
        for (_, event) in self.events() {
            match event {
                Event::MachineStarted { .. } => starts += 1,
                Event::Note { text } => notes.push(text),
                _ => {}
            }
        }
        (starts, notes)
    }
}

#[tokio::test]
async fn a_kvm_that_works_costs_no_boot_of_its_own() {
    let host = Host::new();
    let vm = host.write(FakeVm::new());
    for _ in 0..2 {
        let machine = host.boot(&vm, host.options()).await.unwrap();
        assert_eq!(machine.qemu().accelerator(), Accelerator::Kvm);
        let (starts, notes) = host.told();
        assert_eq!((starts, notes.len()), (1, 1), "{notes:?}");
        machine.stop().await;
    }
}

#[tokio::test]
async fn a_boot_loader_whose_kernel_says_nothing_proves_kvm_as_well() {
    let host = Host::new();
    let vm = host.write(FakeVm::new().setting("loader", "yes"));
    let machine = host.boot(&vm, host.options()).await.unwrap();
    assert_eq!(machine.qemu().accelerator(), Accelerator::Kvm);
    assert_eq!(host.told().0, 1);
    machine.stop().await;
}

#[tokio::test]
async fn where_kvm_aborts_the_machine_boots_under_tcg_and_so_do_the_next_ones_at_once() {
    let host = Host::new();
    let vm = host.write(FakeVm::new().setting("kvm", "abort"));
    let machine = host.boot(&vm, host.options()).await.unwrap();
    assert_eq!(machine.qemu().accelerator(), Accelerator::Tcg);
    assert_eq!(host.stops() + 1, if cfg!(target_arch = "x86_64") { 4 } else { 2 }, "all but the last");
    let (starts, notes) = host.told();
    assert_eq!(starts, if cfg!(target_arch = "x86_64") { 4 } else { 2 });
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(notes[0].contains("failed to set MSR 0x10a"), "{notes:?}");
    machine.stop().await;
    let machine = host.boot(&vm, host.options()).await.unwrap();
    assert_eq!(machine.qemu().accelerator(), Accelerator::Tcg);
    assert_eq!(host.told().0, 1);
    machine.stop().await;
}

#[tokio::test]
#[cfg(target_arch = "x86_64")]
async fn a_machine_that_runs_with_less_of_the_processor_has_it_when_it_is_started_again() {
    let host = Host::new();
    let vm = host.write(FakeVm::new().setting("kvm", "msr"));
    let machine = host.boot(&vm, host.options()).await.unwrap();
    let (starts, notes) = host.told();
    assert_eq!(starts, 2);
    assert!(notes.len() == 1 && notes[0].contains("-cpu max,arch-capabilities=off"), "{notes:?}");
    let less = Some("max,arch-capabilities=off");
    assert_eq!((machine.qemu().accelerator(), machine.qemu().cpu()), (Accelerator::Kvm, less));
    machine.crash().await;
    machine.start().await.unwrap();
    assert_eq!((machine.qemu().accelerator(), machine.qemu().cpu()), (Accelerator::Kvm, less));
    machine.stop().await;
    let machine = host.boot(&vm, host.options()).await.unwrap();
    assert_eq!((host.told().0, machine.qemu().cpu()), (2, less), "one start after the crash, and one now");
    machine.stop().await;
}

#[tokio::test]
async fn another_hypervisor_is_waited_for_by_nobody_and_remembered_by_nobody() {
    let host = Host::new();
    let vm = host.write(FakeVm::new().setting("kvm", "busy"));
    for _ in 0..2 {
        let machine = host.boot(&vm, host.options()).await.unwrap();
        assert_eq!(machine.qemu().accelerator(), Accelerator::Tcg);
        assert_eq!(host.stops(), 1);
        let (starts, notes) = host.told();
        assert_eq!(starts, 2, "KVM is tried each time");
        let known =
            |note: &String| note.contains("another hypervisor") && note.contains("end the machines of");
        assert!(notes.iter().any(known), "{notes:?}");
        machine.stop().await;
        host.events();
    }
}

#[tokio::test]
async fn what_has_nothing_to_do_with_kvm_is_the_machines_failure_at_once() {
    let host = Host::new();
    let words = "qemu-kvm: -netdev user,id=user.0,hostfwd=tcp::8080-:80: Could not set up host forwarding rule 'tcp::8080-:80'";
    let vm = host.write(FakeVm::new().setting("die", "start").setting("die-text", words));
    let error = host.boot(&vm, host.options()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::QemuGone, "{error}");
    let (starts, notes) = host.told();
    assert_eq!((starts, notes.len()), (1, 0), "{notes:?}");
}

/// Boots a guest that hangs under KVM, and boots under TCG.
async fn boot_of_one_that_hangs(host: &Host, options: MachineOptions) -> Result<Machine> {
    let vm = host.write(FakeVm::new().setting("kvm", "hang"));
    // The limit ends the first boot; the second has sixty times as much.
    let trial = Trial::on_a_host(&vm, host.folder.path(), false, &options.events);
    trial.measured(Accelerator::Tcg, Speed::new(60.0));
    Machine::tried(&vm, options.boot_limit(Duration::from_secs(1)), trial).await
}

/// Both guests use their processor all the time.
#[tokio::test]
async fn a_guest_that_stands_on_one_instruction_is_given_up_and_one_that_is_slow_is_not() {
    let given_up = async {
        let host = Host::new();
        let vm = host.write(FakeVm::new().setting("kvm", "stuck"));
        let machine = host.boot(&vm, host.options()).await.unwrap();
        let notes = host.told().1;
        assert_eq!(machine.qemu().accelerator(), Accelerator::Tcg);
        assert!(notes.len() == 1 && notes[0].contains("its processor stands still"), "{notes:?}");
        machine.stop().await;
        let again = Trial::on_a_host(&vm, host.folder.path(), false, &Events::none());
        assert_eq!(again.choice().accelerator, Accelerator::Tcg, "TCG has shown that the guest is fine");
    };
    let waited_for = async {
        let host = Host::new();
        let vm = host.write(FakeVm::new().setting("kvm", "late"));
        let machine = host.boot(&vm, host.options()).await.unwrap();
        assert_eq!(machine.qemu().accelerator(), Accelerator::Kvm);
        machine.stop().await;
    };
    // Little time is left, and this host's KVM hardly ever runs a guest.
    let hurried = async {
        let host = Host::new();
        let vm = host.write(FakeVm::new().setting("kvm", "late"));
        let trial = Trial::on_a_host(&vm, host.folder.path(), false, &host.options().events);
        let machine = Machine::tried(&vm, host.options(), trial.on_a_host_that_emulates(true)).await.unwrap();
        let notes = host.told().1;
        assert!(notes.len() == 1 && notes[0].contains("within 8 s"), "{notes:?}");
        assert_eq!(machine.qemu().accelerator(), Accelerator::Tcg);
        machine.stop().await;
    };
    tokio::join!(given_up, waited_for, hurried);
}

#[tokio::test]
async fn a_boot_that_hangs_under_kvm_is_one_note_and_its_console_is_kept_apart() {
    let host = Host::new();
    let machine = boot_of_one_that_hangs(&host, host.options()).await.unwrap();
    assert_eq!(machine.qemu().accelerator(), Accelerator::Tcg);
    let (mut notes, mut phases, mut kept, mut stopped) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for (_, event) in host.events() {
        match event {
            Event::Note { text } => notes.push(text),
            Event::Phase { phase, .. } => phases.push(phase),
            Event::FileKept { path, kind: FileKind::Log, .. } => kept.push(path),
            Event::MachineStopped { .. } => stopped += 1,
            _ => {}
        }
    }
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(notes[0].contains("TCG") && notes[0].contains("NIXVM_ACCELERATOR=kvm"), "{notes:?}");
    assert_eq!((stopped, kept.len()), (1, 1));
    let said = host.kept.lock().unwrap().concat();
    assert!(said.contains("SeaBIOS") && !said.contains("Linux version"), "{said}");
    let (own, its) = (machine.run_directory().to_owned(), kept[0].parent().unwrap());
    assert!(its != own && its.parent() == own.parent(), "{}", its.display());
    assert!(!its.exists(), "nothing of the boot that does not count is left");
    assert!(!notes[0].contains("its console"), "{notes:?}");
    machine.console().flush();
    let said = std::fs::read_to_string(own.join("transcript")).unwrap();
    assert_eq!(said.matches("SeaBIOS").count(), 1, "the transcript of the boot that counts: {said}");
    assert_eq!(phases.iter().filter(|phase| *phase == "login prompt").count(), 1, "{phases:?}");
    machine.stop().await;
}

#[tokio::test]
async fn a_disk_that_is_kept_is_what_it_was_before_the_boot_that_did_not_count() {
    let host = Host::new();
    let image = host.folder.path().join("kept.qcow2");
    let vm = host.write(FakeVm::new().setting("kvm", "hang"));
    // Each boot leaves a trace.
    let script = vm.script().canonicalize().unwrap();
    let text = std::fs::read_to_string(&script).unwrap();
    let uses = "echo booted >>\"$NIX_DISK_IMAGE\"\nexec ";
    nixvm_fake_guest::write_executable(&script, text.replacen("exec ", uses, 1)).unwrap();
    let vm = BuiltVm::open(script).unwrap();
    let disk = || Disk::Kept { image: image.clone(), strict: true };
    // The first boot creates the image, the second one reuses it; KVM is tried before each.
    for times in 1..=2 {
        let options = host.options().disk(disk()).boot_limit(Duration::from_secs(1));
        let trial =
            Trial::on_a_host(&vm, &host.folder.path().join(times.to_string()), false, &options.events);
        trial.measured(Accelerator::Tcg, Speed::new(60.0));
        let machine = Machine::tried(&vm, options, trial).await.unwrap();
        let (starts, notes) = host.told();
        assert_eq!((machine.qemu().accelerator(), starts), (Accelerator::Tcg, 2));
        let (_, transcript) = notes[0].split_once("its console: ").unwrap();
        let transcript = Path::new(transcript.split(' ').next().unwrap());
        assert!(std::fs::read_to_string(transcript).unwrap().contains("SeaBIOS"));
        std::fs::remove_dir_all(transcript.parent().unwrap()).unwrap();
        machine.stop().await;
        let left = std::fs::read_to_string(&image).unwrap();
        assert_eq!(left, format!("fake disk\n{}", "booted\n".repeat(times)));
    }
    let names = std::fs::read_dir(host.folder.path()).unwrap();
    let left = names.filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().contains("kept"));
    assert_eq!(left.count(), 2, "the image, and the file beside it");
}

/// The host's kernel can't enter the guest, once, and not at the beginning.
#[tokio::test]
async fn a_machine_is_not_started_again_on_a_disk_that_was_not_put_back() {
    let words = "error: kvm run failed Cannot allocate memory";
    for is_kept in [true, false] {
        let host = Host::new();
        let vm = host.write(FakeVm::new());
        let proves = host.boot(&vm, host.options()).await.unwrap();
        proves.stop().await;
        let halts = FakeVm::new().setting("halt", "kernel").setting("halt-text", words);
        let report = host.folder.path().join("report").display().to_string();
        let vm = host.write(halts.setting("halt-once", "yes").setting("report", &report));
        host.events();
        let image = host.folder.path().join("kept.qcow2");
        let kept = Disk::Kept { image, strict: true };
        let disk = if is_kept { kept } else { Disk::Fresh };
        let booted = host.boot(&vm, host.options().disk(disk)).await;
        let starts = host.told().0;
        match booted {
            Err(error) => {
                assert!(is_kept && error.to_string().contains(words), "{error}");
                assert_eq!(starts, 1);
            }
            Ok(machine) => {
                assert_eq!((is_kept, starts), (false, 2));
                machine.stop().await;
            }
        }
    }
}

#[tokio::test]
async fn a_guest_that_fails_under_tcg_too_fails_by_itself_and_kvm_is_tried_again() {
    let host = Host::new();
    let vm = host.write(FakeVm::new().setting("stall", "kernel"));
    for _ in 0..2 {
        let options = host.options().boot_limit(Duration::from_millis(10));
        let error = host.boot(&vm, options).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        assert!(error.to_string().contains("under KVM, earlier"), "{error}");
        assert_eq!(host.told().0, 2);
    }
}

#[tokio::test]
async fn the_run_scripts_time_is_not_the_guests() {
    let host = Host::new();
    let vm = host.write(FakeVm::new());
    let go = host.folder.path().join("go");
    let script = vm.script().canonicalize().unwrap();
    let text = std::fs::read_to_string(&script).unwrap();
    let waits = format!("until test -e {}; do sleep 0.02; done\nexec ", go.display());
    nixvm_fake_guest::write_executable(&script, text.replacen("exec ", &waits, 1)).unwrap();
    let vm = BuiltVm::open(script).unwrap();
    let booting = host.boot(&vm, host.options());
    let script_goes_on = async {
        let started = async {
            loop {
                let is = |(_, event): &(Instant, Event)| matches!(event, Event::MachineStarted { .. });
                if host.events.lock().unwrap().iter().any(is) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(HANG, started).await.unwrap();
        let now = Instant::now();
        std::fs::write(&go, "").unwrap();
        now
    };
    let (machine, since) = tokio::join!(booting, script_goes_on);
    let machine = machine.unwrap();
    let (reached, at) = host
        .events()
        .into_iter()
        .find_map(|(time, event)| match event {
            Event::Phase { phase, at, .. } if phase == "login prompt" => Some((time, at)),
            _ => None,
        })
        .unwrap();
    let most = reached.duration_since(since);
    assert!(at < most, "the boot took {at:?}, and the script had gone on {most:?} before its end");
    machine.stop().await;
}
