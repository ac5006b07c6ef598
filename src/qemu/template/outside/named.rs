//! What a command of QEMU names, and QEMU's own data: files that it reads once and closes.

use std::fs;
use std::path::{Component, Path, PathBuf};

use super::super::MEMORY;
use super::super::allowed::STORE;
use super::super::command_line::CommandLine;
use super::super::properties::Properties;
use super::running::of_path;
use super::{List, Unlisted};

/// Options whose value is for the guest, or a name.
const TEXTS: [&str; 4] = ["-append", "-name", "-uuid", "-mon"];
/// Keys whose value is for the guest.
const GUEST_TEXTS: [&str; 2] = ["string", "mount_tag"];
/// So deep are folders in QEMU's data.
const DEEPEST: usize = 3;

/// Adds every file that stands anywhere in the command.
pub(super) fn in_command(pid: u32, command: &CommandLine, list: &mut List<'_>) -> Result<(), Unlisted> {
    let here = fs::read_link(format!("/proc/{pid}/cwd"));
    let here = here.map_err(|error| Unlisted::Never(format!("QEMU's folder can't be told: {error}")))?;
    for (at, argument) in command.arguments.iter().enumerate() {
        let option = at.checked_sub(1).and_then(|at| command.arguments.get(at)).map(String::as_str);
        let option = option.map(|option| option.replacen("--", "-", 1)).unwrap_or_default();
        if TEXTS.contains(&option.as_str())
            || (option == "-object" && argument.contains(&format!("id={MEMORY},")))
        {
            continue;
        }
        if option == "-readconfig" {
            return Err(Unlisted::Never(format!("it has options in a file ({argument})")));
        }
        if option == "-L" {
            of_data(&here.join(argument), DEEPEST, list)?;
            continue;
        }
        for word in words(argument) {
            of_word(&here, &word, list)?;
        }
    }
    Ok(())
}

/// Everything in an argument that could be a path.
fn words(argument: &str) -> Vec<String> {
    let mut words = vec![argument.to_owned()];
    match serde_json::from_str::<serde_json::Value>(argument) {
        Ok(value) => strings(&value, &mut words),
        Err(_) => {
            for (key, value) in Properties::parse(argument).pairs(None) {
                match value {
                    Some(value) if !GUEST_TEXTS.contains(&key) => words.push(value.to_owned()),
                    Some(_) => {}
                    None => words.push(key.to_owned()),
                }
            }
        }
    }
    // `file:/path`, and lists as `-acpitable data=` has them.
    let parts: Vec<String> = words
        .iter()
        .flat_map(|word| word.split(':'))
        .filter(|part| part.contains('/'))
        .map(str::to_owned)
        .collect();
    words.extend(parts);
    words
}

fn strings(value: &serde_json::Value, words: &mut Vec<String>) {
    match value {
        serde_json::Value::String(text) => words.push(text.clone()),
        serde_json::Value::Array(all) => all.iter().for_each(|value| strings(value, words)),
        serde_json::Value::Object(all) => all.values().for_each(|value| strings(value, words)),
        _ => {}
    }
}

fn of_word(here: &Path, word: &str, list: &mut List<'_>) -> Result<(), Unlisted> {
    let path = here.join(word);
    if path.starts_with("/proc") || path.starts_with("/dev/fd") {
        return Err(Unlisted::Never(format!("it uses a descriptor of the run script ({word})")));
    }
    // `.`, `/` and the like are no files; what is not there QEMU did not read.
    let named = Path::new(word).components().any(|part| matches!(part, Component::Normal(_)));
    match named && path.exists() {
        true => of_path(&path, list),
        false => Ok(()),
    }
}

/// Adds the firmware and the tables that a QEMU outside of the Nix store loads by itself, and the cache by which its
/// libraries are found.
pub(super) fn data_of(program: &Path, list: &mut List<'_>) -> Result<(), Unlisted> {
    if program.starts_with(STORE) {
        return Ok(());
    }
    list.add(Path::new("/etc/ld.so.cache"))?;
    // As QEMU itself looks (system/datadir.c), and Debian's has more.
    let Some(prefix) = program.parent().and_then(Path::parent) else { return Ok(()) };
    for folder in
        ["share/qemu", "share/seabios", "share/qemu-firmware", "share/edk2", "share/ipxe", "lib/ipxe/qemu"]
    {
        of_data(&prefix.join(folder), DEEPEST, list)?;
    }
    Ok(())
}

/// Adds a folder and all that is in it: another file there would be another firmware.
fn of_data(folder: &Path, depth: usize, list: &mut List<'_>) -> Result<(), Unlisted> {
    list.add(folder)?;
    let entries: Vec<PathBuf> =
        fs::read_dir(folder).into_iter().flatten().flatten().map(|its| its.path()).collect();
    for entry in entries {
        match entry.is_dir() {
            true if depth > 0 => of_data(&entry, depth - 1, list)?,
            true => {}
            false => list.add(&entry)?,
        }
    }
    Ok(())
}
