//! The control channel: the second way into a guest, besides the console that a person sees.
//!
//! One stream of bytes (a virtio-serial port, or the stdin and stdout of a command on another channel)
//! carries any number of concurrent commands. Each has its own stdin, stdout, stderr and exit status. The
//! library itself loads the program that serves the stream in the guest: see [`Handshake`].
//!
//! # Protocol, version 1
//!
//! Both sides send **frames**: an ASCII header line `KIND ID LENGTH\n` and LENGTH bytes. KIND is one letter.
//! ID is the decimal number (32 bits) of a command, which the host chooses and never uses again on the same
//! channel, or 0 for the channel itself. LENGTH is decimal, at most 65536. Frames of an unknown kind, and
//! frames for a command that is no longer known, are ignored. A malformed header or the end of the stream
//! ends the channel.
//!
//! | host → guest | payload |
//! |---|---|
//! | `T` text | a piece of the command's text: UTF-8 without NUL |
//! | `R` run | lines `key value`: `shell bash` or `shell user`; `hidden 1` if the text must not appear in the guest's list of processes, where a command that looks for a process would find it; `stdin 1` if stdin stays open for `I`, else it is /dev/null; `sum 1` if checksums are wanted |
//! | `I` input | bytes for stdin; an empty payload ends it. At most 262144 bytes may be unacknowledged |
//! | `K` kill | the decimal number of a signal for the command's whole process group |
//! | `C` awaken, ID 0 | the time since 1970, `SECONDS.NANOSECONDS`, a blank, and random bytes in hexadecimal or nothing: what a guest needs after it was restored from a saved moment. Not answered; later commands see the result |
//! | `Q` question | `dbus PATH`, a NUL and bytes: returns what the service at that socket answers to calls, up to the answer to the last; `connect PATH`: whether a program listens on that Unix socket (`@NAME`: on that abstract one), with the reason if none does. Answered like a command, by `O` and `X`; the shell server ignores it |
//! | `M` messages, ID 0 | send the kernel's log as it is written, from the record with this decimal number on, or from the oldest one; `hold`: send nothing until the next such frame. The shell server ignores it |
//! | `U` uptime, ID 0 | at most 32 random letters and digits: write a line with them to the kernel's log, and send the time that it has there |
//! | `P` ping | anything; answered by an equal frame |
//!
//! | guest → host | payload |
//! |---|---|
//! | `H` hello, ID 0 | lines `key value`: `version 1`, `way helper` or `way shell`, `bash PATH` for people who read the frames |
//! | `O`, `E` output | bytes of stdout, of stderr, as they arrive |
//! | `A` taken | decimal: how many more bytes of stdin were consumed (written, or discarded because no process reads them) |
//! | `X` exit | lines `key value`: `status N`: the command ended, by signal n if N is 128+n; `sum IN OUT`: XXH64 in hexadecimal of what was written to its stdin and of what came from its stdout (not from the shell server). All of its earlier output is in `O` and `E` frames before it |
//! | `F` failed | why the command could not be started |
//! | `M` messages, ID 0 | records of the kernel's log, in the format of /dev/kmsg. Records from before a command's end, an answer or a pong are sent before that frame |
//! | `U` uptime, ID 0 | five decimal numbers: the time of that line in the kernel's log, in microseconds, and the guest's uptime before and after it was written, each in seconds and nanoseconds. A guest that can't write to the log or read it sends nothing |
//! | `N` no more, ID 0 | `ended`: the helper was asked to end, and has sent all messages; `unreadable N`: it can't read the kernel's log, because of this error number |
//!
//! A process that a command left behind and that still holds its stdout delays nothing: the guest discards
//! what it prints later.
//!
//! # Where the helper can't run
//!
//! A POSIX shell serves the same protocol (`guest/server.sh`), more slowly: each command starts two
//! processes. Output arrives at a command's end. A command with stdin starts when its stdin is complete. It
//! makes no checksums (`sum`), so files are checked by the guest's cksum(1). No channel can be nested in it,
//! so each command of another user than root goes through `systemd-run`. `NIXVM_CHANNEL=shell` selects it.
//!
//! # The beginning
//!
//! The guest first sends `\nnixvm-channel NONCE MACHINE\n`, where MACHINE is what `uname -m` prints.
//! Everything before that line is ignored, because it may be left over from an earlier boot. If a loader is
//! at the other end, the host answers with `\nhelper SIZE NONCE\n` or `\nshell SIZE NONCE\n` and SIZE bytes:
//! the program that serves the channel from then on. The loader, too, ignores every line without the nonce,
//! because what the host wrote when an earlier guest went down is still in the line. A helper asks systemd
//! directly for the service that it runs in from then on (`helper/begin.rs`); the shell server does so by
//! `systemd-run` (`launch.sh`). The answer is `refused\n` if a helper can't run there or gets no service, and
//! then the host sends the shell server instead. At the end comes the hello.
//!
//! # Promises to the rest of the library
//!
//! - A request is one write to the stream, made by the caller itself. An answer wakes its caller directly.
//! - A slow reader does not hold up others: up to 64 MiB of unread output are kept for a command. A command
//!   that exceeds this is killed, and its error says so.
//! - When the channel is lost, everything pending fails at once with
//!   [`ChannelLost`](crate::ErrorKind::ChannelLost) and the reason, and so does every later use.
//! - Nothing that a guest sends can make the host panic or use unbounded memory.

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
