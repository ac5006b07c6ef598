//! Shares QEMU's control protocol: QEMU has one connection, which is ours, so commands are forwarded over it.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;

use crate::Result;
use crate::qemu::Qemu;

/// The limit for QEMU to answer.
const ANSWER: Duration = Duration::from_secs(60);

/// Serves every client.
pub(super) async fn serve(qemu: Arc<Qemu>, listener: UnixListener) {
    let mut serving = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let qemu = Arc::clone(&qemu);
        serving.spawn(async move { drop(speak(&qemu, client).await) });
    }
}

/// Behaves as QEMU does (docs/interop/qmp-spec.txt): a greeting, answers, events.
async fn speak(qemu: &Qemu, client: UnixStream) -> Result {
    let (reader, mut writer) = client.into_split();
    let version = qemu.qmp().execute("query-version", None, ANSWER).await?;
    let mut events = qemu.qmp().events();
    let mut lines = BufReader::new(reader).lines();
    let mut send = async |message: Value| writer.write_all(format!("{message}\r\n").as_bytes()).await;
    send(json!({ "QMP": { "version": version, "capabilities": [] } })).await?;
    loop {
        tokio::select! {
            line = lines.next_line() => match line? {
                Some(line) if line.trim().is_empty() => {}
                Some(line) => send(answer(qemu, &line).await).await?,
                None => return Ok(()),
            },
            event = events.recv() => match event {
                Ok(event) => send(json!({ "event": event.name, "data": event.data })).await?,
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return Ok(()),
            },
        }
    }
}

async fn answer(qemu: &Qemu, line: &str) -> Value {
    let refused = |why: &str| json!({ "error": { "class": "GenericError", "desc": why } });
    let Ok(request) = serde_json::from_str::<Value>(line) else { return refused("this is not JSON") };
    let mut answer = match request["execute"].as_str() {
        None => refused("a command is {\"execute\": NAME}"),
        // Our connection has already negotiated.
        Some("qmp_capabilities") => json!({ "return": {} }),
        Some(command) => {
            let arguments = request.get("arguments").cloned();
            match qemu.qmp().execute(command, arguments, ANSWER).await {
                Ok(value) => json!({ "return": value }),
                Err(error) => refused(error.summary()),
            }
        }
    };
    if let Some(id) = request.get("id") {
        answer["id"] = id.clone();
    }
    answer
}
