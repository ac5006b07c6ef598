//! What serves the control channel: as much of it as shows how the kernel's clock differs from the uptime. Commands succeed
//! and do nothing.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::FromRawFd as _;
use std::sync::Arc;

use super::Machine;

/// No program that is sent is longer.
const LONGEST: u64 = 16 << 20;

impl Machine {
    /// Serves the port from now on, as what is started by a loader with this word.
    pub(super) fn open_channel(self: &Arc<Self>, nonce: &str) {
        let Some(fd) = self.options.channel else { return };
        // SAFETY: the command line gives the descriptor to this program, and only this uses it, once.
        let line = unsafe { File::from_raw_fd(fd) };
        let nonce = nonce.to_owned();
        self.background(move |machine| {
            // An error: nobody is at the other end any more.
            let _ = machine.serve_channel(line, &nonce);
        });
    }

    fn serve_channel(&self, mut line: File, nonce: &str) -> io::Result<()> {
        let mut from_host = BufReader::new(line.try_clone()?);
        write!(line, "\nnixvm-channel {nonce} {}\n", std::env::consts::ARCH)?;
        // What was left in the line comes before.
        let size = loop {
            let word = next_line(&mut from_host)?;
            let words: Vec<&str> = word.split(' ').collect();
            if let ["helper" | "shell", size, its] = words[..]
                && its == nonce
            {
                break size.parse().unwrap_or(0);
            }
        };
        io::copy(&mut from_host.by_ref().take(LONGEST.min(size)), &mut io::sink())?;
        say(&mut line, 'H', "0", "version 1\nway helper\nbash /bin/bash\n")?;
        loop {
            let header = next_line(&mut from_host)?;
            let mut words = header.split(' ');
            let (kind, id) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            let length = words.next().and_then(|length| length.parse().ok()).unwrap_or(0);
            let mut content = String::new();
            from_host.by_ref().take(LONGEST.min(length)).read_to_string(&mut content)?;
            match kind {
                "P" => say(&mut line, 'P', id, &content)?,
                "R" => say(&mut line, 'X', id, "status 0\n")?,
                "Q" => say(&mut line, 'X', id, "status 1\n")?,
                "U" => {
                    let (uptime, logged) = self.wire.clocks();
                    let nanoseconds = (uptime.fract() * 1e9) as u32;
                    let uptime = format!("{} {nanoseconds}", uptime as u64);
                    say(&mut line, 'U', "0", &format!("{} {uptime} {uptime}", (logged * 1e6) as u64))?;
                }
                _ => {}
            }
        }
    }
}

fn say(line: &mut File, kind: char, id: &str, content: &str) -> io::Result<()> {
    line.write_all(format!("{kind} {id} {}\n{content}", content.len()).as_bytes())
}

fn next_line(from: &mut BufReader<File>) -> io::Result<String> {
    let mut line = String::new();
    match from.read_line(&mut line)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(line.trim_end().to_owned()),
    }
}
