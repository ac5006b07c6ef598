//! Templates on the real VM: how soon a clone answers beside a cold boot of the same run, and what it takes.
//!
//! ```text
//! cargo bench --bench templates                    # about 3 minutes
//! cargo bench --bench templates -- --clones 200
//! cargo bench --bench templates -- --vm ./result   # a VM that is built already
//! ```

mod measuring;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use measuring::{given, median};
use nixvm_test::Result;
use nixvm_test::internals::BuiltVm;
use nixvm_test::internals::template::{self, Moment, Pool};
use nixvm_test::internals::{Event, Events};
use nixvm_test::machine::{Machine, MachineOptions};
use serde_json::json;

#[tokio::main]
async fn main() -> Result {
    let events = measuring::events();
    let clones: usize = given("--clones").and_then(|count| count.parse().ok()).unwrap_or(20);
    let vm = measuring::vm("configuration.nix", &events).await?;

    let begun = Instant::now();
    let machine = Machine::boot(&vm, MachineOptions::new("cold").events(events.clone())).await?;
    machine.login("alice", "test").await?.succeed("true").await?;
    let cold = begun.elapsed();
    machine.stop().await;

    // Made now, of a key of its own: that of a machine with another size.
    let saved = saving(&vm, &events).await?;
    cloned(&vm, &events).await?.stop().await;

    let before = Resources::of_this_process();
    let (mut ready, mut answered, mut by_root, mut memory, mut disk) =
        (vec![], vec![], vec![], vec![], vec![]);
    for _ in 0..clones {
        let begun = Instant::now();
        let machine = cloned(&vm, &events).await?;
        ready.push(begun.elapsed().as_secs_f64());
        if let Some(alice) = machine.session().await {
            alice.succeed("true").await?;
        }
        answered.push(begun.elapsed().as_secs_f64());
        machine.succeed("true").await?;
        by_root.push(begun.elapsed().as_secs_f64());
        for _ in 0..3 {
            machine.succeed("ls /; id; date").await?;
        }
        memory.push(own_memory(machine.qemu().pid()));
        disk.push(size_of(machine.run_directory()));
        machine.stop().await;
    }
    let after = Resources::of_this_process();
    let back = Back::measured(&vm, &events).await?;
    let (pooled, memory_beside) = (pooled(&vm, &events, clones).await?, beside(&vm, &events).await?);

    println!("\n| median of {clones} | | |\n|---|---:|---:|");
    println!("| cold: boot, login, first answer | {cold:.2?} | |");
    println!("| saving a template at rest, each of two | {saved:.0?} | |");
    let cold = cold.as_secs_f64();
    for (what, times) in [
        ("a clone goes on", &ready),
        ("its session's first answer", &answered),
        ("and root's, over the control channel", &by_root),
        ("with the pool: a session's first answer", &pooled),
    ] {
        let time = median(times);
        println!("| {what} | {:.0} ms | {:.0} × faster than cold |", time * 1000.0, cold / time);
    }
    let (bare, restored) = (median(&back.bare), median(&back.restored));
    println!("| keeping a moment by `snapshot` | {:.0} ms | |", back.kept * 1000.0);
    println!("| QEMU's `snapshot-load` alone, in the QEMU that runs | {:.0} ms | |", bare * 1000.0);
    println!("| `restore` | {:.0} ms | {:.2} × that |", restored * 1000.0, restored / bare);
    println!("| a clone's memory (PSS), alone | {:.0} MB | |", median(&memory) / 1e6);
    println!("| a clone's memory (PSS), of {BESIDE} at once | {:.0} MB | |", median(&memory_beside) / 1e6);
    println!("| a clone's files | {:.1} MB | |", median(&disk) / 1e6);
    println!("| this process's memory, descriptors, threads after all | {after} | before: {before} |");
    Ok(())
}

/// How long saving takes, of a machine that was booted for it and of one that is logged in then.
async fn saving(vm: &BuiltVm, events: &Events) -> Result<Vec<Duration>> {
    let times = Arc::new(Mutex::new(Vec::new()));
    let noted = times.clone();
    let sink = Events::new(move |event| {
        if let Event::Phase { phase, at, .. } = event
            && phase == "saved"
        {
            noted.lock().unwrap_or_else(PoisonError::into_inner).push(*at);
        }
    });
    // No other run has asked for such a size, so it is made now.
    let size = 900 + u64::from(std::process::id() % 100);
    let options = MachineOptions::new("saved").memory(size).events(sink);
    template::machine(vm, options, &alice(), events).await?.stop().await;
    let times = times.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(times.clone())
}

/// How long it takes to go back to a moment within a scenario, in seconds.
struct Back {
    kept: f64,
    /// By what QEMU does of it, in one process: the guest's time does not go back then.
    bare: Vec<f64>,
    restored: Vec<f64>,
}

impl Back {
    async fn measured(vm: &BuiltVm, events: &Events) -> Result<Self> {
        let machine = cloned(vm, events).await?;
        machine.succeed("true").await?;
        let begun = Instant::now();
        let before = machine.snapshot().await?;
        let mut back = Self { kept: begun.elapsed().as_secs_f64(), bare: vec![], restored: vec![] };
        for round in 0..10 {
            machine.succeed("head -c 4M /dev/urandom > /var/tmp/since").await?;
            let begun = Instant::now();
            loaded(&machine, &format!("bare{round}")).await?;
            back.bare.push(begun.elapsed().as_secs_f64());
            let begun = Instant::now();
            machine.restore(&before).await?;
            back.restored.push(begun.elapsed().as_secs_f64());
        }
        machine.stop().await;
        Ok(back)
    }
}

/// Has QEMU load the snapshot in its disk.
async fn loaded(machine: &Machine, job: &str) -> Result {
    machine.qmp("stop", None).await?;
    let blocks = machine.qmp("query-block", None).await?;
    let inserted = blocks.as_array().into_iter().flatten().map(|block| &block["inserted"]);
    for disk in inserted.filter(|disk| disk["image"]["snapshots"].is_array()) {
        let (node, tag) = (&disk["node-name"], &disk["image"]["snapshots"][0]["name"]);
        let arguments = json!({ "job-id": job, "tag": tag, "vmstate": node, "devices": [node] });
        machine.qmp("snapshot-load", Some(arguments)).await?;
        while machine.qmp("query-jobs", None).await?[0]["status"] != "concluded" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        machine.qmp("job-dismiss", Some(json!({ "id": job }))).await?;
    }
    machine.qmp("cont", None).await.map(drop)
}

/// So many clones are up at once when their memory is looked at.
const BESIDE: usize = 8;

/// How soon a clone answers that got up while another one was busy, in seconds.
async fn pooled(vm: &BuiltVm, events: &Events, count: usize) -> Result<Vec<f64>> {
    let pool = Arc::new(Pool::new()?);
    let options = || MachineOptions::new("pooled").events(events.clone());
    let mut answered = Vec::new();
    for round in 0..=count {
        let begun = Instant::now();
        let machine = pool.machine(vm, options(), &alice(), events).await?;
        let session = machine.session().await;
        if let Some(alice) = &session {
            alice.succeed("true").await?;
        }
        // The first one did not wait there.
        if round > 0 {
            answered.push(begun.elapsed().as_secs_f64());
        }
        pool.prepare(vm, options(), &alice());
        // What a short test does meanwhile.
        if let Some(alice) = &session {
            alice.succeed("sleep 1").await?;
        }
        machine.stop().await;
    }
    let ended = tokio::task::spawn_blocking(move || pool.end()).await;
    ended.map_err(|error| nixvm_test::Error::new(nixvm_test::ErrorKind::Other, error.to_string()))?;
    Ok(answered)
}

/// What each of some clones takes, in bytes, after a few commands.
async fn beside(vm: &BuiltVm, events: &Events) -> Result<Vec<f64>> {
    let mut all = Vec::new();
    for _ in 0..BESIDE {
        let machine = cloned(vm, events).await?;
        for _ in 0..3 {
            machine.succeed("ls /; id; date").await?;
        }
        all.push(machine);
    }
    let memory = all.iter().map(|machine| own_memory(machine.qemu().pid())).collect();
    for machine in all {
        machine.stop().await;
    }
    Ok(memory)
}

fn alice() -> Moment {
    Moment::LoggedIn { user: "alice".to_owned(), password: "test".to_owned() }
}

async fn cloned(vm: &BuiltVm, events: &Events) -> Result<Machine> {
    template::machine(vm, MachineOptions::new("clone").events(events.clone()), &alice(), events).await
}

/// What a process holds.
struct Resources {
    memory: u64,
    descriptors: usize,
    threads: usize,
}

impl Resources {
    fn of_this_process() -> Self {
        // Tasks and threads of the last machine may still be ending.
        std::thread::sleep(Duration::from_millis(200));
        let count = |folder: &str| std::fs::read_dir(folder).map_or(0, Iterator::count);
        Self {
            memory: field("/proc/self/smaps_rollup", "Rss:"),
            descriptors: count("/proc/self/fd"),
            threads: count("/proc/self/task"),
        }
    }
}

impl std::fmt::Display for Resources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} MB, {}, {}", self.memory / 1_000_000, self.descriptors, self.threads)
    }
}

/// What is a process's alone, and its share of what others have, too (proc(5), PSS), in bytes.
fn own_memory(pid: u32) -> f64 {
    field(&format!("/proc/{pid}/smaps_rollup"), "Pss:") as f64
}

/// A field of such a file, in bytes.
fn field(file: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// What the files of a folder take on the disk, in bytes.
fn size_of(folder: &Path) -> f64 {
    use std::os::unix::fs::MetadataExt;
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(found) if found.is_dir() => size_of(&entry.path()),
            Ok(found) => (found.blocks() * 512) as f64,
            Err(_) => 0.0,
        })
        .sum()
}
