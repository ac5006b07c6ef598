//! Tries to save a machine, to clone it, and to clone the clone.

use std::path::Path;
use std::time::Instant;

use crate::BuiltVm;
use crate::file_lock;
use crate::machine::{Machine, MachineOptions, TemplateLease};
use crate::qemu::accelerator::Trial;
use crate::qemu::{Accelerator, Saved};
use crate::{Error, Events, Result};

/// The outcome.
#[derive(Debug)]
pub(super) enum Went {
    /// All of them run. Holds the times in words.
    Well(String),
    /// Machines of this VM are not saved, for this reason.
    Not(String),
}

/// Boots the VM, saves it in `folder`, and clones it twice.
///
/// # Errors
/// Why it can't be booted or saved, or why a clone does not run.
pub(super) async fn tried(vm: &BuiltVm, folder: &Path) -> Result<Went> {
    if let Some(why) = crate::qemu::foreseen(vm) {
        return Ok(Went::Not(why));
    }
    let options = || MachineOptions::new("doctor");
    let mut trial = Trial::begin(vm, &Events::none())?;
    // If the first processor does not run here, a later one may.
    let mut attempts = 0;
    let (machine, first) = loop {
        if trial.choice().accelerator != Accelerator::Kvm {
            return Ok(Went::Not(format!("they run under TCG here: {}", trial.choice().reason)));
        }
        attempts += 1;
        let first = made(folder, &format!("first-{attempts}"))?;
        match Machine::boot_to_save(vm, options(), &trial, &first).await {
            Ok(machine) => break (machine, first),
            Err(error) => trial.failed(error)?,
        }
    };
    let second = made(folder, "second")?;
    let saving = Instant::now();
    if let Saved::Impossible(why) = machine.save(&first, folder).await? {
        return Ok(Went::Not(why));
    }
    let saved = saving.elapsed();
    drop(machine);
    let cloning = Instant::now();
    let clone = Machine::resume(vm, options(), used(&first)?).await?;
    let cloned = cloning.elapsed();
    drop(clone);
    let clone = Machine::resume_to_save(vm, options(), used(&first)?, &second).await?;
    if let Saved::Impossible(why) = clone.save(&second, folder).await? {
        return Ok(Went::Not(format!("a clone can't be saved: {why}")));
    }
    drop(clone);
    let cloning = Instant::now();
    let clone = Machine::resume(vm, options(), used(&second)?).await?;
    let of_clone = cloning.elapsed();
    drop(clone);
    Ok(Went::Well(format!(
        "saved in {:.1} s; a clone answers after {:.1} s, a clone of a clone after {:.1} s",
        saved.as_secs_f64(),
        cloned.as_secs_f64(),
        of_clone.as_secs_f64()
    )))
}

fn made(folder: &Path, name: &str) -> Result<std::path::PathBuf> {
    let path = folder.join(name);
    std::fs::create_dir(&path).map_err(|error| Error::io(format_args!("make {}", path.display()), &error))?;
    Ok(path)
}

fn used(folder: &Path) -> Result<TemplateLease> {
    let lock = file_lock::open(&folder.with_extension("lock"));
    let lock = lock.map_err(|error| Error::io(format_args!("lock {}", folder.display()), &error))?;
    Ok(TemplateLease { folder: folder.to_owned(), lock, is_new: true })
}
