//! Connects each client to the console or to a shell.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

use crate::channel::{Channel, Request, Shell};
use crate::machine::Machine;

/// Number of earlier console lines that a new client gets.
const REPAINTED: usize = 24;

/// Serves the console, one client at a time: two clients would type into each other's lines.
pub(super) async fn console(machine: Machine, listener: UnixListener) {
    while let Ok((client, _)) = listener.accept().await {
        visit(&machine, client).await;
    }
}

async fn visit(machine: &Machine, mut client: UnixStream) {
    let tail = machine.console().tail(REPAINTED).replace('\n', "\r\n");
    let mut console = machine.raw_console().await;
    if client.write_all(tail.as_bytes()).await.is_err() {
        return;
    }
    let mut keys = vec![0; 4096];
    loop {
        tokio::select! {
            said = console.next() => match said {
                Some(said) if client.write_all(&said).await.is_ok() => {}
                _ => return,
            },
            typed = client.read(&mut keys) => match typed {
                // A guest that takes no input is no reason to disconnect.
                Ok(count) if count > 0 => drop(console.send(&keys[..count]).await),
                _ => return,
            },
        }
    }
}

/// Serves a root shell to each client, beside the console. It has no terminal, so it works line by line.
pub(super) async fn shell(channel: Channel, machine: String, listener: UnixListener) {
    let mut serving = tokio::task::JoinSet::new();
    while let Ok((mut client, _)) = listener.accept().await {
        let text = format!("exec 2>&1; cd; PS1='root@{machine}# ' exec bash --norc --noprofile -i");
        let channel = channel.clone();
        serving.spawn(async move {
            let request = Request { text, shell: Shell::Bash, stdin: true, sum: false };
            match channel.run(request).await {
                Ok(running) => {
                    drop(tokio::io::copy_bidirectional(&mut client, &mut running.into_stream()).await)
                }
                Err(error) => drop(client.write_all(format!("{error}\n").as_bytes()).await),
            }
        });
    }
}
