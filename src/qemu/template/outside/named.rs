//! The files that a QEMU command names, and QEMU's own data. QEMU reads these once and closes them.

use std::fs;
use std::path::{Component, Path, PathBuf};

use super::super::MEMORY;
use super::super::allowed::STORE;
use super::super::command_line::CommandLine;
use super::super::properties::Properties;
use super::running::of_path;
use super::{List, Unlisted};

/// Options whose value is a name, or text for the guest.
const TEXTS: [&str; 4] = ["-append", "-name", "-uuid", "-mon"];
/// Keys whose value is text for the guest.
const GUEST_TEXTS: [&str; 2] = ["string", "mount_tag"];
/// How deep folders in QEMU's data are searched.
const DEEPEST: usize = 3;

/// Adds every file that the command names anywhere.
pub(super) fn in_command(pid: u32, command: &CommandLine, list: &mut List<'_>) -> Result<(), Unlisted> {
    let here = fs::read_link(format!("/proc/{pid}/cwd"));
    let here =
        here.map_err(|error| Unlisted::Never(format!("QEMU's working directory is not known: {error}")))?;
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

/// Returns everything in an argument that could be a path.
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
    // Covers `file:/path`, and lists such as those of `-acpitable data=`.
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
    // Words such as `.` and `/` are not files, and QEMU did not read a file that does not exist.
    let named = Path::new(word).components().any(|part| matches!(part, Component::Normal(_)));
    match named && path.exists() {
        true => of_path(&path, list),
        false => Ok(()),
    }
}

/// Adds the firmware and tables that a QEMU outside of the Nix store loads by default, and the cache in which
/// the loader looks up its libraries.
pub(super) fn data_of(program: &Path, list: &mut List<'_>) -> Result<(), Unlisted> {
    if program.starts_with(STORE) {
        return Ok(());
    }
    list.add(Path::new("/etc/ld.so.cache"))?;
    // QEMU looks in the same folders (system/datadir.c). Debian adds some.
    let Some(prefix) = program.parent().and_then(Path::parent) else { return Ok(()) };
    for folder in
        ["share/qemu", "share/seabios", "share/qemu-firmware", "share/edk2", "share/ipxe", "lib/ipxe/qemu"]
    {
        of_data(&prefix.join(folder), DEEPEST, list)?;
    }
    Ok(())
}

/// Adds a folder and everything in it, because another file there could be used as firmware.
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
