//! Parses the commands of the REPL.

use crate::cli::interactive::is_name;
use crate::{Error, ErrorKind, Result, nearest};

/// The commands, as `help` shows them.
pub const HELP: &str = "\
Commands:
  succeed COMMAND              runs it as root; it must succeed
  fail COMMAND                 runs it as root; it must fail
  execute COMMAND              runs it as root, with any exit status
  wait_until_succeeds COMMAND  again and again until it succeeds
  wait_until_fails COMMAND     again and again until it fails
  as_user NAME …               one of these as that user: as_user alice succeed id
  session COMMAND              runs it in the session on the console
  login USER PASSWORD          logs in on the console
  wait_for_unit UNIT           waits until a unit of systemd is active
  wait_for_open_port PORT      waits until something listens
  wait_for_file PATH           waits until a file is there
  snapshot NAME, restore NAME  saves this moment; returns to it
  screenshot FILE              a picture of the screen (PNG)
  reboot                       reboots the machine
  save FILE.rs                 writes the commands that succeeded as a scenario
  help, quit
With several machines the machine's name comes first: client.succeed curl http://server/";

/// The words that can begin a line.
pub const VERBS: [&str; 18] = [
    "succeed",
    "fail",
    "execute",
    "wait_until_succeeds",
    "wait_until_fails",
    "as_user",
    "session",
    "login",
    "wait_for_unit",
    "wait_for_open_port",
    "wait_for_file",
    "snapshot",
    "restore",
    "screenshot",
    "reboot",
    "save",
    "help",
    "quit",
];

/// A parsed line.
#[derive(Debug, PartialEq)]
pub enum Typed {
    /// Run this on the machine with this name.
    Step { machine: Option<String>, step: Step },
    /// Write the commands that worked to a file.
    Save(String),
    /// List the commands.
    Help,
    /// End the session.
    Quit,
    /// An empty line, or a comment.
    Nothing,
}

/// A command for the machine.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// A command outside the console; as root if no user is named.
    Run {
        user: Option<String>,
        how: How,
        command: String,
    },
    /// A command in the session on the console.
    Session(String),
    Login {
        user: String,
        password: String,
    },
    WaitForUnit(String),
    WaitForPort(u16),
    WaitForFile(String),
    Snapshot(String),
    Restore(String),
    Screenshot(String),
    Reboot,
}

/// The expected result of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    Succeed,
    Fail,
    Execute,
    WaitUntilSucceeds,
    WaitUntilFails,
}

impl How {
    /// Returns the method's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Succeed => "succeed",
            Self::Fail => "fail",
            Self::Execute => "execute",
            Self::WaitUntilSucceeds => "wait_until_succeeds",
            Self::WaitUntilFails => "wait_until_fails",
        }
    }

    fn named(name: &str) -> Option<Self> {
        let all = [Self::Succeed, Self::Fail, Self::Execute, Self::WaitUntilSucceeds, Self::WaitUntilFails];
        all.into_iter().find(|how| how.name() == name)
    }
}

/// Parses a line.
///
/// # Errors
/// [`ErrorKind::Usage`] for an unknown or incomplete command.
pub fn parse(line: &str) -> Result<Typed> {
    let (word, rest) = split(line);
    let (machine, verb) = match word.split_once('.') {
        Some((name, verb)) if is_name(name) => (Some(name.to_owned()), verb),
        _ => (None, word),
    };
    let step = match verb {
        "" => return Ok(Typed::Nothing),
        comment if comment.starts_with('#') => return Ok(Typed::Nothing),
        "quit" | "exit" => return Ok(Typed::Quit),
        "help" => return Ok(Typed::Help),
        "save" => return Ok(Typed::Save(one(verb, rest, "a file, such as scenario.rs")?)),
        "as_user" => {
            let (user, rest) = split(rest);
            let (verb, command) = split(rest);
            let Some(how) = How::named(verb).filter(|_| !command.is_empty()) else {
                return Err(lacks(
                    "as_user",
                    "a user, one of the verbs above, and a command: as_user alice succeed id",
                ));
            };
            Step::Run { user: Some(user.to_owned()), how, command: command.to_owned() }
        }
        "session" => Step::Session(some(verb, rest, "a command")?),
        "login" => match rest.split_whitespace().collect::<Vec<_>>().as_slice() {
            [user, password] => Step::Login { user: (*user).to_owned(), password: (*password).to_owned() },
            _ => return Err(lacks(verb, "a user and a password")),
        },
        "wait_for_unit" => Step::WaitForUnit(one(verb, rest, "a unit")?),
        "wait_for_open_port" => {
            let port = rest.parse().map_err(|_| lacks(verb, "a port, a number up to 65535"))?;
            Step::WaitForPort(port)
        }
        "wait_for_file" => Step::WaitForFile(some(verb, rest, "a path")?),
        "snapshot" => Step::Snapshot(name(verb, rest)?),
        "restore" => Step::Restore(name(verb, rest)?),
        "screenshot" => Step::Screenshot(one(verb, rest, "a file")?),
        "reboot" => Step::Reboot,
        verb => {
            let how = How::named(verb).ok_or_else(|| unknown(verb))?;
            Step::Run { user: None, how, command: some(verb, rest, "a command")? }
        }
    };
    Ok(Typed::Step { machine, step })
}

fn split(line: &str) -> (&str, &str) {
    let line = line.trim();
    let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    (word, rest.trim_start())
}

fn some(verb: &str, rest: &str, what: &str) -> Result<String> {
    if rest.is_empty() { Err(lacks(verb, what)) } else { Ok(rest.to_owned()) }
}

fn one(verb: &str, rest: &str, what: &str) -> Result<String> {
    if rest.contains(char::is_whitespace) { Err(lacks(verb, what)) } else { some(verb, rest, what) }
}

/// Parses a name that is valid in a scenario.
fn name(verb: &str, rest: &str) -> Result<String> {
    let fits = !rest.is_empty() && rest.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if fits { Ok(rest.to_owned()) } else { Err(lacks(verb, "a name of letters, digits and _")) }
}

fn lacks(verb: &str, what: &str) -> Error {
    Error::new(ErrorKind::Usage, format!("{verb} takes {what}"))
}

fn unknown(verb: &str) -> Error {
    let begins = VERBS.into_iter().find(|known| known.starts_with(verb) || verb.starts_with(known));
    let meant = match begins.or_else(|| nearest(verb, VERBS)) {
        Some(near) => format!("is {near} meant? "),
        None => String::new(),
    };
    let next = format!("{meant}`help` lists them all; a command of the machine is run by `succeed {verb} …`");
    Error::new(ErrorKind::Usage, format!("there is no command {verb:?}")).next_step(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_they_are_meant() {
        let run = |user: Option<&str>, how, command: &str| {
            let step = Step::Run { user: user.map(str::to_owned), how, command: command.to_owned() };
            Typed::Step { machine: None, step }
        };
        assert_eq!(parse("  succeed echo  'a  b' ").unwrap(), run(None, How::Succeed, "echo  'a  b'"));
        assert_eq!(parse("as_user bob fail ls /root").unwrap(), run(Some("bob"), How::Fail, "ls /root"));
        assert_eq!(
            parse("wait_for_open_port 80").unwrap(),
            Typed::Step { machine: None, step: Step::WaitForPort(80) }
        );
        let reboot = Typed::Step { machine: Some("web".to_owned()), step: Step::Reboot };
        assert_eq!(parse("web.reboot").unwrap(), reboot);
        assert_eq!(parse("# a comment").unwrap(), Typed::Nothing);
        assert_eq!(parse("save a.rs").unwrap(), Typed::Save("a.rs".to_owned()));
        for wrong in [
            "succeed",
            "as_user bob",
            "as_user bob ls",
            "login bob",
            "snapshot a b",
            "wait_for_open_port http",
        ] {
            assert_eq!(parse(wrong).unwrap_err().kind(), ErrorKind::Usage, "{wrong}");
        }
        assert!(parse("wait_for 80").unwrap_err().to_string().contains("wait_for_unit"));
        assert!(parse("succed ls").unwrap_err().to_string().contains("is succeed meant?"));
        assert!(parse("ls").unwrap_err().to_string().contains("succeed ls"));
        assert!(VERBS.iter().all(|verb| HELP.contains(verb)));
    }
}
