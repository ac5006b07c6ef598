use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::*;
use crate::hang::HANG;
use crate::qemu::tests::{Firmware, boot_image, under};
use crate::qemu::{Resume, RunDirectory, Saved};

/// A fake QEMU whose guest is followed.
struct Fake {
    line: BufReader<DuplexStream>,
    halted: watch::Receiver<Option<Error>>,
    kvm: watch::Sender<Option<String>>,
    notes: UnboundedReceiver<String>,
    _exit: watch::Sender<Option<Exit>>,
    qmp: Qmp,
}

impl Fake {
    async fn new(status: &str) -> Self {
        let (ours, theirs) = tokio::io::duplex(4096);
        let mut line = BufReader::new(theirs);
        let greet = async {
            line.write_all(b"{\"QMP\": {}}\n").await.unwrap();
            answer(&mut line, "{}").await;
        };
        let (qmp, ()) = tokio::join!(Qmp::connect(ours, HANG), greet);
        let (halted, kvm, exit) =
            (watch::Sender::new(None), watch::Sender::new(None), watch::Sender::new(None));
        let (trouble, resets) = (Arc::default(), Arc::default());
        let (accelerator, its, of_kvm) = (Accelerator::Kvm, halted.clone(), kvm.subscribe());
        let guest = Guest { accelerator, halted: its, kvm: of_kvm, trouble, resets };
        let (sender, notes) = unbounded_channel();
        let events = Events::new(move |event| drop(sender.send(format!("{event:?}"))));
        let qmp = qmp.unwrap();
        guest.follow(exit.subscribe(), &qmp, "server", &events);
        let mut fake = Self { line, halted: halted.subscribe(), kvm, notes, _exit: exit, qmp };
        fake.has_status(status).await;
        fake
    }

    /// Answers a query of the status.
    async fn has_status(&mut self, status: &str) {
        answer(&mut self.line, &format!(r#"{{"status": "{status}"}}"#)).await;
    }

    async fn sends(&mut self, event: &str) {
        self.line.write_all(format!("{event}\n").as_bytes()).await.unwrap();
    }

    /// Sends `STOP`, and then answers a query with this status.
    async fn stops(&mut self, status: &str) {
        self.sends(r#"{"event": "STOP"}"#).await;
        self.has_status(status).await;
    }

    async fn halts(&mut self) -> Error {
        let halted = tokio::time::timeout(HANG, self.halted.wait_for(Option::is_some)).await;
        halted.expect("it is told").unwrap().clone().unwrap()
    }

    async fn note(&mut self) -> String {
        tokio::time::timeout(HANG, self.notes.recv()).await.expect("a note").unwrap()
    }
}

async fn answer(line: &mut BufReader<DuplexStream>, with: &str) {
    let mut request = String::new();
    line.read_line(&mut request).await.unwrap();
    let id = serde_json::from_str::<Value>(&request).unwrap()["id"].clone();
    line.write_all(format!("{{\"id\": {id}, \"return\": {with}}}\n").as_bytes()).await.unwrap();
}

#[tokio::test]
async fn a_guest_that_kvm_stopped_is_told_with_qemus_words() {
    let mut fake = Fake::new("running").await;
    fake.kvm.send_replace(Some("KVM internal error. Suberror: 1".to_owned()));
    fake.stops("internal-error").await;
    let why = fake.halts().await;
    assert_eq!(why.kind(), ErrorKind::GuestStopped);
    assert_eq!(why.summary(), "QEMU stopped the guest: KVM internal error. Suberror: 1");
    assert!(why.advice().1.unwrap().contains("NIXVM_ACCELERATOR=tcg"), "{why}");
    assert!(fake.note().await.contains("server: QEMU stopped the guest: KVM internal error"));
}

#[tokio::test]
async fn a_guest_that_was_stopped_before_anybody_listened_is_told() {
    let mut fake = Fake::new("internal-error").await;
    fake.kvm.send_replace(Some("error: kvm run failed Bad address".to_owned()));
    assert!(fake.halts().await.to_string().contains("the disk with its file is full"));
}

#[tokio::test]
async fn each_stop_of_qemus_own_has_its_kind_and_one_that_was_asked_for_has_none() {
    for (status, kind) in [
        ("io-error", Some(ErrorKind::DiskError)),
        ("guest-panicked", Some(ErrorKind::KernelPanic)),
        ("watchdog", Some(ErrorKind::GuestStopped)),
        ("paused", None),
        ("debug", None),
        ("save-vm", None),
        ("postmigrate", None),
        ("running", None),
    ] {
        let mut fake = Fake::new("running").await;
        fake.stops(status).await;
        if let Some(kind) = kind {
            assert_eq!(fake.halts().await.kind(), kind, "{status}");
            fake.sends(r#"{"event": "RESUME"}"#).await;
            let goes_on = tokio::time::timeout(HANG, fake.halted.wait_for(Option::is_none)).await;
            goes_on.expect("it goes on").unwrap();
        } else {
            // The next query follows once the answer to this one was read.
            fake.stops("internal-error").await;
            fake.kvm.send_replace(Some("KVM: entry failed, hardware error 0x0".to_owned()));
            assert!(fake.halts().await.summary().contains("entry failed"), "{status}");
        }
    }
}

#[tokio::test]
async fn a_host_disk_that_fills_up_while_the_guest_runs_is_told() {
    let mut fake = Fake::new("running").await;
    fake.sends(r#"{"event": "BLOCK_IO_ERROR", "data": {"nospace": true, "action": "report"}}"#).await;
    let note = fake.note().await;
    assert!(note.contains("server: No space left on device"), "{note}");
    fake.stops("io-error").await;
    let why = fake.halts().await;
    assert!(why.advice().0.unwrap().contains("disk is full"), "{why}");
}

#[tokio::test]
async fn a_boot_loop_is_told_and_is_over_when_another_qemu_takes_its_place() {
    let mut fake = Fake::new("running").await;
    for _ in 0..2 {
        fake.sends(r#"{"event": "RESET", "data": {"guest": true}}"#).await;
    }
    assert_eq!(fake.halts().await.kind(), ErrorKind::BootLoop);
    assert!(fake.note().await.contains("boot loop"));
    drop(fake.qmp);
}

/// mov dx,0x505; mov al,1; out dx,al: what a kernel writes to the device pvpanic. Then hlt; jmp.
const PANICS: [u8; 9] = [0xba, 0x05, 0x05, 0xb0, 0x01, 0xee, 0xf4, 0xeb, 0xfd];

#[tokio::test]
async fn a_real_qemu_that_stops_its_guest_at_a_panic_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let image = boot_image(folder.path(), &PANICS);
    let options = format!("-net none -device pvpanic -action panic=pause -drive format=raw,file={image}");
    let firmware = Firmware::with(&options).await;
    assert_eq!(halts(&firmware.qemu).await.kind(), ErrorKind::KernelPanic);
    assert!(firmware.qemu.look_whether_halted().await.unwrap().is_some());
}

#[tokio::test]
async fn a_real_qemu_that_stops_its_guest_since_the_disk_fails_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let image = boot_image(folder.path(), &PANICS);
    let fails = "file.driver=blkdebug,file.inject-error.0.event=read_aio,file.inject-error.0.errno=5";
    let options = format!(
        "-net none -drive driver=raw,if=ide,rerror=stop,{fails},file.image.driver=file,file.image.filename={image}"
    );
    let firmware = Firmware::with(&options).await;
    assert_eq!(halts(&firmware.qemu).await.kind(), ErrorKind::DiskError);
    assert!(firmware.qemu.stderr_tail().contains("the guest is stopped"), "{}", firmware.qemu.stderr_tail());
}

/// Waits until the guest is stopped, and returns the reason.
async fn halts(qemu: &Qemu) -> Error {
    let mut halted = qemu.halted();
    let why = tokio::time::timeout(HANG, halted.wait_for(Option::is_some)).await.expect("it is stopped");
    why.unwrap().clone().unwrap()
}

#[tokio::test]
async fn a_machine_that_is_kept_when_it_was_stopped_stands_still_when_it_is_gone_back_to() {
    let folder = tempfile::tempdir().unwrap();
    let image = boot_image(folder.path(), &PANICS);
    let options = format!(
        "-net none -device pvpanic -action panic=pause -drive format=raw,if=virtio,readonly=on,file={image}"
    );
    let firmware = Firmware::in_template(&options, None).await;
    assert_eq!(halts(&firmware.qemu).await.kind(), ErrorKind::KernelPanic);
    let kept = tempfile::tempdir().unwrap();
    let saved = firmware.qemu.keep(&firmware.run, kept.path()).await.unwrap();
    assert!(matches!(saved, Saved::Done), "{saved:?}");
    let run_dir = RunDirectory::create().unwrap();
    let (_, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let resume = Resume {
        folder: kept.path(),
        to_save: None,
        foreign: false,
        machine: "kept",
        scenario: None,
        run_dir: &run_dir,
        channel: theirs.into(),
        cards: Vec::new(),
        events: Events::none(),
    };
    let (qemu, _console) = Qemu::resume(resume).await.unwrap();
    let why = qemu.look_whether_halted().await.unwrap();
    assert_eq!(why.map(|why| why.kind()), Some(ErrorKind::KernelPanic));
}

/// aesenc xmm0,xmm1; hlt; jmp: the emulator of KVM does not know that instruction, and a host without nested
/// virtualization (kvm_pvm) uses the emulator for real mode.
const IS_NOT_EMULATED: [u8; 8] = [0x66, 0x0f, 0x38, 0xdc, 0xc1, 0xf4, 0xeb, 0xfd];

#[tokio::test]
async fn a_real_internal_error_of_kvm_is_seen_with_qemus_words() {
    let Some(kvm @ (_, Some(_))) = under::kvm() else {
        return eprintln!("left out: KVM of this host, if there is one, runs everything");
    };
    let folder = tempfile::tempdir().unwrap();
    let image = boot_image(folder.path(), &IS_NOT_EMULATED);
    let options = format!("-net none -vga none -drive format=raw,file={image}");
    let firmware = Firmware::under(kvm, ":", &options, None).await;
    let why = halts(&firmware.qemu).await;
    assert_eq!(why.kind(), ErrorKind::GuestStopped);
    assert!(why.summary().contains("KVM internal error"), "{why}");
    assert!(firmware.qemu.exit().borrow().is_none(), "QEMU lives");
}
