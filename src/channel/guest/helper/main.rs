//! The helper: runs commands for the host, all over one descriptor.
//!
//! It is loaded into the machine's memory and needs only a kernel and a bash there. It has no C library, since the
//! machine's could be of any kind and at any path. `begin ITSELF PORT` makes systemd start a service that serves the
//! port. `serve 3 BASH BELL` is the command of that service, with the port open as descriptor 3. `serve - BASH NONCE`
//! serves standard input and output, and sends the channel's first line itself. If BASH is empty, it is searched on
//! PATH.

#![no_std]
#![no_main]

mod awaken;
mod begin;
mod bytes;
mod clocks;
mod command;
mod frame;
mod kmsg;
mod leftover;
mod manage;
mod question;
mod serve;
mod socket;
#[path = "../sum.rs"]
mod sum;
mod sys;
mod take;
mod watch;
mod worker;

use sys::{Environment, Fd};

/// Returns a C string, with its NUL.
///
/// # Safety
/// `text` must be a C string that is never freed.
unsafe fn c_string(text: *const u8) -> &'static [u8] {
    let mut n = 0;
    // SAFETY: the string ends with a NUL, and all before it is readable.
    unsafe {
        while *text.add(n) != 0 {
            n += 1;
        }
        core::slice::from_raw_parts(text, n + 1)
    }
}

/// The first function after the kernel's entry point; `stack` is unchanged.
extern "C" fn start(stack: *const usize) -> ! {
    // SAFETY: the kernel puts argc, the arguments, a null, the environment and a null there.
    let (arguments, environment) = unsafe {
        let count = *stack;
        let first = stack.add(1).cast::<*const u8>();
        let arguments: [&'static [u8]; 5] =
            core::array::from_fn(|at| if at < count { c_string(*first.add(at)) } else { b"\0" });
        (arguments, Environment::new(first.add(count + 1)))
    };
    sys::exit(match arguments {
        [_, b"begin\0", itself, port, _] => begin::begin(itself, port),
        [_, b"serve\0", b"-\0", bash, nonce] => {
            say_hello_to(nonce);
            serve::serve(Fd::inherited(0), Some(Fd::inherited(1)), bash, environment, b"")
        }
        [_, b"serve\0", port, bash, bell] => match frame::number(&port[..port.len() - 1]) {
            Some(number) => {
                let bell = &bell[..bell.len() - 1];
                serve::serve(Fd::inherited(number as i32), None, bash, environment, bell)
            }
            None => 64,
        },
        _ => 64,
    })
}

/// Sends the first line of a channel that has no loader.
fn say_hello_to(nonce: &[u8]) {
    let mut name = [0; 65];
    let nonce = &nonce[..nonce.len() - 1];
    let line = frame::ShortText::new().text(b"\nnixvm-channel ").text(nonce).text(b" ");
    let line = line.text(sys::machine_name(&mut name)).text(b"\n");
    let output = core::mem::ManuallyDrop::new(Fd::inherited(1));
    // If it fails, all later writes fail too.
    let _ = output.write(line.bytes());
}
