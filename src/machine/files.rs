//! Writes, reads and copies files of a machine.
//!
//! A copy is sent as a tar archive through a pipe, which keeps names, modes, symbolic links and empty files. Both ends
//! compute the checksum of what was sent.

mod archive;
mod check;
mod unpack;

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::stopped::Instant;

use nixvm_test_macros::tracked;
use tokio::sync::mpsc;

use self::archive::{Archive, PIECES, Pieces, pack};
use self::check::{Check, Cksum};
use self::unpack::{Unpacked, unpack};
use crate::channel::{Progress, Request, Shell};
use crate::machine::command_text::quoted;
use crate::machine::commands::user::COMMAND;
use crate::machine::output::Output;
use crate::machine::{Life, Machine, User};
use crate::{Error, ErrorKind, Result, threads};

/// Maximum number of bytes kept of the output of the guest's tar.
const SAID: usize = 16 << 10;

/// Makes tar use large blocks, because each round trip costs time. GNU tar reads it; others ignore it.
const BLOCKS: &str = "TAR_OPTIONS='-b 512'";

/// Moves a copy to its name on the host.
type Place = fn(Unpacked) -> std::io::Result<()>;

/// # Files
impl User {
    /// Writes a file and replaces its old content. Missing parent folders are created.
    ///
    /// # Errors
    /// [`ErrorKind::CommandFailed`] when it can't be written, and those of [`User::execute`].
    #[tracked]
    pub async fn write_file(&self, path: &str, content: impl AsRef<[u8]>) -> Result {
        let name = quoted(path);
        let text = format!("mkdir -p -- \"$(dirname -- {name})\" && cat > {name} && cksum < {name}");
        let content = content.as_ref();
        let output = self.command(&text).stdin(content).output().await?;
        self.done(&output, &format!("write {path}"))?;
        let mut sum = Cksum::new();
        sum.add(content);
        sum.compare(output.text(), path)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// [`ErrorKind::CommandFailed`] when it can't be read, and those of [`User::execute`].
    #[tracked]
    pub async fn read_file(&self, path: &str) -> Result<Vec<u8>> {
        let name = quoted(path);
        let output = self.execute(&format!("cat < {name}")).await?;
        self.done(&output, &format!("read {path}"))?;
        Ok(output.bytes().to_vec())
    }

    /// Copies a file or folder of the host to `target` in the machine. `target` becomes the copy itself; an existing
    /// folder keeps its other content. Modes, symbolic links and names are kept, and the owner is this user. Missing
    /// parent folders are created.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when it can't be read, [`ErrorKind::CommandFailed`] when it can't be written, and
    /// those of [`User::execute`].
    #[tracked]
    pub async fn copy_to(&self, source: impl AsRef<Path>, target: &str) -> Result {
        let source = source.as_ref();
        let life = self.life();
        let what = format!("{}: copy {} to {target}", self.name, source.display());
        let _step = life.step(what.clone());
        life.answer(&what, self.send(source, target)).await
    }

    async fn send(&self, source: &Path, target: &str) -> Result {
        let source = source.to_owned();
        let (folder, name) = split(target)?;
        let started = Instant::now();
        let folder = quoted(folder);
        let life = self.life();
        let limit = life.limit(self.limit.unwrap_or(COMMAND));
        let too_late = async || life.copied_late(&format!("copying to {target}"), started, limit).await;
        let Ok(channel) = life.held_to(limit, life.channel(&self.name)).await else {
            return Err(too_late().await);
        };
        let channel = channel?;
        let mut check = Check::on(&channel);
        let sum = check.is_channels();
        let text = match sum {
            true => format!("mkdir -p -- {folder} && {BLOCKS} tar -xpf - --no-same-owner -C {folder}"),
            // If tar stops early, the rest of the input is drained, because it comes over the channel's line.
            false => format!(
                "mkdir -p -- {folder} && {{ tee /dev/fd/9 | cksum >&2; }} 9> >(tar -xpf - --no-same-owner -C {folder} || {{ cat >/dev/null; exit 1; }}) && wait $!"
            ),
        };
        let name = name.to_owned();
        let (sender, mut pieces) = mpsc::channel(PIECES);
        let from = source.clone();
        let packing = threads::aside(move || pack(&from, &name, Pieces::new(sender)));
        let request = Request { text: self.text(&channel, &text), shell: Shell::Bash, stdin: true, sum };
        let Ok(running) = crate::stopped::timeout(limit, channel.run(request)).await else {
            return Err(too_late().await);
        };
        let mut running = running?;
        let Some(mut input) = running.take_input() else { return Err(lost(target)) };
        let feed = async {
            while let Some(piece) = pieces.recv().await {
                check.add(&piece);
                input.write(&piece).await?;
            }
            input.end().await
        };
        let mut said = Vec::new();
        let hear = async {
            loop {
                match running.next().await? {
                    Progress::Stderr(bytes) | Progress::Stdout(bytes) => keep_end(&mut said, &bytes),
                    Progress::Exit(status) => return Ok::<_, Error>(status),
                }
            }
        };
        let both = async { tokio::join!(feed, hear) };
        let Ok((fed, status)) = crate::stopped::timeout(limit, both).await else {
            return Err(too_late().await);
        };
        let status = status?;
        packing
            .await
            .flatten()
            .map_err(|error| Error::io(format_args!("pack {}", source.display()), &error))?;
        let output = Output::new(&format!("copy to {target}"), status, Vec::new(), said);
        self.done(&output, &format!("copy {} to {target}", source.display()))?;
        fed?;
        let theirs = running.sums().map(|sums| sums.input);
        check.compare(&String::from_utf8_lossy(output.stderr()), theirs, target)
    }

    /// Copies a file or folder of the machine to `target` on the host. `target` becomes the copy itself and must not
    /// exist. The copy keeps names, symbolic links and the permissions of owner, group and others. It does not keep
    /// setuid and setgid bits, extended attributes or owners: the files belong to the user who runs the test. A forged
    /// archive can't write outside of `target`. After an error there is no `target`.
    ///
    /// # Errors
    /// [`ErrorKind::CommandFailed`] when it can't be read, [`ErrorKind::Io`] when it can't be written, or holds a
    /// device or a FIFO, which the error names, [`ErrorKind::Usage`] when `target` exists, and those of
    /// [`User::execute`].
    #[tracked]
    pub async fn copy_from(&self, source: &str, target: impl AsRef<Path>) -> Result {
        let target = target.as_ref().to_owned();
        if target.symlink_metadata().is_ok() {
            return Err(Error::new(ErrorKind::Usage, format!("{} exists already", target.display()))
                .next_step("copy to a new name; `copy_from_machine` replaces what is there"));
        }
        self.copy_to_host(source, target, Unpacked::place).await
    }

    async fn copy_to_host(&self, source: &str, target: PathBuf, place: Place) -> Result {
        let (folder, name) = split(source)?;
        let started = Instant::now();
        let _step = self.life().step(format!("{}: copy {source} to {}", self.name, target.display()));
        self.life().require_machine("a copy of a file of its")?;
        self.life().while_it_runs(self.fetch(source, (folder, name), (target, place), started)).await
    }

    async fn fetch(&self, source: &str, at: (&str, &str), to: (PathBuf, Place), started: Instant) -> Result {
        let (target, place) = to;
        let (folder, name) = (quoted(at.0), quoted(&format!("./{}", at.1)));
        let life = self.life();
        let limit = life.limit(self.limit.unwrap_or(COMMAND));
        let too_late = async || life.copied_late(&format!("copying {source}"), started, limit).await;
        let Ok(channel) = life.held_to(limit, life.channel(&self.name)).await else {
            return Err(too_late().await);
        };
        let channel = channel?;
        let mut check = Check::on(&channel);
        let sum = check.is_channels();
        let text = match sum {
            true => format!("{BLOCKS} tar -cf - -C {folder} -- {name}"),
            false => format!("{{ tar -cf - -C {folder} -- {name} | tee /dev/fd/9 | cksum >&2; }} 9>&1"),
        };
        let request = Request { text: self.text(&channel, &text), shell: Shell::Bash, stdin: false, sum };
        let Ok(running) = crate::stopped::timeout(limit, channel.run(request)).await else {
            return Err(too_late().await);
        };
        let mut running = running?;
        let (sender, pieces) = mpsc::channel::<Vec<u8>>(PIECES);
        let to = target.clone();
        let unpacking = threads::aside(move || unpack(Archive::new(pieces), &to));
        let mut said = Vec::new();
        let hear = async {
            loop {
                match running.next().await? {
                    Progress::Stdout(bytes) => {
                        check.add(&bytes);
                        // The receiver has given up, and reports why.
                        let _ = sender.send(bytes).await;
                    }
                    Progress::Stderr(bytes) => keep_end(&mut said, &bytes),
                    Progress::Exit(status) => return Ok::<_, Error>(status),
                }
            }
        };
        let Ok(status) = crate::stopped::timeout(limit, hear).await else { return Err(too_late().await) };
        let status = status?;
        drop(sender);
        let unpacked = unpacking.await.flatten();
        let output = Output::new(&format!("copy {source}"), status, Vec::new(), said);
        self.done(&output, &format!("copy {source}"))?;
        let failed = |error| Error::io(format_args!("write {}", target.display()), &error);
        let unpacked = unpacked.map_err(failed)?;
        let theirs = running.sums().map(|sums| sums.output);
        check.compare(&String::from_utf8_lossy(output.stderr()), theirs, source)?;
        place(unpacked).map_err(failed)
    }

    fn done(&self, output: &Output, what: &str) -> Result {
        if output.success() {
            return Ok(());
        }
        let life = self.life();
        let summary = format!("{}: could not {what} as {}", life.name, self.name);
        Err(life.with_outputs(Error::new(ErrorKind::CommandFailed, summary), output))
    }
}

impl Life {
    /// Returns the error for a copy that exceeded its limit.
    async fn copied_late(&self, what: &str, started: Instant, limit: Duration) -> Error {
        let summary = format!("{what} did not end within its limit");
        self.in_vain(Error::new(ErrorKind::CommandTimeout, summary).took(started.elapsed(), limit)).await
    }
}

/// # Files
///
/// As root. See the methods of [`User`].
impl Machine {
    /// Writes a file. See [`User::write_file`].
    ///
    /// # Errors
    /// Those of [`User::write_file`].
    #[tracked]
    pub async fn write_file(&self, path: &str, content: impl AsRef<[u8]>) -> Result {
        self.root().write_file(path, content).await
    }

    /// Reads a file. See [`User::read_file`].
    ///
    /// # Errors
    /// Those of [`User::read_file`].
    #[tracked]
    pub async fn read_file(&self, path: &str) -> Result<Vec<u8>> {
        self.root().read_file(path).await
    }

    /// Copies a file or folder of the host into the machine. See [`User::copy_to`].
    ///
    /// # Errors
    /// Those of [`User::copy_to`].
    #[tracked]
    pub async fn copy_to(&self, source: impl AsRef<Path>, target: &str) -> Result {
        self.root().copy_to(source, target).await
    }

    /// Copies a file or folder of the machine to the host. See [`User::copy_from`].
    ///
    /// # Errors
    /// Those of [`User::copy_from`].
    #[tracked]
    pub async fn copy_from(&self, source: &str, target: impl AsRef<Path>) -> Result {
        self.root().copy_from(source, target).await
    }

    /// Does the same as [`Machine::copy_to`], under the NixOS test driver's name.
    ///
    /// # Errors
    /// Those of [`User::copy_to`].
    #[tracked]
    pub async fn copy_from_host(&self, source: impl AsRef<Path>, target: &str) -> Result {
        self.copy_to(source, target).await
    }

    /// Copies like [`Machine::copy_from`], with the NixOS test driver's name and destination: `source` of the machine
    /// becomes a file of the same name in the folder `target` of the host, which is created. An existing file is
    /// replaced; an existing folder keeps its other content.
    ///
    /// ```no_run
    /// # async fn example(machine: nixvm_test::machine::Machine) -> nixvm_test::Result {
    /// machine.copy_from_machine("/var/log/nginx", "target").await?; // target/nginx
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Those of [`User::copy_from`]; [`ErrorKind::Io`] where one of the two is a folder and the other is not.
    #[tracked]
    pub async fn copy_from_machine(&self, source: &str, target: impl AsRef<Path>) -> Result {
        let folder = target.as_ref();
        std::fs::create_dir_all(folder)
            .map_err(|error| Error::io(format_args!("make {}", folder.display()), &error))?;
        let target = folder.join(split(source)?.1);
        self.root().copy_to_host(source, target, Unpacked::place_over).await
    }
}

/// Splits a path of the guest into folder and name.
fn split(path: &str) -> Result<(&str, &str)> {
    let bare = path.trim_end_matches('/');
    let (folder, name) = match bare.rsplit_once('/') {
        Some(("", name)) => ("/", name),
        Some((folder, name)) => (folder, name),
        None => (".", bare),
    };
    if name.is_empty() || name == "." || name == ".." || path.contains('\0') {
        return Err(Error::new(
            ErrorKind::Usage,
            format!("{path:?} does not name a file or folder that can be copied"),
        ));
    }
    Ok((folder, name))
}

fn keep_end(said: &mut Vec<u8>, bytes: &[u8]) {
    said.extend_from_slice(bytes);
    let excess = said.len().saturating_sub(SAID);
    said.drain(..excess);
}

fn lost(what: &str) -> Error {
    Error::new(ErrorKind::Other, format!("the copy of {what} was interrupted"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_a_folder_and_a_name() {
        assert_eq!(split("/a/b").unwrap(), ("/a", "b"));
        assert_eq!(split("/a").unwrap(), ("/", "a"));
        assert_eq!(split("/a/b/").unwrap(), ("/a", "b"));
        assert_eq!(split("b").unwrap(), (".", "b"));
        assert!(split("/").is_err());
        assert!(split("/a/..").is_err());
    }
}
