//! The console while a user's shell serves commands on it.

mod regaining;
mod saved;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

pub(crate) use self::saved::{SavedShell, Secret};
use crate::console::Console;
use crate::machine::Life;
use crate::machine::checks::kernel_clock::KernelClock;
use crate::machine::command_text::shorten;
use crate::machine::language::Language;
use crate::machine::session::command::Collector;
use crate::machine::session::elevation::{Elevation, Reply, agreed_question};
use crate::machine::session::frame::Nonce;
use crate::machine::session::question::is_question;
use crate::machine::session::rest::REST;
use crate::machine::session::shell::{self, Typed};
use crate::mutex::lock;
use crate::{ErrorKind, Result};

/// The limit for the shell to answer what was typed, on a fast host.
const ANSWER: Duration = Duration::from_secs(5);
/// After this silence behind a login prompt, the session is over, on a fast host.
const BACK_AT_LOGIN: Duration = Duration::from_millis(400);
/// Text that stays at the end of an output for this long, on a fast host, may be a question.
const ASKS: Duration = Duration::from_secs(2);
/// Words that ask for a secret and have stood so long, on a fast host, are a question even if it is not known that a program reads.
pub(super) const ASKS_BY_WORDS: Duration = Duration::from_secs(10);
/// ^C.
pub(crate) const INTERRUPT_KEY: &[u8] = b"\x03";
/// ^D: the end of input.
const END_KEY: &[u8] = b"\x04";
/// The status that shells return for a missing program.
const NOT_FOUND: i32 = 127;
/// Maximum number of times a damaged command is sent.
const SENDS: usize = 3;

/// A shell on the console, and the state to drive it.
#[derive(Debug)]
pub(crate) struct ShellLine {
    id: u64,
    user: String,
    password: Secret,
    language: Language,
    /// Its process and user, as reported by the kernel; empty if unknown.
    process: String,
    /// The guest's uptime, and when it was read.
    uptime: (f64, Instant),
    /// A command is running, or was running when its future was dropped.
    busy: bool,
    /// A command whose end was not awaited yet.
    unfinished: Option<Unfinished>,
}

/// A command that ends by itself. Its output is read from the console in the background.
#[derive(Debug)]
struct Unfinished {
    running: Running,
    taking: tokio::task::JoinHandle<()>,
}

/// The next user of the console gets its remaining output.
impl Drop for Unfinished {
    fn drop(&mut self) {
        self.taking.abort();
    }
}

/// Which of the two came first.
pub(crate) enum Until<T> {
    /// The other future. The command continues.
    Then(T),
    /// The end of the command.
    Ended(Box<Ended>),
}

/// How a command on the console ended.
pub(crate) enum Ended {
    /// By itself.
    Done(Collector),
    /// At its limit; what it had printed, and whether the shell serves commands again.
    Interrupted { collector: Collector, regained: Result },
    /// The command asks a question that has no answer, and was interrupted.
    Asks { question: String, collector: Collector, regained: Result },
    /// With the session: the login prompt is back, or another shell is on the console.
    LoggedOut(Collector),
}

/// The text at the end of an output, and how long it has been there.
#[derive(Debug)]
struct Standing {
    words: String,
    since: crate::stopped::Instant,
    /// When they were looked at last.
    looked: crate::stopped::Instant,
}

impl Standing {
    fn new(words: String) -> Self {
        let now = crate::stopped::Instant::now();
        Self { words, since: now, looked: now }
    }
}

/// Which shell answers a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answering {
    /// The shell whose user was checked at login.
    Own,
    /// Another shell at its prompt, with an unknown user: this one has ended.
    Another,
}

/// A command whose output is being collected from the console.
#[derive(Clone)]
pub(super) struct Running(Arc<Mutex<Collector>>);

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Running")
    }
}

impl Running {
    fn new(user: &str, since: f64, clock: KernelClock) -> Self {
        Self(Arc::new(Mutex::new(Collector::new(Nonce::new(), user, since, clock))))
    }

    pub(super) fn collector(&self) -> MutexGuard<'_, Collector> {
        lock(&self.0)
    }

    /// Collects until the command starts, asks or ends.
    pub(super) async fn progress(&self, console: &Console, limit: Duration) -> Result {
        let collector = Arc::clone(&self.0);
        console.tap(limit, move |chunk| lock(&collector).push(chunk)).await
    }

    /// Collects until the command ends, or until the deadline.
    async fn to_end(&self, console: &Console, deadline: crate::stopped::Instant) {
        while self.collector().status().is_none() {
            let left = deadline.saturating_duration_since(crate::stopped::Instant::now());
            if left.is_zero() || self.progress(console, left).await.is_err() {
                return;
            }
        }
    }

    fn finish(self) -> Collector {
        std::mem::replace(
            &mut *self.collector(),
            Collector::new(Nonce::new(), "", 0.0, KernelClock::default()),
        )
    }
}

impl ShellLine {
    /// Makes a shell that has answered a probe serve commands.
    pub(crate) async fn start(life: &Life, user: &str, password: &str, language: Language) -> Result<Self> {
        let mut shell = Self {
            id: new_id(),
            user: user.to_owned(),
            password: Secret::new(password),
            language,
            process: String::new(),
            uptime: (f64::NAN, Instant::now()),
            busy: false,
            unfinished: None,
        };
        shell.process = shell.serve(life).await?;
        Ok(shell)
    }

    /// Creates the shell of a record.
    pub(crate) fn replayed(user: &str, language: Language) -> Self {
        let (user, password, process) = (user.to_owned(), Secret::new(""), String::new());
        let uptime = (f64::NAN, Instant::now());
        Self { id: new_id(), user, password, language, process, uptime, busy: false, unfinished: None }
    }

    /// Returns the password of the login.
    pub(crate) fn password(&self) -> &str {
        self.password.reveal()
    }

    /// Returns the shell's language.
    pub(crate) fn language(&self) -> Language {
        self.language
    }

    /// Returns whether a command is running, or was interrupted.
    pub(crate) fn is_busy(&self) -> bool {
        self.busy
    }

    /// Notes that something else has the terminal from now on: the shell is searched again before the next command.
    pub(crate) fn mark_taken(&mut self) {
        self.busy = true;
    }

    /// Returns an id that is unique per session.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn user(&self) -> &str {
        &self.user
    }

    /// Returns the number of the shell's process; empty if unknown.
    pub(super) fn pid(&self) -> &str {
        self.process.split(' ').next().unwrap_or_default()
    }

    /// Returns the guest's uptime, computed with the host's clock; NaN if unknown.
    fn uptime_now(&self) -> f64 {
        let (uptime, then) = self.uptime;
        uptime + then.elapsed().as_secs_f64()
    }

    /// Returns a command about which nothing is known yet.
    fn at_no_time(&self) -> Running {
        Running::new(&self.user, f64::NAN, KernelClock::default())
    }

    /// Types the serving loop at a prompt. Returns the process that runs it.
    async fn serve(&mut self, life: &Life) -> Result<String> {
        let running = self.at_no_time();
        let line = shell::serve(self.language, running.collector().nonce());
        life.console.send_line(&line).await?;
        running.progress(&life.console, life.limit(ANSWER)).await.map_err(|error| match error.kind() {
            ErrorKind::Timeout => life
                .session_ended("start of a session", "the shell did not take the line that makes it serve commands")
                .likely_cause("its start-up files redefine `read`, `printf` or `stty`, or another program has the terminal"),
            _ => error,
        })?;
        self.note_uptime(&running.collector());
        let process = running.collector().shell().to_owned();
        Ok(process)
    }

    fn note_uptime(&mut self, collector: &Collector) {
        self.uptime = (collector.uptime(), Instant::now());
    }

    /// Runs `command`. Interrupts it if it does not end within `limit`.
    pub(crate) async fn run(&mut self, life: &Life, command: &str, limit: Duration) -> Result<Ended> {
        self.run_typed(life, Typed::Command(command), limit).await
    }

    async fn run_typed(&mut self, life: &Life, typed: Typed<'_>, limit: Duration) -> Result<Ended> {
        let never = std::future::pending::<std::convert::Infallible>();
        match self.run_typed_until(life, typed, limit, never).await? {
            Until::Ended(ended) => Ok(*ended),
            Until::Then(never) => match never {},
        }
    }

    /// Runs a command like [`ShellLine::run`], but returns early when `then` completes first. The command continues and
    /// ends by itself soon; the next action on the console waits for that.
    async fn run_typed_until<T>(
        &mut self,
        life: &Life,
        typed: Typed<'_>,
        limit: Duration,
        then: impl Future<Output = T>,
    ) -> Result<Until<T>> {
        let deadline = crate::stopped::Instant::now() + limit;
        if crate::stopped::timeout_at(deadline, self.settle()).await.is_err() {
            let collector = self.at_no_time().finish();
            return Ok(Until::Ended(Box::new(Ended::Interrupted { collector, regained: Ok(()) })));
        }
        let mut running = None;
        tokio::select! {
            biased;
            then = then => {
                if let Some(running) = running {
                    self.hand_over(life, running, deadline);
                }
                Ok(Until::Then(then))
            }
            ended = self.run_to_end(life, typed, deadline, &mut running) => Ok(Until::Ended(Box::new(ended?))),
        }
    }

    /// Continues to collect the command's output in the background.
    fn hand_over(&mut self, life: &Life, running: Running, deadline: crate::stopped::Instant) {
        let (console, taken) = (life.console.clone(), running.clone());
        let taking = tokio::spawn(async move { taken.to_end(&console, deadline).await });
        self.unfinished = Some(Unfinished { running, taking });
    }

    /// Waits for the end of a command that ends by itself.
    pub(crate) async fn settle(&mut self) {
        let Some(Unfinished { taking, .. }) = &mut self.unfinished else { return };
        // It ends at its limit at the latest.
        let _ = taking.await;
        if let Some(unfinished) = self.unfinished.take()
            && unfinished.running.collector().status().is_some()
        {
            self.busy = false;
            self.note_uptime(&unfinished.running.collector());
        }
    }

    /// Runs what is `typed`; `running` collects its output.
    async fn run_to_end(
        &mut self,
        life: &Life,
        typed: Typed<'_>,
        deadline: crate::stopped::Instant,
        running: &mut Option<Running>,
    ) -> Result<Ended> {
        let begun = crate::stopped::timeout_at(deadline, self.begin_at_prompt(life, typed)).await;
        let begun = match begun {
            Ok(begun) => begun?,
            Err(_) => {
                self.busy = true;
                return self.interrupt(life, self.at_no_time()).await;
            }
        };
        let Some(begun) = begun else {
            return Ok(Ended::LoggedOut(self.at_no_time().finish()));
        };
        let running = running.insert(begun).clone();
        let mut printed = 0;
        let mut standing = Standing::new(String::new());
        // The end of the output at which the session is known to go on.
        let mut goes_on_at = None;
        loop {
            // The end may have come in the same chunk as the start.
            let asked = {
                let collector = running.collector();
                if collector.status().is_some() {
                    self.busy = false;
                    self.note_uptime(&collector);
                    drop(collector);
                    return Ok(Ended::Done(running.finish()));
                }
                collector.asked().cloned()
            };
            if asked.as_ref().is_some_and(|asked| asked.is_sure) {
                self.answer(life, &running).await?;
                continue;
            }
            let left = deadline.saturating_duration_since(crate::stopped::Instant::now());
            let wait = life.limit(if asked.is_some() { REST } else { BACK_AT_LOGIN });
            match running.progress(&life.console, wait.min(left)).await {
                Ok(()) => {}
                Err(error) if error.kind() != ErrorKind::Timeout => return Err(error),
                Err(_) if crate::stopped::Instant::now() >= deadline => {
                    return self.interrupt(life, running).await;
                }
                // A question is followed by a silence.
                Err(_) if asked.is_some() => {
                    if running.collector().asked() == asked.as_ref() {
                        self.answer(life, &running).await?;
                    }
                }
                // A silence: the shell may have ended.
                Err(_) => {
                    let before = std::mem::replace(&mut printed, running.collector().printed());
                    if before == printed && goes_on_at != Some(printed) {
                        match self.has_ended(life, &running, standing.since.elapsed()).await? {
                            Some(true) => return Ok(Ended::LoggedOut(running.finish())),
                            Some(false) => {
                                printed = running.collector().printed();
                                goes_on_at = Some(printed);
                                continue;
                            }
                            None => {}
                        }
                    }
                    let words = running.collector().last_words();
                    if words != standing.words {
                        standing = Standing::new(words);
                    } else if standing.looked.elapsed() >= life.limit(ASKS) {
                        if self.asks(life, typed, &standing).await {
                            let question = standing.words;
                            return Ok(match self.interrupt(life, running).await? {
                                Ended::Interrupted { collector, regained } => {
                                    Ended::Asks { question, collector, regained }
                                }
                                ended => ended,
                            });
                        }
                        standing.looked = crate::stopped::Instant::now();
                    }
                }
            }
        }
    }

    /// Frees the terminal, then calls [`ShellLine::begin`].
    async fn begin_at_prompt(&mut self, life: &Life, typed: Typed<'_>) -> Result<Option<Running>> {
        // The future of the last command was dropped while it ran, or something else had the terminal.
        if self.busy && self.break_off(life).await? == Answering::Another {
            return Ok(None);
        }
        self.busy = true;
        self.begin(life, typed).await
    }

    /// Types it until it has started. Returns `None` if the shell has ended.
    async fn begin(&mut self, life: &Life, typed: Typed<'_>) -> Result<Option<Running>> {
        for _ in 0..SENDS {
            let running = Running::new(&self.user, self.uptime_now(), life.channels.kernel().clock());
            running.collector().agree(typed.agreed());
            running.collector().runs(typed.text());
            match self.send_command(life, typed, &running).await {
                Ok(()) if running.collector().damaged() => {}
                Ok(()) => return Ok(Some(running)),
                // Nothing was started: the loop has ended (a `break`, TMOUT) or input was lost.
                Err(error) if error.kind() == ErrorKind::Timeout => {
                    drop(running);
                    if self.break_off(life).await? == Answering::Another {
                        return Ok(None);
                    }
                    self.busy = true;
                }
                Err(error) => return Err(error),
            }
        }
        Err(life.session_ended(
            &format!("run `{}`", shorten(typed.text())),
            "the command reached the shell damaged",
        ))
    }

    /// Returns when the command has started or arrived damaged.
    async fn send_command(&self, life: &Life, typed: Typed<'_>, running: &Running) -> Result {
        let batches = shell::type_command(typed, running.collector().nonce());
        let last = batches.len() - 1;
        for (at, batch) in batches.iter().enumerate() {
            life.console.send(batch).await?;
            loop {
                {
                    let collector = running.collector();
                    let begun = collector.started() || collector.damaged() || collector.status().is_some();
                    if begun || (at < last && collector.taken() > at) {
                        break;
                    }
                }
                running.progress(&life.console, life.limit(ANSWER)).await?;
            }
        }
        Ok(())
    }

    /// Answers the question. If the same one is asked again, the password was not accepted. End of input makes sudo
    /// give up cleanly; ^C would end the serving loop, too.
    async fn answer(&self, life: &Life, running: &Running) -> Result {
        let reply = running.collector().answer();
        match reply {
            Some(Reply::Password) => life.console.send_secret(self.password.reveal()).await,
            Some(Reply::Number(number)) => life.console.send_line(&number).await,
            None => life.console.send(END_KEY).await,
        }
    }

    /// Returns whether an output ends with a question that needs an answer. A program of our own prints nothing else.
    /// For other programs, root's channel can tell whether something reads the terminal; see [`is_question`].
    async fn asks(&self, life: &Life, typed: Typed<'_>, standing: &Standing) -> bool {
        if typed.agreed().is_some() {
            return !standing.words.is_empty();
        }
        let stand_long = standing.since.elapsed() >= life.limit(ASKS_BY_WORDS);
        // Root is asked about what can be a question.
        is_question(&standing.words, Some(true), stand_long)
            && is_question(&standing.words, life.is_read_below(self.pid()).await, stand_long)
    }

    /// Runs a command as root, unless `then` comes first. It uses a program that makes the user root: the one that
    /// worked before, or sudo, or a replacement. `command` returns the command's text for the prefix that it gets. Also
    /// returns the program's name, which is empty if the user is root.
    pub(crate) async fn run_as_root<T>(
        &mut self,
        life: &Life,
        command: impl Fn(&str) -> String,
        limit: Duration,
        then: &mut (impl Future<Output = T> + Unpin),
    ) -> Result<(Until<T>, &'static str)> {
        if self.user == "root" {
            // Programs start faster without loading a locale.
            let locale = if self.language == Language::Other { "" } else { "LC_ALL=C " };
            let text = command(locale);
            return Ok((self.run_typed_until(life, Typed::Question(&text), limit, then).await?, ""));
        }
        let mut way = lock(&life.channels.elevation).unwrap_or(Elevation::Sudo);
        loop {
            *lock(&life.channels.elevation) = Some(way);
            let agreed = agreed_question(&self.user);
            let text = command(&way.before(self.language, &agreed));
            let typed = Typed::Agreed { text: &text, question: &agreed };
            let until = self.run_typed_until(life, typed, limit, &mut *then).await?;
            if let Until::Ended(ended) = &until
                && let Ended::Done(collector) = &**ended
                && let Some(status @ 1..) = collector.status()
                && let Some(other) = self.other_way(life, way, status, &collector.last_lines()).await?
            {
                way = other;
                continue;
            }
            return Ok((until, way.name()));
        }
    }

    /// Runs a short command as root to its end: see [`ShellLine::run_as_root`].
    pub(crate) async fn run_command_as_root(
        &mut self,
        life: &Life,
        command: &str,
        limit: Duration,
    ) -> Result<(Ended, &'static str)> {
        let mut never = std::future::pending::<std::convert::Infallible>();
        let text =
            |before: &str| match before.split(' ').find(|word| matches!(*word, "sudo" | "doas" | "run0")) {
                // The transcript shows the first line.
                Some(name) => format!("# {name} {command}\n{before}{command}"),
                None => command.to_owned(),
            };
        match self.run_as_root(life, text, limit, &mut never).await? {
            (Until::Ended(ended), by) => Ok((*ended, by)),
            (Until::Then(never), _) => match never {},
        }
    }

    /// Returns what to try after `way` ended with a status other than 0.
    async fn other_way(
        &mut self,
        life: &Life,
        way: Elevation,
        status: i32,
        said: &str,
    ) -> Result<Option<Elevation>> {
        if way != Elevation::Sudo {
            return Ok(None);
        }
        if status == NOT_FOUND {
            let found = self.ask(life, "command -v doas; command -v run0; true").await?.unwrap_or_default();
            let has = |name: &str| found.lines().any(|path| path.ends_with(name));
            return Ok(match (has("/doas"), has("/run0")) {
                (true, _) => Some(Elevation::Doas),
                (_, true) => Some(Elevation::Run0),
                _ => None,
            });
        }
        let said = said.to_lowercase();
        let is_usage = ["usage", "option", "argument"].iter().any(|word| said.contains(word));
        Ok(is_usage.then_some(Elevation::SudoWithoutPrompt))
    }

    /// Returns whether a short program ends with status 0. It asks for the password with `question` and prints nothing else.
    pub(crate) async fn agrees(&mut self, life: &Life, text: &str, question: &str) -> Result<bool> {
        match self.run_typed(life, Typed::Agreed { text, question }, life.limit(ANSWER) * 2).await? {
            Ended::Done(collector) => Ok(collector.status() == Some(0)),
            Ended::Interrupted { regained, .. } | Ended::Asks { regained, .. } => regained.map(|()| false),
            Ended::LoggedOut(_) => Err(life.session_ended("check of the password", "the shell ended")),
        }
    }

    /// Returns the output of a short command, or `None` if it fails. The command must not ask questions or print lines
    /// that look like kernel records.
    pub(crate) async fn ask(&mut self, life: &Life, command: &str) -> Result<Option<String>> {
        // Long enough for a retry if the input was lost.
        match self.run_typed(life, Typed::Question(command), life.limit(ANSWER) * 2).await? {
            Ended::Done(collector) if collector.status() == Some(0) => {
                Ok(Some(String::from_utf8_lossy(&collector.into_answer()).trim_end().to_owned()))
            }
            Ended::Done(_) => Ok(None),
            Ended::Interrupted { regained, .. } | Ended::Asks { regained, .. } => regained.map(|()| None),
            Ended::LoggedOut(_) => Err(life.session_ended(command, "the shell ended")),
        }
    }
}

fn new_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
