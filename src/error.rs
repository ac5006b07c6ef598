//! The error type of this library. An error is a small report, since users read it most often: what was expected, what
//! came instead, how long it took and its limit, the likely cause and the next step.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::ops::Range;
use std::panic::Location;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize as _;

use self::foreign::TextChain;
use crate::host_limits::{self, Limit};
use crate::{io_error, place, secrets, text};

mod foreign;

/// The result of a scenario and of every fallible call in this library.
pub type Result<T = (), E = Error> = std::result::Result<T, E>;

/// What went wrong, with everything a reader needs to find out why.
///
/// [`Error::kind`] returns the kind of failure. `Display` shows the whole report, without control sequences for
/// terminals. `source()` returns the error of another crate that it was made from, if there was one.
///
/// ```
/// use nixvm_test::{Error, ErrorKind};
/// let error = Error::new(ErrorKind::Other, "the page is empty").next_step("look at nginx's log");
/// assert_eq!(error.kind(), ErrorKind::Other);
/// assert!(error.to_string().contains("look at nginx's log"));
/// ```
#[derive(Debug, Clone)]
pub struct Error(Box<Report>);

#[derive(Debug, Clone)]
struct Report {
    kind: ErrorKind,
    summary: String,
    /// The range of the summary that is quoted from elsewhere, if the rest is the library's own text.
    quoted: Option<Range<usize>>,
    sections: Vec<(String, String)>,
    took: Option<(Duration, Duration)>,
    cause: Option<String>,
    next_step: Option<String>,
    /// The error of another crate that it was made from. Shared, since errors are cloned and most of these can't be.
    source: Option<Arc<dyn StdError + Send + Sync>>,
    /// Whether `?` made it from that error or from a text, without further information.
    foreign: bool,
    /// Whether a limit of the host is the cause.
    limited: bool,
    /// The call of the library that failed, or where the error was made if no such call is known.
    place: &'static Location<'static>,
    /// The line of the scenario that led there.
    line: Option<place::SourceLine>,
    /// Files that are removed together with the failed machine: the machine's name, and its transcript.
    transcripts: Vec<(String, PathBuf)>,
    /// Whether this host's KVM, and not the guest, may be the cause.
    doubt: Option<Doubt>,
}

/// What a failure suggests about this host's KVM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doubt {
    /// KVM lacks a feature of the guest's processor: the guest may run with another processor.
    Processor,
    /// KVM can't run guests until the host is rebooted.
    Lasting,
    /// KVM is not available at the moment: another hypervisor, missing permission, or memory.
    Passing,
    /// KVM or the guest may be the cause: the same guest under TCG shows which.
    Suspected,
    /// The guest was silent, but the wait was shorter than a slow host needs.
    Hasty,
}

/// The kind of an [`Error`], for code that decides by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The expected event did not come within its limit.
    Timeout,
    /// The console refused user name and password.
    LoginRefused,
    /// The guest's kernel panicked.
    KernelPanic,
    /// The boot failed and stopped at a dialog for repairs: emergency mode or rescue mode of systemd, or the menu of NixOS's
    /// stage 1.
    EmergencyMode,
    /// The boot waits for an answer that it does not get: a disk's passphrase, or something unknown.
    BootQuestion,
    /// QEMU ended while the machine was needed.
    QemuGone,
    /// QEMU runs, but has stopped the guest permanently: KVM could not run it any further.
    GuestStopped,
    /// QEMU runs, but has stopped the guest because a disk image could not be read or written.
    DiskError,
    /// The guest reset itself twice in a row before it came up.
    BootLoop,
    /// The machine booted but no login prompt appeared on the serial console.
    NoLoginPrompt,
    /// The guest stopped printing in the middle of its boot.
    BootStalled,
    /// A command that had to succeed ended with a status other than 0.
    CommandFailed,
    /// A command that had to fail ended with status 0.
    CommandSucceeded,
    /// A unit of systemd failed, is unknown, or is not in the required state.
    UnitFailed,
    /// A switch to another system is not clean: it was refused, it ended half way, or units failed.
    SwitchFailed,
    /// A command did not end within its limit.
    CommandTimeout,
    /// The request needs root, and no logged-in user can become root.
    NoRoot,
    /// The session on the console ended: the shell exited, or another session took its place.
    SessionEnded,
    /// The control channel to the guest can't be opened, or ended while it was needed.
    ChannelLost,
    /// The scenario passed, but a console shows that something in the machine went wrong.
    ConsoleCheck,
    /// Evaluating or building the configuration failed.
    Build,
    /// The host lacks a program, a file or a right, or one of its limits is reached (processes, open files, memory).
    Host,
    /// QEMU refused a command of its control protocol, or broke the protocol.
    Qmp,
    /// The caller's request makes no sense as given.
    Usage,
    /// Reading or writing a file, socket or process on the host failed.
    Io,
    /// The data to check is incomplete: a part was lost, cut off or never read. The error says why.
    Incomplete,
    /// The scenario is replayed against the record of a run, which has no answer to its request.
    NotRecorded,
    /// A check of the scenario itself failed (an assertion, or an error it returned).
    Other,
}

impl Error {
    /// Creates an error of `kind`; `summary` says in one line what was expected and what came instead.
    #[track_caller]
    pub fn new(kind: ErrorKind, summary: impl Into<String>) -> Self {
        Self(Box::new(Report {
            kind,
            summary: summary.into(),
            quoted: None,
            sections: Vec::new(),
            took: None,
            cause: None,
            next_step: None,
            source: None,
            foreign: false,
            limited: false,
            place: Location::caller(),
            line: place::line(),
            transcripts: Vec::new(),
            doubt: None,
        }))
    }

    /// Creates an error whose summary quotes text from elsewhere between the library's own words. A password that is a
    /// common word is masked only in `quoted`.
    #[track_caller]
    pub(crate) fn quoting(kind: ErrorKind, before: &str, quoted: &str, behind: &str) -> Self {
        let mut error = Self::new(kind, format!("{before}{quoted}{behind}"));
        error.0.quoted = Some(before.len()..before.len() + quoted.len());
        error
    }

    /// Creates an error for failed input or output on the host. `doing` is the failed action ("read FILE").
    pub(crate) fn io(doing: impl fmt::Display, source: &io::Error) -> Self {
        let limit = io_error::code(source).and_then(host_limits::of_files);
        Self::could_not(ErrorKind::Io, doing, source).because_of(limit)
    }

    /// Creates the same error for an action that failed because the host lacks something, such as a free slot for a
    /// process or a thread.
    pub(crate) fn host(doing: impl fmt::Display, source: &io::Error) -> Self {
        Self::could_not(ErrorKind::Host, doing, source).because_of_a_limit(source)
    }

    fn could_not(kind: ErrorKind, doing: impl fmt::Display, source: &io::Error) -> Self {
        // It can't be cloned. Its code matters; without a code, its kind and its text do.
        let copy = match source.raw_os_error() {
            Some(code) => io::Error::from_raw_os_error(code),
            None => io::Error::new(source.kind(), TextChain::of(source)),
        };
        let error = Self::new(kind, format!("could not {doing}: {source}")).caused_by(copy);
        match source.get_ref().and_then(|inner| inner.downcast_ref::<Self>()) {
            Some(own) if own.0.limited => error.with_limit_of(own),
            _ => error,
        }
    }

    /// If `source`, which a new process or thread got, is about a limit of the host, names that limit as the cause and
    /// sets the kind to [`ErrorKind::Host`].
    #[must_use]
    pub(crate) fn because_of_a_limit(self, source: &io::Error) -> Self {
        self.because_of(io_error::code(source).and_then(host_limits::behind))
    }

    /// Does the same for a limit that another program `said` it had reached.
    #[must_use]
    pub(crate) fn because_of_words(self, said: &str) -> Self {
        self.because_of(host_limits::in_words(said))
    }

    fn because_of(mut self, limit: Option<Limit>) -> Self {
        if let Some(Limit { cause, next }) = limit {
            self.0.kind = ErrorKind::Host;
            (self.0.cause, self.0.next_step, self.0.limited) = (Some(cause), Some(next), true);
        }
        self
    }

    /// Creates an error for an action that is not begun because of a limit of the host.
    pub(crate) fn limited(doing: impl fmt::Display, limit: Limit) -> Self {
        Self::new(ErrorKind::Host, format!("could not {doing}: a limit of this host is too low"))
            .because_of(Some(limit))
    }

    fn with_limit_of(mut self, other: &Self) -> Self {
        self.0.kind = ErrorKind::Host;
        self.0.limited = true;
        self.0.cause.clone_from(&other.0.cause);
        self.0.next_step.clone_from(&other.0.next_step);
        self
    }

    /// Returns whether a limit of the host is the cause, so that the failure says nothing about the machine.
    pub(crate) fn is_of_a_limit(&self) -> bool {
        self.0.limited
    }

    /// Creates the error for `?` on an error of another crate.
    #[track_caller]
    fn foreign(kind: ErrorKind, summary: impl Into<String>) -> Self {
        let mut error = Self::new(kind, summary);
        error.0.foreign = true;
        error
    }

    /// Keeps the error of another crate that it was made from.
    #[must_use]
    pub(crate) fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(Arc::from(source.into()));
        self
    }

    /// Returns whether `?` made it from another crate's error or from a text. Then it is the scenario's own error,
    /// regardless of its kind.
    pub(crate) fn is_foreign(&self) -> bool {
        self.0.foreign
    }

    /// Changes the error of a wait that failed while data was `lost`: the expected event may have been in that data.
    pub(crate) fn because_incomplete(mut self, lost: &str) -> Self {
        self.0.kind = ErrorKind::Incomplete;
        self.0.quoted = None;
        self.0.summary = format!("{}, or it is lost: {lost}", self.0.summary);
        self
    }

    /// Replaces the summary with one that contains no password.
    #[must_use]
    pub(crate) fn with_summary(mut self, summary: impl Into<String>) -> Self {
        self.0.quoted = None;
        self.0.summary = summary.into();
        self
    }

    /// Adds a titled block of text, such as the last lines of the console. Empty text is left out.
    #[must_use]
    pub fn section(mut self, title: impl Into<String>, body: impl Into<String>) -> Self {
        let body = body.into();
        if !body.trim().is_empty() {
            self.0.sections.push((title.into(), body));
        }
        self
    }

    /// Adds the elapsed time and the limit.
    #[must_use]
    pub fn took(mut self, elapsed: Duration, limit: Duration) -> Self {
        self.0.took = Some((elapsed, limit));
        self
    }

    /// Adds the likely cause. If a limit of the host is known as the cause, it stays.
    #[must_use]
    pub fn likely_cause(mut self, cause: impl Into<String>) -> Self {
        if !self.0.limited {
            self.0.cause = Some(cause.into());
        }
        self
    }

    /// Adds the next step. If a limit of the host is known as the cause, its own next step stays.
    #[must_use]
    pub fn next_step(mut self, next: impl Into<String>) -> Self {
        if !self.0.limited {
            self.0.next_step = Some(next.into());
        }
        self
    }

    /// Returns the kind of this failure.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns the first line of the report: what was expected and what came instead.
    pub fn summary(&self) -> &str {
        &self.0.summary
    }

    /// Returns the summary without passwords and without control sequences for terminals.
    pub(crate) fn shown_summary(&self) -> String {
        self.0.shown_summary()
    }

    /// Returns the likely cause and the next step.
    pub(crate) fn advice(&self) -> (Option<&str>, Option<&str>) {
        (self.0.cause.as_deref(), self.0.next_step.as_deref())
    }

    /// Returns the start of its report: what was expected and what came instead.
    pub(crate) fn what(&self) -> String {
        self.0.what()
    }

    /// Returns the rest of its report, each line after a line end: elapsed time and limit, the likely cause, the next
    /// step.
    pub(crate) fn why(&self) -> String {
        self.0.why()
    }

    /// Returns the elapsed time and the limit.
    pub(crate) fn time(&self) -> Option<(Duration, Duration)> {
        self.0.took
    }

    /// Returns the call of the library that failed, or the place where the error was made if no such call is known.
    pub(crate) fn place(&self) -> &'static Location<'static> {
        self.0.place
    }

    /// Returns the line of the scenario that led there, if it is known.
    pub(crate) fn line(&self) -> Option<place::SourceLine> {
        self.0.line
    }

    /// Sets the place to the call at `call`. An error that names a place outside of the library keeps it, since a call
    /// inside this one failed there.
    #[must_use]
    pub(crate) fn called_from(mut self, call: &'static Location<'static>) -> Self {
        if !place::is_theirs(self.0.place.file()) {
            self.0.place = call;
            return self.led_from(place::line());
        }
        self
    }

    /// Sets the `line` of the scenario that led to the error, if it is known.
    #[must_use]
    pub(crate) fn led_from(mut self, line: Option<place::SourceLine>) -> Self {
        self.0.line = line.or(self.0.line);
        self
    }

    /// Adds the transcript of a machine that is gone.
    #[must_use]
    pub(crate) fn transcript(mut self, machine: &str, path: PathBuf) -> Self {
        self.0.transcripts.push((machine.to_owned(), path));
        self
    }

    /// Sets whether this host's KVM may be the cause.
    #[must_use]
    pub(crate) fn doubted(mut self, doubt: Option<Doubt>) -> Self {
        self.0.doubt = doubt;
        self
    }

    /// Returns whether this host's KVM may be the cause.
    pub(crate) fn doubt(&self) -> Option<Doubt> {
        self.0.doubt
    }

    /// Returns the transcripts of removed machines.
    pub(crate) fn transcripts(&self) -> &[(String, PathBuf)] {
        &self.0.transcripts
    }

    /// Returns the titled blocks of text, in the order in which they are shown.
    pub fn sections(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.sections.iter().map(|(title, body)| (title.as_str(), body.as_str()))
    }
}

impl Report {
    fn shown_summary(&self) -> String {
        let Some(quoted) = self.quoted.clone() else { return secrets::lines(&self.summary) };
        let (before, behind) = (&self.summary[..quoted.start], &self.summary[quoted.end..]);
        let own = |text| secrets::own(&text::lines(&secrets::own(text)));
        format!("{}{}{}", own(before), secrets::lines(&self.summary[quoted]), own(behind))
    }

    fn what(&self) -> String {
        // Each part separately, so that a line end in one part can't affect another.
        let mut text = self.shown_summary();
        for (title, body) in &self.sections {
            text.push_str(&format!("\n  {}:", secrets::line(title)));
            secrets::lines(body)
                .trim_end()
                .lines()
                .for_each(|line| text.push_str(&format!("\n    | {line}")));
        }
        text
    }

    fn why(&self) -> String {
        let mut text = String::new();
        if let Some((elapsed, limit)) = self.took {
            text.push_str(&format!(
                "\n  after {:.1} s of {:.1} s",
                elapsed.as_secs_f64(),
                limit.as_secs_f64()
            ));
        }
        for (title, line) in [("likely cause", &self.cause), ("next", &self.next_step)] {
            line.iter().for_each(|line| {
                text.push_str(&format!("\n  {title}: {}", text::lines(&secrets::own(line))))
            });
        }
        text
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.what(), self.why())?;
        for (machine, path) in &self.transcripts {
            let shown = text::line(&format!("the transcript of {machine}'s console: {}", path.display()));
            write!(f, "\n  {shown}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

/// Writes the name of the kind, as serde does.
impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Error {
        Error::new(ErrorKind::Timeout, "expected a cow")
            .section("what came", "a dog\nand a cat\n")
            .section("nothing", " \n")
            .took(Duration::from_secs(2), Duration::from_millis(1500))
            .likely_cause("the wrong farm")
            .next_step("look next door")
    }

    #[test]
    fn a_report_stands_in_the_order_in_which_it_is_read() {
        let expected = "expected a cow\n  what came:\n    | a dog\n    | and a cat\n  after 2.0 s of 1.5 s\n  \
                        likely cause: the wrong farm\n  next: look next door";
        assert_eq!(report().to_string(), expected);
        assert_eq!(Error::from("a cow").to_string(), "a cow");
    }

    #[test]
    fn the_transcript_of_a_machine_that_did_not_boot_is_named() {
        let error = report().transcript("server", "/run/server.transcript".into());
        let text = error.to_string();
        assert!(text.ends_with("\n  the transcript of server's console: /run/server.transcript"), "{text}");
        assert!(!report().to_string().contains("transcript"));
    }

    #[test]
    fn a_password_is_masked_in_what_is_quoted_and_not_in_our_own_words() {
        ["77", "alicia", "Qu0ted-Pw"].iter().for_each(|secret| secrets::know(secret));
        let error = Error::quoting(
            ErrorKind::CommandFailed,
            "alicia: `",
            "login alicia 77 Qu0t\u{200b}ed-\x07Pw",
            "` of alicia ended with status 77, expected 0",
        )
        .section("its output", "Qu0t\u{fffd}ed\x1b[1m-Pw 77")
        .next_step("do without Qu0ted-Pw");
        let shown = "alicia: `login **** **** ****` of alicia ended with status 77, expected 0";
        assert_eq!(error.shown_summary(), shown);
        let whole = format!("{shown}\n  its output:\n    | **** ****\n  next: do without ****");
        assert_eq!(error.to_string(), whole);
    }

    /// A scenario's own error with a cause.
    #[derive(Debug)]
    struct Own(std::io::Error);

    impl fmt::Display for Own {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("the farm is closed")
        }
    }

    impl std::error::Error for Own {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.0)
        }
    }

    fn missing() -> std::io::Error {
        std::io::Error::from_raw_os_error(2)
    }

    /// Returns the texts of the causes of `error`, the nearest first.
    fn causes(error: &dyn std::error::Error) -> Vec<String> {
        let mut texts = Vec::new();
        let mut next = error.source();
        while let Some(error) = next {
            texts.push(error.to_string());
            next = error.source();
        }
        texts
    }

    #[test]
    fn an_input_or_output_error_of_another_crate_is_io_and_stays_the_cause() {
        let by_question_mark = || -> Result { Err(missing())? };
        let boxed = || -> Result { Err(Box::<dyn std::error::Error>::from(missing()))? };
        let sent = || -> Result { Err(Box::<dyn std::error::Error + Send + Sync>::from(missing()))? };
        for error in [by_question_mark(), boxed(), sent()].map(Result::unwrap_err) {
            assert_eq!(error.kind(), ErrorKind::Io);
            assert_eq!(error.to_string(), missing().to_string());
            let source = std::error::Error::source(&error).and_then(|source| source.downcast_ref());
            assert_eq!(source.and_then(std::io::Error::raw_os_error), Some(2));
        }
        let json = serde_json::from_reader::<_, u32>(std::fs::File::open("/").unwrap()).unwrap_err();
        assert_eq!(Error::from(json).kind(), ErrorKind::Io);
        let json = serde_json::from_str::<u32>("{").unwrap_err();
        assert_eq!(Error::from(json).kind(), ErrorKind::Other);
    }

    #[test]
    fn what_caused_an_error_of_another_crate_can_be_asked_for() {
        let chain = ["the farm is closed".to_owned(), missing().to_string()];
        let sent = Box::<dyn std::error::Error + Send + Sync>::from(Own(missing()));
        for error in [Error::from(sent), Error::from(Box::<dyn std::error::Error>::from(Own(missing())))] {
            assert_eq!((error.kind(), error.to_string()), (ErrorKind::Other, chain[0].clone()));
            assert_eq!(causes(&error), chain);
            assert_eq!(causes(&error.clone().section("a title", "a text")), chain);
        }
        assert_eq!(causes(&Error::from("x".parse::<u8>().unwrap_err())), ["invalid digit found in string"]);
        assert!(causes(&Error::from("a text")).is_empty());
    }

    #[test]
    fn the_cause_of_an_error_of_the_host_can_be_asked_for() {
        let error = Error::io("read a", &missing());
        assert_eq!(error.to_string(), format!("could not read a: {}", missing()));
        let source = std::error::Error::source(&error).and_then(|source| source.downcast_ref());
        assert_eq!(source.and_then(std::io::Error::raw_os_error), Some(2));
        let error = Error::io("read a", &std::io::Error::other(Own(missing())));
        assert_eq!(causes(&error)[0], "the farm is closed");
    }

    #[test]
    fn an_error_of_this_library_in_a_box_stays_as_it_is() {
        let boxed = Box::<dyn std::error::Error>::from(report());
        let sent = Box::<dyn std::error::Error + Send + Sync>::from(report());
        for error in [Error::from(boxed), Error::from(sent)] {
            assert_eq!((error.kind(), error.to_string()), (ErrorKind::Timeout, report().to_string()));
        }
    }
}
