//! Whatever is killed, damaged or full while a template is made or used: the next machine is right, one line says
//! why it took longer, and nothing is left over.
//!
//! A real QEMU with a boot sector for a guest, so that a boot takes half a second. What is to be killed is this same
//! binary, started again: the ignored "test" `process` below asks for a machine as a scenario does.

mod case;
mod changed;
mod damaged;
mod full;
mod killed;
mod no_clone;
mod together;

use std::fs;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use nixvm_test::internals::BuiltVm;
use nixvm_test::internals::template::{self, Moment};
use nixvm_test::internals::{Event, Events};
use nixvm_test::machine::{Machine, MachineOptions};
use nixvm_test::{ErrorKind, Result};

use crate::again::say;

use crate::hang::HANG as LIMIT;

/// Says `nixos login: `, at Enter again, and back what else it is told; it sleeps in between, as a guest at rest does. The timer that
/// wakes it is its own: the firmware's would take what comes on the serial port for keys.
pub const GUEST: &[u8] = b"\xfa\x31\xc0\x8e\xd0\x8e\xd8\xbc\x00\x7c\
    \xc7\x06\x20\x00\x3a\x7c\xc7\x06\x22\x00\x00\x00\
    \xbe\x41\x7c\xfc\xac\x84\xc0\x74\x06\xba\xf8\x03\xee\xeb\xf5\
    \xfb\xf4\xba\xfd\x03\xec\xa8\x01\x74\xf6\xba\xf8\x03\xec\x3c\x0d\x74\xdf\xee\xeb\xeb\
    \x50\xb0\x20\xe6\x20\x58\xcf\
    \r\nnixos login: \0";

/// The disk image is the machine's own, as in NixOS. A machine waits before it is started while there is a file
/// `$PLACE/before-boot`, and first fills the store's disk up if it is told to.
const SCRIPT: &str = r#"
while [ -e "$PLACE/before-boot" ]; do sleep 0.02; done
[ -z "$FILL_BEFORE" ] || head -c 90M /dev/zero > "$NIXVM_CACHE_DIR/templates/fill"
DATA="${DATA:-$PLACE}"
cp "$DATA"/boot.img "$NIX_DISK_IMAGE"
exec qemu-system-x86_64 -m 64 -net none -drive format=raw,file="$NIX_DISK_IMAGE" -nographic $QEMU_OPTS
"#;

/// Events that a process says to the test that started it.
fn said() -> Events {
    Events::new(|event| match event {
        Event::Note { text } => say(format!("note: {text}")),
        Event::MachineStarted { pid, .. } => say(format!("qemu {pid}")),
        Event::Phase { phase, .. } => say(phase),
        _ => {}
    })
}

/// What runs as a process of its own: it gets a machine after a step, says what happens, and tries it.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "is started by the tests below, to be killed"]
async fn process() {
    let Ok(script) = std::env::var("SCRIPT") else { return };
    let events = said();
    let vm = BuiltVm::open(script).unwrap();
    let mut options = MachineOptions::new("guest").events(events.clone());
    if let Some(limit) = std::env::var("BOOT_LIMIT").ok().and_then(|limit| limit.parse().ok()) {
        options = options.boot_limit(Duration::from_secs(limit));
    }
    let moment = Moment::After { from: Box::new(Moment::Booted), name: "step".to_owned(), step };
    let machine = template::machine(&vm, options, &moment, &events).await.unwrap();
    answers(&machine, "x").await.unwrap();
    say("works");
    drop(machine);
}

fn place() -> PathBuf {
    std::env::var_os("PLACE").unwrap().into()
}

/// What the guest does at its step, as long as there is a file `$PLACE/in-step`: nothing.
fn step(machine: &mut Machine) -> Pin<Box<dyn Future<Output = Result> + Send + '_>> {
    Box::pin(async move {
        answers(machine, "s").await?;
        if std::env::var_os("FILL_IN_STEP").is_some() {
            let templates = PathBuf::from(std::env::var_os("NIXVM_CACHE_DIR").unwrap()).join("templates");
            let filled = fs::write(templates.join("fill"), vec![1; 200 << 20]);
            say(format!("filled: {}", filled.unwrap_err()));
        }
        say("in the step");
        while place().join("in-step").exists() {
            match machine.wait_for_console_text("never said", Duration::from_millis(50)).await {
                Err(error) if error.kind() != ErrorKind::Timeout => return Err(error),
                _ => {}
            }
        }
        Ok(())
    })
}

pub async fn answers(machine: &Machine, text: &str) -> Result {
    let mark = machine.console().mark();
    machine.send_console(text).await?;
    machine.wait_for_console_text_since(mark, text, LIMIT).await.map(drop)
}
