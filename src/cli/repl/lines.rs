//! Reads lines: typed, with history and completion, or from a file.

use std::io::{BufRead, IsTerminal as _};
use std::path::PathBuf;

use crate::{Error, ErrorKind, Result, threads};
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::Validator;
use rustyline::{Config, Context, Editor, Helper};
use tokio::sync::mpsc::{self, Receiver};

use super::step::VERBS;

const PROMPT: &str = "> ";

/// The source of lines.
pub enum Lines {
    /// A person; lent to the thread that reads.
    Typed(Option<Box<Editor<Verbs, FileHistory>>>),
    /// A file or a pipe.
    Read(Receiver<String>),
}

impl Lines {
    /// Opens standard input, which may be a terminal, a file or a pipe. `machines` are the names that can begin a line.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when the terminal can't be used.
    pub fn open(machines: &[String]) -> Result<Self> {
        if !std::io::stdin().is_terminal() {
            return Ok(Self::Read(piped()?));
        }
        let config = Config::builder().max_history_size(1000).map(rustyline::config::Builder::build);
        let editor = config.and_then(Editor::<Verbs, FileHistory>::with_config);
        let mut editor = editor.map_err(|error| {
            Error::new(ErrorKind::Io, format!("could not use the terminal: {error}")).caused_by(error)
        })?;
        editor.set_helper(Some(Verbs { machines: machines.to_vec() }));
        if let Some(file) = history() {
            // The history file does not exist at first.
            let _ = editor.load_history(&file);
        }
        Ok(Self::Typed(Some(Box::new(editor))))
    }

    /// Returns whether a person types.
    pub fn is_terminal(&self) -> bool {
        matches!(self, Self::Typed(_))
    }

    /// Returns the next line; `None` at the end.
    pub async fn next(&mut self) -> Option<String> {
        match self {
            Self::Read(lines) => lines.recv().await,
            Self::Typed(lent) => {
                let mut editor = lent.take()?;
                let reading = threads::aside(move || {
                    let line = read(&mut editor);
                    (editor, line)
                });
                let (editor, line) = reading.await.ok()?;
                *lent = Some(editor);
                line
            }
        }
    }
}

/// Reads in a thread that is never joined: a pipe may stay open after this process is done.
fn piped() -> Result<Receiver<String>> {
    let (sender, lines) = mpsc::channel(1);
    let read = move || {
        for line in lines_of(std::io::stdin().lock()) {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    };
    let started = std::thread::Builder::new().name("lines".to_owned()).spawn(read);
    started.map_err(|error| threads::refused_thread(&error))?;
    Ok(lines)
}

/// Splits input into lines and replaces invalid UTF-8. Otherwise a file would seem to end there, and the run would seem
/// to have succeeded.
fn lines_of(from: impl BufRead) -> impl Iterator<Item = String> {
    from.split(b'\n').map_while(Result::ok).map(|line| String::from_utf8_lossy(&line).into_owned())
}

fn read(editor: &mut Editor<Verbs, FileHistory>) -> Option<String> {
    match editor.readline(PROMPT) {
        Ok(line) => {
            // Passwords must not be saved to a file.
            let verb = line.split_whitespace().next().unwrap_or_default().rsplit('.').next();
            if !line.trim().is_empty() && !verb.is_some_and(|verb| verb.starts_with("login")) {
                let _ = editor.add_history_entry(line.as_str());
                if let Some(file) = history() {
                    let _ = file.parent().map(std::fs::create_dir_all);
                    let _ = editor.save_history(&file);
                }
            }
            Some(line)
        }
        // ctrl-C discards the line, as in a shell.
        Err(ReadlineError::Interrupted) => Some(String::new()),
        Err(_) => None,
    }
}

/// Returns the path of the history file.
fn history() -> Option<PathBuf> {
    Some(crate::environment::state_folder()?.join("history"))
}

/// Completes the first words of a line.
pub struct Verbs {
    machines: Vec<String>,
}

impl Completer for Verbs {
    type Candidate = String;

    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        Ok(completed(&line[..at], &self.machines))
    }
}

/// Returns where the completed word begins, and its completions.
fn completed(typed: &str, machines: &[String]) -> (usize, Vec<String>) {
    let mut start = typed.trim_end_matches(|c: char| !c.is_whitespace()).len();
    let before: Vec<&str> = typed[..start].split_whitespace().collect();
    // A user's name is followed by a verb, too.
    let is_first = before.is_empty();
    if !is_first && !matches!(before.as_slice(), [word, _] if word.rsplit('.').next() == Some("as_user")) {
        return (start, Vec::new());
    }
    let mut fitting = Vec::new();
    match typed[start..].split_once('.') {
        Some((name, _)) if is_first && machines.iter().any(|its| its == name) => start += name.len() + 1,
        _ if is_first && machines.len() > 1 => {
            let names = machines.iter().filter(|name| name.starts_with(&typed[start..]));
            fitting.extend(names.map(|name| format!("{name}.")));
        }
        _ => {}
    }
    let verbs = VERBS.into_iter().filter(|verb| verb.starts_with(&typed[start..]));
    fitting.extend(verbs.map(|verb| format!("{verb} ")));
    (start, fitting)
}

impl Hinter for Verbs {
    type Hint = String;
}
impl Highlighter for Verbs {}
impl Validator for Verbs {}
impl Helper for Verbs {}

#[cfg(test)]
mod tests {
    use super::{completed, lines_of};

    #[test]
    fn a_file_does_not_end_where_it_is_no_utf_8() {
        let lines: Vec<String> = lines_of(&b"succeed true\r\nsucceed \xff\n\nlast"[..]).collect();
        assert_eq!(lines, ["succeed true\r", "succeed \u{fffd}", "", "last"]);
    }

    #[test]
    fn the_first_word_is_completed_and_the_one_after_a_user() {
        let alone = |typed: &str| completed(typed, &["web".to_owned()]);
        assert_eq!(alone("wait_for_o"), (0, vec!["wait_for_open_port ".to_owned()]));
        assert_eq!(alone("as_user alice suc"), (14, vec!["succeed ".to_owned()]));
        assert_eq!(alone("succeed s"), (8, vec![]));
        assert_eq!(alone("as_user alice\u{3000}suc").0, 16, "a blank of several bytes");
        let two = |typed: &str| completed(typed, &["server".to_owned(), "client".to_owned()]);
        assert_eq!(two("cl"), (0, vec!["client.".to_owned()]));
        assert_eq!(two("client.suc"), (7, vec!["succeed ".to_owned()]));
        assert_eq!(two("client.as_user alice suc"), (21, vec!["succeed ".to_owned()]));
    }
}
