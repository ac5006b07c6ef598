//! A headless Chromium, driven over the DevTools protocol through a pair of pipes: messages are JSON that ends with a NUL.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use serde_json::{Value, json};

use crate::hang::HANG;

/// A browser with one page. What went wrong in the page, and what it asked of the network, is kept.
pub struct Browser {
    child: Child,
    tell: File,
    hear: Receiver<Value>,
    session: String,
    number: u64,
    /// What its console said, exceptions, violations of its policy, and what it asked for but its own file.
    pub complaints: Vec<String>,
    profile: tempfile::TempDir,
}

impl Browser {
    /// Starts it, and opens the file. Fails without a Chromium: this is what the page is for.
    pub fn open(page: &Path, dark: bool) -> Self {
        let names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
        let found = |name: &str| {
            std::env::split_paths(&std::env::var_os("PATH").unwrap()).any(|path| path.join(name).exists())
        };
        let Some(program) = names.into_iter().find(|name| found(name)) else {
            panic!(
                "there is no Chromium to try the page in. Install one: apt-get install chromium (`./just test` does it)"
            )
        };
        let profile = tempfile::tempdir().unwrap();
        let (child_hears, tell) = rustix::pipe::pipe().unwrap();
        let (hear, child_tells) = rustix::pipe::pipe().unwrap();
        let (from, to) = (above(child_hears), above(child_tells));
        // The numbers that Chromium expects; its own ends alone stay open in it.
        let script = format!("exec 3<&{} 4>&{}; exec \"$@\"", from.as_raw_fd(), to.as_raw_fd());
        let child = Command::new("bash")
            .args(["-c", &script, "bash", program, "--headless=new", "--no-sandbox", "--disable-gpu"])
            .args([
                "--remote-debugging-pipe",
                "--no-first-run",
                "--disable-dev-shm-usage",
                "--hide-scrollbars",
            ])
            .args(["--disable-background-networking", "--window-size=1280,900"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        drop((from, to));
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            let mut reader = BufReader::new(File::from(hear));
            let mut message = Vec::new();
            while reader.read_until(0, &mut message).is_ok_and(|read| read > 0) {
                message.pop();
                if let Ok(value) = serde_json::from_slice(&message) {
                    let _ = sender.send(value);
                }
                message.clear();
            }
        });
        let mut browser = Self {
            child,
            tell: File::from(tell),
            hear: receiver,
            session: String::new(),
            number: 0,
            complaints: Vec::new(),
            profile,
        };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        browser.session =
            browser.call("Target.attachToTarget", attach)["sessionId"].as_str().unwrap().to_owned();
        for domain in ["Page.enable", "Runtime.enable", "Log.enable", "Network.enable"] {
            browser.call(domain, json!({}));
        }
        let scheme = if dark { "dark" } else { "light" };
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        browser.call("Emulation.setEmulatedMedia", features);
        browser.call("Page.navigate", json!({ "url": format!("file://{}", page.display()) }));
        browser.until("document.readyState === 'complete' && document.querySelector('.scenario') !== null");
        browser
    }

    /// The value of an expression in the page.
    #[track_caller]
    pub fn value(&mut self, expression: &str) -> Value {
        self.evaluate(expression).unwrap_or_else(|error| panic!("{expression}: {error}"))
    }

    /// Waits until an expression is true, on this page or on the one that takes its place.
    #[track_caller]
    pub fn until(&mut self, expression: &str) {
        let begun = std::time::Instant::now();
        // A page that is just being left has no answer to give any more: that is not yet.
        while self.evaluate(expression) != Ok(json!(true)) {
            assert!(begun.elapsed() < HANG, "never true: {expression}; complaints: {:?}", self.complaints);
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    /// Presses a key, as a person does.
    pub fn press(&mut self, key: &str) {
        let code = match key {
            " " => ("Space", 32),
            "Enter" => ("Enter", 13),
            "Tab" => ("Tab", 9),
            "Home" => ("Home", 36),
            "End" => ("End", 35),
            "ArrowRight" => ("ArrowRight", 39),
            "ArrowLeft" => ("ArrowLeft", 37),
            other => panic!("no code for {other}"),
        };
        let text = match key {
            " " => " ",
            "Enter" => "\r",
            _ => "",
        };
        for (kind, text) in [(if text.is_empty() { "rawKeyDown" } else { "keyDown" }, text), ("keyUp", "")] {
            let event = json!({ "type": kind, "key": key, "code": code.0, "windowsVirtualKeyCode": code.1, "text": text });
            self.call("Input.dispatchKeyEvent", event);
        }
    }

    /// Types text where the focus is.
    pub fn type_text(&mut self, text: &str) {
        self.call("Input.insertText", json!({ "text": text }));
    }

    /// A picture of the whole page, or of what is to be seen, where `NIXVM_TEST_PICTURES` names a folder.
    pub fn picture(&mut self, name: &str) {
        let Some(folder) = std::env::var_os("NIXVM_TEST_PICTURES") else { return };
        let taken = self.call("Page.captureScreenshot", json!({ "captureBeyondViewport": true }));
        let encoded = taken["data"].as_str().unwrap();
        let text = self.profile.path().join("picture");
        std::fs::write(&text, encoded).unwrap();
        let png = Command::new("base64").arg("-d").arg(&text).output().unwrap().stdout;
        std::fs::write(Path::new(&folder).join(name), png).unwrap();
    }

    /// The value of an expression, or the browser's error: there was nobody to ask.
    #[track_caller]
    fn evaluate(&mut self, expression: &str) -> Result<Value, Value> {
        let ask = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let answer = self.ask("Runtime.evaluate", ask)?;
        assert!(answer.get("exceptionDetails").is_none(), "{expression}: {answer}");
        Ok(answer["result"]["value"].clone())
    }

    #[track_caller]
    fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.ask(method, parameters).unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    #[track_caller]
    fn ask(&mut self, method: &str, parameters: Value) -> Result<Value, Value> {
        self.number += 1;
        let mut message = json!({ "id": self.number, "method": method, "params": parameters });
        if !self.session.is_empty() {
            message["sessionId"] = json!(self.session);
        }
        let mut bytes = serde_json::to_vec(&message).unwrap();
        bytes.push(0);
        self.tell.write_all(&bytes).unwrap();
        loop {
            let answer = self
                .hear
                .recv_timeout(HANG)
                .unwrap_or_else(|_| panic!("the browser does not answer {method}"));
            if answer["id"] == json!(self.number) {
                return match answer.get("error") {
                    Some(error) => Err(error.clone()),
                    None => Ok(answer["result"].clone()),
                };
            }
            self.take_note(&answer);
        }
    }

    fn take_note(&mut self, event: &Value) {
        let told = &event["params"];
        match event["method"].as_str().unwrap_or_default() {
            "Runtime.consoleAPICalled"
            | "Runtime.exceptionThrown"
            | "Log.entryAdded"
            | "Page.javascriptDialogOpening" => {
                self.complaints.push(told.to_string());
            }
            "Network.requestWillBeSent" => {
                let url = told["request"]["url"].as_str().unwrap_or_default();
                let own = url == "about:blank"
                    || url.starts_with("data:image/png;")
                    || url.ends_with("/report.html");
                if !own {
                    self.complaints.push(format!("asked for {url}"));
                }
            }
            _ => {}
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Closed in order, its helpers write no more to the profile, which is about to be removed.
        let _ = self.tell.write_all(b"{\"id\":0,\"method\":\"Browser.close\"}\0");
        let begun = std::time::Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && begun.elapsed() < HANG {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The same descriptor with a number that is out of the way, and that a child gets.
fn above(fd: OwnedFd) -> OwnedFd {
    let copy = rustix::io::fcntl_dupfd_cloexec(&fd, 20).unwrap();
    rustix::io::fcntl_setfd(&copy, rustix::io::FdFlags::empty()).unwrap();
    copy
}
