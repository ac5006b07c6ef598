//! QEMU's control protocol: the greeting, the few commands that a driver sends, the events that it waits for.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::processor::Processor;

/// What a command asks the machine to do, besides answering.
pub enum Action {
    /// `stop` or `cont`.
    Pause(bool),
    /// `system_powerdown`: the power button.
    PowerButton,
    /// `system_reset`.
    Reset,
    /// `quit`.
    Quit,
    /// `migrate` to this file, or from one.
    Migrate(Option<String>),
}

/// The machine's side of QMP: events go out here.
pub struct Qmp {
    out: Mutex<Option<File>>,
    /// What `query-migrate` says.
    migration: Mutex<Value>,
    /// The guest's.
    pub processor: Processor,
}

impl Qmp {
    /// A QMP server without a client yet.
    pub fn new() -> Self {
        Self { out: Mutex::new(None), migration: Mutex::new(json!({})), processor: Processor::default() }
    }

    /// A migration has ended; where it failed, why.
    pub fn migrated(&self, failure: Option<&str>) {
        let status = if failure.is_some() { "failed" } else { "completed" };
        *self.migration.lock().unwrap_or_else(PoisonError::into_inner) =
            json!({"status": status, "error-desc": failure});
        self.event("MIGRATION", json!({"status": status}));
    }

    /// Sends an event, when a client has negotiated.
    pub fn event(&self, name: &str, data: Value) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut event = json!({
            "timestamp": {"seconds": now.as_secs(), "microseconds": now.subsec_micros()},
            "event": name,
        });
        if !data.is_null() {
            event["data"] = data;
        }
        if let Some(out) = self.out.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            send(out, &event);
        }
    }

    fn answer(&self, command: &str, negotiated: bool, status: &impl Fn() -> &'static str) -> Value {
        match command {
            "cont" if status() == "internal-error" => {
                error("GenericError", "Resetting the Virtual Machine is required")
            }
            "qmp_capabilities" if negotiated => {
                error("CommandNotFound", "Capabilities negotiation is already complete, command ignored")
            }
            "qmp_capabilities"
            | "stop"
            | "cont"
            | "system_powerdown"
            | "system_reset"
            | "quit"
            | "migrate"
            | "migrate-incoming"
            | "migrate-set-capabilities" => json!({"return": {}}),
            // It has no disks, and no devices but those of the board.
            "query-block" | "query-blockstats" | "qom-list" => json!({"return": []}),
            "query-migrate" => {
                let migration = self.migration.lock().unwrap_or_else(PoisonError::into_inner);
                json!({"return": *migration})
            }
            "query-status" => {
                let status = status();
                json!({"return": {"status": status, "running": status == "running"}})
            }
            "query-version" => {
                json!({"return": {"qemu": {"micro": 2, "minor": 0, "major": 10}, "package": "fake guest"}})
            }
            "query-cpus-fast" => json!({"return": self.processor.threads()}),
            "query-name" => json!({"return": {"name": "fake"}}),
            other => error("CommandNotFound", &format!("The command {other} has not been found")),
        }
    }

    /// Serves one client until it hangs up. `act` does what commands ask for; `status` is the run state now.
    pub fn serve(&self, line: File, act: impl Fn(Action), status: impl Fn() -> &'static str) {
        let Ok(mut out) = line.try_clone() else { return };
        send(
            &mut out,
            &json!({"QMP": {"version": {"qemu": {"micro": 2, "minor": 0, "major": 10}, "package": "fake guest"},
                            "capabilities": ["oob"]}}),
        );
        let mut negotiated = false;
        for request in BufReader::new(line).lines() {
            let Ok(request) = request else { return };
            if request.trim().is_empty() {
                continue;
            }
            let Ok(request) = serde_json::from_str::<Value>(&request) else {
                send(&mut out, &error("GenericError", "JSON parse error, invalid keyword"));
                continue;
            };
            let command = request["execute"].as_str().unwrap_or_default().to_owned();
            let line = request["arguments"]["command-line"].as_str().unwrap_or_default();
            let mut answer = if !negotiated && command != "qmp_capabilities" {
                let why = "Expecting capabilities negotiation with 'qmp_capabilities'";
                error("CommandNotFound", why)
            } else if command == "human-monitor-command" && line.starts_with("info registers") {
                json!({"return": self.processor.registers()})
            } else {
                self.answer(&command, negotiated, &status)
            };
            if let Some(id) = request.get("id") {
                answer["id"] = id.clone();
            }
            let good = answer.get("return").is_some();
            {
                let mut events = self.out.lock().unwrap_or_else(PoisonError::into_inner);
                send(&mut out, &answer);
                if good && command == "qmp_capabilities" {
                    negotiated = true;
                    *events = out.try_clone().ok();
                }
            }
            if good {
                match command.as_str() {
                    "stop" => act(Action::Pause(true)),
                    "cont" => act(Action::Pause(false)),
                    "system_powerdown" => act(Action::PowerButton),
                    "system_reset" => act(Action::Reset),
                    "quit" => act(Action::Quit),
                    "migrate" => {
                        let uri = request["arguments"]["uri"].as_str().unwrap_or_default();
                        act(Action::Migrate(uri.strip_prefix("file:").map(str::to_owned)));
                    }
                    "migrate-incoming" => act(Action::Migrate(None)),
                    _ => {}
                }
            }
        }
    }
}

fn error(class: &str, text: &str) -> Value {
    json!({"error": {"class": class, "desc": text}})
}

fn send(out: &mut File, message: &Value) {
    let _ = out.write_all(format!("{message}\r\n").as_bytes());
}
