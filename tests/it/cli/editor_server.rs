//! A real rust-analyzer, asked as an editor asks it (the language server protocol): it knows what a scenario uses. Only where
//! NIXVM_TEST_RUST_ANALYZER is set (`./just test-editor`): it takes half a minute of a processor to read the library.

use std::io::{BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};

use serde_json::{Value, json};

use crate::folder::Folder;
use crate::hang::HANG;

/// A scenario that is being written: the cursor stands after `machine.`
const UNFINISHED: &str = "use nixvm_test::prelude::*;\n\n#[scenario]\nasync fn a(machine: Machine) -> Result {\n    \
                          let alice = machine.as_user(\"alice\");\n    machine.\n}\n\nnixvm_test::main!();\n";

struct Server {
    child: Child,
    tell: ChildStdin,
    hear: Receiver<Value>,
    number: u64,
}

impl Server {
    /// Starts it as for an editor that has opened `root`, with its default settings but one: nothing is compiled on save.
    fn start(root: &Path) -> Self {
        let mut command = Command::new("rust-analyzer");
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if name.starts_with("CARGO") || name.starts_with("NEXTEST") || name.starts_with("RUST") {
                command.env_remove(&*name);
            }
        }
        command.current_dir(root).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("rust-analyzer: `./just test-editor` installs it");
        let (tell, out) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (heard, hear) = mpsc::channel();
        std::thread::spawn(move || {
            let mut out = BufReader::new(out);
            while let Some(message) = message(&mut out) {
                if heard.send(message).is_err() {
                    return;
                }
            }
        });
        let mut server = Self { child, tell, hear, number: 0 };
        let capabilities = json!({ "experimental": { "serverStatusNotification": true } });
        server.ask(
            "initialize",
            json!({ "processId": null, "rootUri": uri(root), "capabilities": capabilities,
                "initializationOptions": { "checkOnSave": false } }),
        );
        server.say("initialized", json!({}));
        server
    }

    fn send(&mut self, mut message: Value) {
        message["jsonrpc"] = "2.0".into();
        let text = message.to_string();
        write!(self.tell, "Content-Length: {}\r\n\r\n{text}", text.len()).unwrap();
        self.tell.flush().unwrap();
    }

    fn say(&mut self, method: &str, params: Value) {
        self.send(json!({ "method": method, "params": params }));
    }

    /// The next message that is no question of the server's.
    fn next(&mut self) -> Value {
        loop {
            let message = self.hear.recv_timeout(HANG).expect("rust-analyzer says nothing more");
            if message.get("id").is_none() || message.get("method").is_none() {
                return message;
            }
            let items = message["params"]["items"].as_array().map_or(0, Vec::len);
            let result = if items > 0 { Value::Array(vec![json!({}); items]) } else { Value::Null };
            self.send(json!({ "id": message["id"], "result": result }));
        }
    }

    fn ask(&mut self, method: &str, params: Value) -> Value {
        self.number += 1;
        let number = self.number;
        self.send(json!({ "id": number, "method": method, "params": params }));
        loop {
            let mut message = self.next();
            if message["id"] == number {
                assert!(message.get("error").is_none(), "{message}");
                return message["result"].take();
            }
        }
    }

    /// Opens a file, and waits until everything is read.
    fn open(&mut self, file: &Path) {
        let text = std::fs::read_to_string(file).unwrap();
        let document = json!({ "uri": uri(file), "languageId": "rust", "version": 1, "text": text });
        self.say("textDocument/didOpen", json!({ "textDocument": document }));
        loop {
            let message = self.next();
            if message["method"] == "experimental/serverStatus" && message["params"]["quiescent"] == true {
                return;
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn message(out: &mut impl std::io::BufRead) -> Option<Value> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if out.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim_end().split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.parse().ok()?
            }
            Some(_) => {}
            None => break,
        }
    }
    let mut text = vec![0; length];
    out.read_exact(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

fn uri(path: &Path) -> String {
    format!("file://{}", path.display())
}

/// With `root` open in the editor: what can stand after `machine.` in the file, and where `Machine` leads.
#[track_caller]
fn knows_the_library(root: &Path, file: &Path) {
    let mut server = Server::start(root);
    server.open(file);
    let text = std::fs::read_to_string(file).unwrap();
    let place = |line: usize, character: usize| json!({ "textDocument": { "uri": uri(file) }, "position": { "line": line, "character": character } });
    let line_of = |part: &str| text.lines().position(|line| line.contains(part)).unwrap();
    let line = text.lines().position(|line| line.ends_with("machine.")).unwrap();
    let offered = server.ask("textDocument/completion", place(line, text.lines().nth(line).unwrap().len()));
    let items = offered.get("items").unwrap_or(&offered).as_array().cloned().unwrap_or_default();
    let names: Vec<&str> = items.iter().filter_map(|item| item["label"].as_str()).collect();
    for method in ["succeed", "wait_for_unit", "login"] {
        assert!(names.iter().any(|name| name.starts_with(method)), "{method} is not offered: {names:?}");
    }
    let line = line_of("machine: Machine");
    let column = text.lines().nth(line).unwrap().find("Machine").unwrap() + 1;
    let found = server.ask("textDocument/definition", place(line, column));
    let leads_to_the_type = found.as_array().into_iter().flatten().any(|place| {
        let path = PathBuf::from(place["uri"].as_str().unwrap_or_default().trim_start_matches("file://"));
        let line = usize::try_from(place["range"]["start"]["line"].as_u64().unwrap_or(u64::MAX))
            .unwrap_or(usize::MAX);
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().nth(line).is_some_and(|line| line.starts_with("pub struct Machine"))
    });
    assert!(leads_to_the_type, "{found}");
    let hover = server.ask("textDocument/hover", place(line_of("let alice"), 8));
    assert!(hover.to_string().contains("alice: User"), "{hover}");
}

fn is_wanted() -> bool {
    let wanted = std::env::var_os("NIXVM_TEST_RUST_ANALYZER").is_some();
    if !wanted {
        eprintln!("NIXVM_TEST_RUST_ANALYZER is not set: rust-analyzer is not asked");
    }
    wanted
}

#[test]
fn an_editor_completes_a_scenario_and_finds_definitions() {
    if !is_wanted() {
        return;
    }
    let folder = Folder::new();
    folder.put("scenarios/a.rs", UNFINISHED);
    folder.run(&["editor"]).ended_with(0);
    // The folder above is open, as a repository is.
    knows_the_library(&folder.path(), &folder.path().join("scenarios/a.rs"));
    let front = format!("---\n[dependencies]\nserde_json = \"1\"\n---\n{UNFINISHED}");
    folder.put("scenarios/front.rs", front);
    folder.run(&["editor", "scenarios/front.rs"]).ended_with(0);
    knows_the_library(&folder.path().join("scenarios"), &folder.path().join("scenarios/front.rs"));
}

#[test]
fn an_editor_knows_the_scenarios_beside_a_package_that_init_made() {
    if !is_wanted() {
        return;
    }
    let folder = Folder::new();
    folder.run(&["init", "--ci", "none"]).ended_with(0);
    folder.put("scenarios/login.rs", UNFINISHED);
    folder.run(&["editor"]).ended_with(0);
    knows_the_library(&folder.path().join("scenarios"), &folder.path().join("scenarios/login.rs"));
}
