use super::*;

/// A "QEMU" in bash: answers on its control descriptor, says what the test wants on its console.
/// Counts its starts in $0.starts.
const FAKE: &str = r#"#!/usr/bin/env bash
echo start >> "$0.starts"
[[ $QEMU_OPTS =~ accel=kvm ]] || exit 3
[[ $QEMU_OPTS =~ id=nixvm-console,fd=([0-9]+) ]]; console=${BASH_REMATCH[1]}
[[ $QEMU_OPTS =~ id=nixvm-control,fd=([0-9]+) ]]; control=${BASH_REMATCH[1]}
greet() {
    echo '{"QMP": {"version": {"qemu": {"major": 9}}}}' >&"$control"
    read -r request <&"$control"
    [[ $request =~ \"id\":([0-9]+) ]]
    echo "{\"return\": {}, \"id\": ${BASH_REMATCH[1]}}" >&"$control"
}
"#;

struct Fake {
    folder: tempfile::TempDir,
    device: PathBuf,
    vm: BuiltVm,
}

impl Fake {
    fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("run-nixos-vm");
        nixvm_fake_guest::write_executable(&script, format!("{FAKE}{text}\n")).unwrap();
        let device = folder.path().join("kvm");
        std::fs::write(&device, "").unwrap();
        let vm = BuiltVm::open(script).unwrap();
        Self { folder, device, vm }
    }

    async fn decide(&self) -> (Accelerator, String) {
        let memory = Memory::of(&self.vm, &self.folder.path().join("cache"));
        decide(&self.vm, &memory, &self.device, &Events::none()).await.unwrap()
    }

    fn starts(&self) -> usize {
        let starts = std::fs::read_to_string(self.folder.path().join("run-nixos-vm.starts"));
        starts.unwrap_or_default().lines().count()
    }
}

#[tokio::test]
async fn a_kernel_line_proves_kvm_and_is_remembered() {
    let fake = Fake::new("greet; echo SeaBIOS; echo '[    0.000000] Linux version 6' >&$console; sleep 1000");
    let (accelerator, reason) = fake.decide().await;
    assert_eq!((accelerator, reason.as_str()), (Accelerator::Kvm, "the VM's kernel starts with it"));
    assert_eq!(fake.decide().await.0, Accelerator::Kvm);
    assert_eq!(fake.starts(), 1, "remembered");
}

#[tokio::test]
async fn firmware_that_hangs_before_the_kernel_means_tcg() {
    let fake = Fake::new("greet; printf 'SeaBIOS\\r\\nBooting from ROM..' >&$console; sleep 1000");
    let (accelerator, reason) = fake.decide().await;
    assert_eq!(accelerator, Accelerator::Tcg);
    assert!(reason.contains("kernel said nothing within 10 s"), "{reason}");
    fake.decide().await;
    assert_eq!(fake.starts(), 1);
}

#[tokio::test]
async fn an_abort_after_the_greeting_means_tcg_with_qemus_words() {
    let fake = Fake::new("greet; echo 'error: failed to set MSR 0x10a to 0x69' >&2; kill -ABRT $$");
    let (accelerator, reason) = fake.decide().await;
    assert_eq!(accelerator, Accelerator::Tcg);
    assert!(reason.contains("(SIGABRT): error: failed to set MSR 0x10a"), "{reason}");
    fake.decide().await;
    assert_eq!(fake.starts(), 1);
}

#[tokio::test]
async fn an_abort_before_the_greeting_means_tcg_too() {
    let fake =
        Fake::new("echo making an image; echo 'kvm_buf_set_msrs: Assertion failed' >&2; kill -ABRT $$");
    let (accelerator, reason) = fake.decide().await;
    assert_eq!(accelerator, Accelerator::Tcg);
    assert!(reason.contains("kvm_buf_set_msrs: Assertion"), "{reason}");
    fake.decide().await;
    assert_eq!(fake.starts(), 1);
}

#[tokio::test]
async fn a_failure_that_has_nothing_to_do_with_kvm_is_not_remembered() {
    let fake = Fake::new("echo 'qemu-img: No space left on device' >&2; exit 1");
    assert_eq!(fake.decide().await.0, Accelerator::Tcg);
    fake.decide().await;
    assert_eq!(fake.starts(), 2);

    let fake = Fake::new("greet; echo 'bzImage: could not be loaded' >&2; exit 1");
    assert_eq!(fake.decide().await.0, Accelerator::Tcg);
    fake.decide().await;
    assert_eq!(fake.starts(), 2);
}

#[tokio::test]
async fn without_the_device_nothing_is_tried() {
    let fake = Fake::new("exit 1");
    std::fs::remove_file(&fake.device).unwrap();
    let (accelerator, reason) = fake.decide().await;
    assert_eq!(accelerator, Accelerator::Tcg);
    assert!(reason.contains("kvm_intel or kvm_amd is not loaded"), "{reason}");
    assert_eq!(fake.starts(), 0);
}

#[tokio::test]
async fn several_at_once_try_only_once() {
    let fake = Fake::new("greet; sleep 0.3; echo 'Linux version 6' >&$console; sleep 1000");
    let (first, second, third) = tokio::join!(fake.decide(), fake.decide(), fake.decide());
    assert_eq!((first.0, &second, &third), (Accelerator::Kvm, &first, &first));
    assert_eq!(fake.starts(), 1);
}

#[test]
fn the_choice_is_told_once() {
    let told = std::sync::Arc::new(Mutex::new(Vec::new()));
    let sink = std::sync::Arc::clone(&told);
    let events = Events::new(move |event| sink.lock().unwrap().push(format!("{event:?}")));
    let choice = Choice {
        accelerator: Accelerator::Tcg,
        reason: "of a test".to_owned(),
        speed: guess(Accelerator::Tcg),
    };
    note_once(&choice, &events);
    note_once(&choice, &events);
    let told = told.lock().unwrap();
    assert_eq!(told.len(), 1);
    assert!(told[0].contains("TCG") && told[0].contains("of a test"), "{told:?}");
}
