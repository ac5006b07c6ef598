//! The control channel: the second way into a guest, beside the console that a person sees.
//!
//! One stream of bytes (a virtio-serial port, or the stdin and stdout of a command that runs on another
//! channel) carries any number of commands at once, each with its stdin, its stdout and stderr apart, and
//! its exit status. What serves it in the guest is put there by the library itself: see [`Handshake`].
//!
//! # Protocol, version 1
//!
//! Both ways go **frames**: an ASCII header line `KIND ID LENGTH\n` and LENGTH bytes. KIND is one letter;
//! ID is the decimal number (32 bits) of a command, chosen by the host and never used again on the same
//! channel, or 0 for the channel itself; LENGTH is decimal, at most 65536. Frames of an unknown kind, or for
//! a command that is forgotten, are passed over. A header that is none, and the end of the stream, end
//! the channel.
//!
//! | host → guest | payload |
//! |---|---|
//! | `T` text | a piece of the command's text: UTF-8 without NUL |
//! | `R` run | lines `key value`: `shell bash` or `shell user`; `hidden 1` if the text is not to be seen in the guest's list of processes, where a command that looks for a process would find it; `stdin 1` if stdin stays open for `I`, else it is /dev/null; `sum 1` if checksums are wanted |
//! | `I` input | bytes for stdin; none of them: its end. At most 262144 may be unacknowledged |
//! | `K` kill | the decimal number of a signal for the command's whole process group |
//! | `C` awaken, ID 0 | the time since 1970, `SECONDS.NANOSECONDS`, a blank, and random bytes in hexadecimal or nothing: what a guest that goes on from a saved moment has to be told. Not answered; commands after it see it done |
//! | `Q` question | `dbus PATH`, a NUL and bytes: what the service at that socket answers to calls, up to the answer to the last; `connect PATH`: whether somebody listens on that Unix socket (`@NAME`: on that abstract one), with the reason if nobody does. Answered as a command is, by `O` and `X`; the shell does not know it |
//! | `M` messages, ID 0 | the kernel's log is to be told as it is written: from the record with this decimal number on, or from the oldest one; `hold`: nothing is to be told until the next such frame. The shell does not know it |
//! | `U` uptime, ID 0 | at most 32 letters and digits that nobody can guess: a line with them is to be written to the kernel's log, and what time it has there is to be told |
//! | `P` ping | anything; answered by the same frame |
//!
//! | guest → host | payload |
//! |---|---|
//! | `H` hello, ID 0 | lines `key value`: `version 1`, `way helper` or `way shell`, `bash PATH` for those who read what was sent |
//! | `O`, `E` output | bytes of stdout, of stderr, as they come |
//! | `A` taken | decimal: so many more bytes of stdin were taken (written, or thrown away since nobody reads them) |
//! | `X` exit | lines `key value`: `status N`: the command ended, by signal n if N is 128+n; `sum IN OUT`: XXH64 in hexadecimal of what was written to its stdin and of what came from its stdout (the shell way has none). All that it printed before is in `O` and `E` frames before it |
//! | `F` failed | why the command could not be started |
//! | `M` messages, ID 0 | records of the kernel's log, as /dev/kmsg has them. Those that were there when a command ended, or a question or ping was answered, come before the word of it |
//! | `U` uptime, ID 0 | five decimal numbers: the time of that line in the kernel's log, in microseconds, and how long the guest had been up before and after it was written, each in seconds and nanoseconds. Who can't write to the log or read it says nothing |
//! | `N` no more, ID 0 | `ended`: the helper was asked to end, and has told all messages up to now; `unreadable N`: it can't read the kernel's log, by this error number |
//!
//! A process that a command left behind and that still holds its stdout delays nothing: what it prints later is
//! thrown away by the guest.
//!
//! # Where the helper can't run
//!
//! A POSIX shell serves the same protocol (`guest/server.sh`), slower: each command starts two processes. Its output
//! comes at its end; a command with stdin starts when all of it is there; no checksums (`sum`) are made, so files are
//! checked by the guest's cksum(1); no channel is nested in it, so each command of another user than root
//! goes through `systemd-run`. `NIXVM_CHANNEL=shell` chooses it.
//!
//! # The beginning
//!
//! The guest first says `\nnixvm-channel NONCE MACHINE\n`, MACHINE being what `uname -m` says; everything
//! before that line is passed over, as it may be left from another time. Where a loader is at the other end,
//! it is answered with `\nhelper SIZE NONCE\n` or `\nshell SIZE NONCE\n` and SIZE bytes: the program that serves
//! the channel from then on. The loader, too, passes over every line without the nonce: what the host wrote when
//! an earlier guest went down waits in the line for the next one. A helper asks systemd itself for the service that it runs in
//! from then on (`helper/begin.rs`), and so does the shell server by `systemd-run` (`launch.sh`). `refused\n` comes back when a helper can't
//! run there or gets no service, and the shell server is sent in its place. In the end comes the hello.
//!
//! # Promises to the rest of the library
//!
//! - A request is one write to the stream, made by the caller itself; an answer wakes its caller directly.
//! - Nobody who is slow to read holds up others: what a command has unread is kept, up to 64 MiB; a command
//!   that exceeds this is killed and its error says so.
//! - When the channel is lost, everything that is pending fails at once with
//!   [`ChannelLost`](crate::ErrorKind::ChannelLost) and the reason; so does every later use.
//! - Whatever a guest sends, it can make the host neither panic nor use memory without bound.

mod connection;
mod frame;
pub(crate) mod guest;
mod handshake;
mod kernel;
mod mailbox;
mod outgoing;
mod reader;
mod running;
mod stream;
#[path = "guest/sum.rs"]
mod sum;

#[cfg(test)]
mod tests;

pub(crate) use connection::{Channel, Request, Saved, Shell};
pub(crate) use handshake::{ChannelOptions, Handshake, Way};
pub(crate) use kernel::{Clocks, KernelWord};
pub(crate) use running::{Progress, Running};
pub(crate) use stream::CommandStream;
pub(crate) use sum::Sum;
