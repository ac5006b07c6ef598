//! One command on the control channel, with all its options.

use std::fmt;
use std::time::Duration;

use crate::stopped::Instant;

use crate::stopped::timeout_at;
use nixvm_test_macros::tracked;
use serde::{Deserialize, Serialize};

use crate::channel::{Progress, Request, Running, Shell, Sum};
use crate::machine::Life;
use crate::machine::command_text::shorten;
use crate::machine::commands::user::{AGAIN, COMMAND, User};
use crate::machine::limit::StandsStill;
use crate::machine::output::Output;
use crate::machine::replay::answers::LONGEST_WAIT;
use crate::machine::replay::answers::{Answers, Asking, Bytes, OpenQuestion, Replay};
use crate::{Error, ErrorKind, Result};

/// Maximum number of watched bytes that are kept for the record.
const SEEN: usize = 1 << 20;
/// Maximum number of bytes kept of each output. A command that prints more is an error.
const KEPT: usize = 256 << 20;
/// Time after the kill for the message that it has ended.
const KILLED: Duration = Duration::from_secs(3);
/// Maximum number of input bytes that are sent at once.
const PIECE: usize = 48 << 10;

/// The output stream of a piece of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

type Watcher = Box<dyn FnMut(Stream, &[u8]) + Send>;

/// A command with input, or whose output is watched as it comes. Made by [`User::command`].
///
/// ```no_run
/// # async fn example(machine: nixvm_test::machine::Machine) -> nixvm_test::Result {
/// let sorted = machine.command("sort").stdin("b\na\n").output().await?;
/// assert_eq!(sorted.text(), "a\nb\n");
/// # Ok(()) }
/// ```
#[must_use = "a command does nothing before `output` is awaited"]
pub struct Invocation {
    user: User,
    text: String,
    /// The command's name in messages.
    name: String,
    stdin: Option<Vec<u8>>,
    watcher: Option<Watcher>,
    /// It prints [`AGAIN`] before it starts over.
    repeats: bool,
    /// Its text, which is for bash, is hidden from the machine's list of processes.
    hidden: bool,
    /// The text for the record, instead of the command's own.
    asked: Option<String>,
}

impl fmt::Debug for Invocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invocation").field("user", &self.user.name).field("text", &self.text).finish()
    }
}

/// The result of a command.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Ended {
    /// `None` if the limit ended it.
    pub(crate) status: Option<i32>,
    /// The limit ended it, and the machine did not answer any more.
    pub(crate) mute: bool,
    pub(in crate::machine) stdout: Bytes,
    pub(in crate::machine) stderr: Bytes,
    /// The tail of the standard output that the watcher received.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seen: Option<Bytes>,
}

impl Ended {
    pub(crate) fn into_output(self, command: &str) -> Output {
        Output::new(command, self.status.unwrap_or(-1), self.stdout.0, self.stderr.0)
    }
}

/// A command that is running. It is recorded in every case, also when its caller stops early.
struct Open<'a> {
    page: Option<OpenQuestion<'a>>,
    ended: Ended,
}

impl<'a> Open<'a> {
    fn at(page: OpenQuestion<'a>) -> Self {
        Self { page: Some(page), ended: Ended::default() }
    }

    fn close(mut self, ran: Result) -> Result<Ended> {
        let ended = ran.map(|()| std::mem::take(&mut self.ended));
        if let Some(page) = self.page.take() {
            page.answered(&ended);
        }
        ended
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        if let Some(page) = self.page.take() {
            page.was_enough(&self.ended);
        }
    }
}

impl Invocation {
    pub(crate) fn new(user: User, text: &str) -> Self {
        Self {
            user,
            text: text.to_owned(),
            name: text.to_owned(),
            stdin: None,
            watcher: None,
            repeats: false,
            hidden: false,
            asked: None,
        }
    }

    /// Sets the question `asked` for the record: the text is a script of ours with irrelevant details.
    pub(crate) fn asked_as(self, asked: String) -> Self {
        Self { asked: Some(asked), ..self }
    }

    /// Returns its name in messages.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Marks a loop around the command `name` that prints [`AGAIN`] before each iteration.
    pub(crate) fn repeating(self, name: &str) -> Self {
        Self { repeats: true, ..self.named(name) }
    }

    /// Hides its text, which must be for bash, from searches for a process by its command line.
    pub(crate) fn hidden(self) -> Self {
        Self { hidden: true, ..self }
    }

    /// Sets its name in messages, for a text with irrelevant details.
    pub(crate) fn named(self, name: &str) -> Self {
        Self { name: name.to_owned(), ..self }
    }

    /// Sets its standard input: these bytes, followed by the end of input. The default is /dev/null.
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(bytes.into());
        self
    }

    /// Sets its time limit. The limit is for a fast host and is scaled by [`crate::Speed`].
    pub fn within(mut self, limit: Duration) -> Self {
        self.user.limit = Some(limit);
        self
    }

    /// Passes its output to `watcher` as it comes; the output is also kept. `watcher` must not block.
    pub fn watch(mut self, watcher: impl FnMut(Stream, &[u8]) + Send + 'static) -> Self {
        self.watcher = Some(Box::new(watcher));
        self
    }

    /// Runs it and returns its output, for any exit status.
    ///
    /// # Errors
    /// Those of [`User::execute`]; [`ErrorKind::Other`] for more than 256 MiB of output.
    #[tracked]
    pub async fn output(self) -> Result<Output> {
        let life = self.user.life();
        let name = self.name.clone();
        let limit = life.limit(self.user.limit.unwrap_or(COMMAND));
        let started = Instant::now();
        let ended = self.run().await?;
        let (in_time, mute) = (ended.status.is_some(), ended.mute);
        let output = ended.into_output(&name);
        if in_time {
            return Ok(output);
        }
        let error = Error::quoting(
            ErrorKind::CommandTimeout,
            &format!("{}: `", life.name),
            &shorten(&name),
            "` did not end within its limit",
        )
        .took(started.elapsed(), limit);
        let error = life.with_outputs(error, &output);
        Err(match mute {
            true if life.stands_still().await => error.likely_cause(StandsStill::CAUSE),
            true => error.likely_cause("the machine no longer answers: it hangs, or it is far too busy"),
            false => error.next_step("it was killed; give it more time with `within`"),
        })
    }

    /// Runs it until its end or its limit.
    pub(crate) async fn run(mut self) -> Result<Ended> {
        if self.text.contains('\0') {
            return Err(Error::new(ErrorKind::Usage, "a command can't contain a NUL byte"));
        }
        let life = self.user.life();
        let limit = life.limit(self.user.limit.unwrap_or(COMMAND));
        let question = self.question();
        let writer = match &life.answers {
            Answers::Read(replay) => return self.replay(&life, replay, &question).await,
            Answers::Written(writer) => writer,
        };
        let mut open = Open::at(writer.open_question(&life, &question, Asking::default()));
        let ran = life.while_it_runs(self.run_on_channel(&life, limit, &mut open.ended)).await;
        open.close(ran)
    }

    /// Describes the command with all its options, for the record.
    fn question(&self) -> String {
        let Self { user, text, stdin, asked, .. } = self;
        let text = asked.as_ref().unwrap_or(text);
        let own = if user.shell == Shell::User { " (own shell)" } else { "" };
        // The record only has to distinguish inputs, not to store them. Every run pays for this, so it uses the fast
        // checksum of file copies.
        let input = stdin.as_ref().map(|bytes| {
            let mut sum = Sum::new();
            sum.add(bytes);
            format!(" < {} bytes, {:016x}", bytes.len(), sum.value())
        });
        format!("{}{own}: {text}{}", user.name, input.unwrap_or_default())
    }

    /// Returns the command's result from a record.
    async fn replay(mut self, life: &Life, replay: &Replay, question: &str) -> Result<Ended> {
        let mut step = life.step_with(&format!("{}: ", self.user.name), &shorten(&self.name));
        let (ended, was_enough): (Ended, bool) = replay.answer_so_far(question, life)?;
        // The record does not have the order between the two streams.
        self.watched(Stream::Stdout, &ended.seen.as_ref().unwrap_or(&ended.stdout).0);
        self.watched(Stream::Stderr, &ended.stderr.0);
        step.gave(&ended.stdout.0, &ended.stderr.0, ended.status);
        if !was_enough {
            return Ok(ended);
        }
        // The recorded command kept running after this. Its watcher may stop early again, here or in a concurrent task,
        // so give it time.
        tokio::time::sleep(LONGEST_WAIT).await;
        Err(replay.was_enough(question))
    }

    async fn run_on_channel(&mut self, life: &Life, limit: Duration, ended: &mut Ended) -> Result {
        let Ok(channel) = life.held_to(limit, life.channel(&self.user.name)).await else {
            ended.mute = true;
            return Ok(());
        };
        let channel = channel?;
        let mut step = life.step_with(&format!("{}: ", self.user.name), &shorten(&self.name));
        let deadline = Instant::now() + limit;
        let request = Request {
            text: self.user.text(&channel, &self.text),
            shell: if self.hidden { Shell::HiddenBash } else { self.user.shell },
            stdin: self.stdin.is_some(),
            sum: false,
        };
        // A guest that does not read its input may not even read a command.
        let Ok(running) = timeout_at(deadline, channel.run(request)).await else {
            ended.mute = true;
            return Ok(());
        };
        let mut running = running?;
        match timeout_at(deadline, self.exchange(&mut running, ended)).await {
            Ok(collected) => collected?,
            Err(_) => {
                running.kill(rustix::process::Signal::KILL.as_raw()).await?;
                // Its last output is on its way, unless the machine does not answer any more.
                let patience = life.limit(KILLED).min(limit);
                let last = async {
                    let rest = crate::stopped::timeout(patience, self.collect(&mut running, ended));
                    tokio::join!(rest, channel.ping(patience))
                };
                let answers = match life.held_to(Duration::ZERO, last).await {
                    Ok((rest, answer)) => {
                        rest.unwrap_or(Ok(()))?;
                        answer.is_ok()
                    }
                    Err(StandsStill) => false,
                };
                ended.mute = !answers;
                ended.status = None;
            }
        }
        step.gave(&ended.stdout.0, &ended.stderr.0, ended.status);
        Ok(())
    }

    /// Sends input and reads output concurrently: a command that prints while it reads must not block.
    async fn exchange(&mut self, running: &mut Running, ended: &mut Ended) -> Result {
        let input = running.take_input().zip(self.stdin.take());
        let feed = async {
            let Some((mut input, bytes)) = input else { return Ok(()) };
            for piece in bytes.chunks(PIECE) {
                input.write(piece).await?;
            }
            input.end().await
        };
        let (fed, collected) = tokio::join!(feed, self.collect(running, ended));
        fed.and(collected)
    }

    /// Reads its output up to its end.
    async fn collect(&mut self, running: &mut Running, ended: &mut Ended) -> Result {
        loop {
            match running.next().await? {
                Progress::Stdout(bytes) => {
                    self.watched(Stream::Stdout, &bytes);
                    if self.repeats && self.watcher.is_some() {
                        see(ended.seen.get_or_insert_default(), &bytes);
                    }
                    self.keep(&mut ended.stdout.0, &bytes)?;
                }
                Progress::Stderr(bytes) => {
                    self.watched(Stream::Stderr, &bytes);
                    self.keep(&mut ended.stderr.0, &bytes)?;
                }
                Progress::Exit(status) => {
                    ended.status = Some(status);
                    return Ok(());
                }
            }
        }
    }

    /// Appends to what is kept of an output.
    fn keep(&self, kept: &mut Vec<u8>, bytes: &[u8]) -> Result {
        let from = kept.len().saturating_sub(AGAIN.len() - 1);
        kept.extend_from_slice(bytes);
        if self.repeats
            && let Some(at) = memchr::memmem::rfind(&kept[from..], AGAIN)
        {
            kept.drain(..from + at + AGAIN.len());
        }
        if kept.len() > KEPT {
            return Err(Error::new(
                ErrorKind::Other,
                format!("`{}` printed more than {} MiB", shorten(&self.name), KEPT >> 20),
            )
            .next_step("write its output to a file in the machine, and read the part that you need"));
        }
        Ok(())
    }

    fn watched(&mut self, stream: Stream, bytes: &[u8]) {
        if let Some(watcher) = &mut self.watcher {
            watcher(stream, bytes);
        }
    }
}

/// Appends to what was watched. If the oldest part is cut, the rest begins with a complete attempt.
fn see(Bytes(seen): &mut Bytes, bytes: &[u8]) {
    seen.extend_from_slice(bytes);
    if let Some(excess) = seen.len().checked_sub(SEEN) {
        let again = memchr::memmem::find(&seen[excess..], AGAIN);
        seen.drain(..again.map_or(seen.len(), |at| excess + at + AGAIN.len()));
    }
}
