//! The text that is typed into a shell so that it serves commands.
//!
//! A person types a command and reads until the prompt is back. A program can't do that: prompts differ, output may
//! look like a prompt, long lines wrap, and line editors redraw. So one line is typed at the first prompt: a loop in
//! the user's own shell. It reads a command from the terminal, evaluates it there (`cd`, variables and aliases persist,
//! output goes to the real terminal), and prints markers around it. No process is started except the command's own.
//!
//! A line to the loop is `KIND FIRST SECOND LENGTH LENGTH .TEXT.`, where FIRST and SECOND are the halves
//! of the nonce and TEXT a piece of the command:
//!
//! | kind | what the loop does |
//! |---|---|
//! | `p` | appends the piece |
//! | `n` | appends the piece and a newline |
//! | `a` | as `p`, and confirms the lines so far |
//! | `x` | appends the piece and runs the command, if its length in bytes or characters is one of the two |
//! | `q` | the same; a status other than 0 does not end the shell under `set -e` |
//! | `:` | ends the loop (at a prompt it is a command that does nothing) |
//!
//! Before a command runs, the loop lists the shell's jobs in a sequence that terminals do not show. It also prints the
//! command's first line after a `$`, as if it were typed: transcripts and failures show it. Any other input makes the
//! loop discard the command. The loop runs at the top level of the shell, not in a function, where `declare` would be
//! local. The terminal's echo is off meanwhile.

use crate::channel::guest::PAGERS;
use crate::machine::command_text::quoted as quoted_word;
use crate::machine::language::Language;
use crate::machine::session::frame::Nonce;

/// Maximum length of a piece in one line: a line discipline drops what exceeds 4,095 bytes of one line (N_TTY_BUF_SIZE
/// in the kernel's drivers/tty/n_tty.c), and a control character takes two.
const PIECE: usize = 1000;
/// Maximum number of unconfirmed bytes. The guest's terminal buffers a few thousand bytes for a busy reader.
const UNACKNOWLEDGED: usize = 8000;

/// What the loop does once per shell: it sets the pagers to `cat`, overriding the start-up files, and keeps their old
/// values. It runs only once, so that a value that the scenario sets later stays. zsh reports jobs at its prompt.
const BEGIN: &str = r#"_nv_p() { for _nv_n in PAGERS;do OWN eval "$1";done;};case ${_nv_PAGER-} in "") _nv_t=;_nv_p 'OWN eval "_nv_$_nv_n=\${$_nv_n-.}";OWN export "$_nv_n=cat"';case ${ZSH_VERSION-} in ?*) OWN eval "if [[ -o notify ]];then _nv_t=1;unsetopt notify;fi";;esac;;esac;"#;

/// Undoes that for a person who gets the shell: pagers that are still `cat` get their old values back.
const UNDO: &str = r#"_nv_q() { _nv_p 'OWN eval "case \${$_nv_n-} in cat) case \$_nv_$_nv_n in .) \unset $_nv_n;;*) $_nv_n=\$_nv_$_nv_n;;esac;;esac"';_nv_PAGER=;case $_nv_t in ?*) setopt notify;_nv_t=;;esac;};"#;

/// Returns the line that starts the serving loop.
///
/// It uses the shell's own words: names may be aliases or functions, hence `\builtin` and `\command`. It does not
/// depend on options that a person may have set (`set -u`, `set -e`, `set -f`, `IFS=…`). Its own commands print nothing
/// (`set -x`).
pub(crate) fn serve(language: Language, nonce: &Nonce) -> String {
    let (own, evaluate) = match language {
        Language::Bash => (r"\builtin", r#"\builtin eval "$_nv_c""#),
        Language::Posix => (r"\command", r#"\command eval "$_nv_c""#),
        Language::Other => {
            (r"\command", r#""$SHELL" -C "set -gx PAGER cat;set -gx MANPAGER cat" -c "$_nv_c""#)
        }
    };
    // bash ends a shell with `set -e` at a failure within `builtin eval`, also before `&&`.
    let question = if language == Language::Bash { r#"\eval "$_nv_c""# } else { evaluate };
    // Markers go to /dev/tty, because `exec >file` is a command too. The code between a command and its markers is in
    // functions, because a DEBUG trap does not apply inside them. The last status is set again before the command, so
    // that `echo $?` shows what a person would see. A question of our own may fail although `set -e` ends the shell.
    let script = [
        r#"_nv_s=0;_nv_c=;_nv_u=;_nv_v=;_nv_l=${_nv_l%%.*};"#,
        r#"_nv_b() { OWN printf "\033_%s%s J\033\134\033_" "$_nv_a" "$_nv_b";OWN jobs||:;"#,
        r#"OWN printf "\033\134\n$ %s\n\033_%s%s S\033\134" "${_nv_c%%"$_nv_l"*}" "$_nv_a" "$_nv_b";"#,
        r#"return "$_nv_s";} >/dev/tty 2>/dev/null;"#,
        r#"_nv_e() { _nv_s=$?;IFS=" " OWN read -r _nv_u _nv_v </proc/uptime||:;"#,
        r#"OWN printf "\033_%s%s E %s %s\033\134" "$_nv_a" "$_nv_b" "$_nv_s" "$_nv_u";} >/dev/tty 2>/dev/null;"#,
        BEGIN,
        UNDO,
        r#"while IFS=" " OWN read -r _nv_k _nv_a _nv_b _nv_x _nv_y _nv_z </dev/tty;do "#,
        r#"_nv_z=${_nv_z#.};_nv_c=$_nv_c${_nv_z%.};case $_nv_k in p) :;;n) _nv_c=$_nv_c$_nv_l;;"#,
        r#"a) OWN printf "\033_%s%s T\033\134" "$_nv_a" "$_nv_b" >/dev/tty;;"#,
        r#"x|q) if [ "${#_nv_c}" = "$_nv_x" ]||[ "${#_nv_c}" = "$_nv_y" ];then case $_nv_k in "#,
        r#"q) _nv_b||:;QUESTION&&:;;*) if _nv_b;then EVALUATE;else EVALUATE;fi;;esac;_nv_e;"#,
        r#"else OWN printf "\033_%s%s D\033\134" "$_nv_a" "$_nv_b" >/dev/tty;fi;_nv_c=;;"#,
        r#":) \break;;*) _nv_c=;;esac;done;_nv_q;/bin/sh -c "stty echo""#,
    ]
    .concat();
    let Nonce { first, second } = nonce;
    // The user's shell, which is the parent of the plain sh that runs the loop.
    let shell = if language == Language::Other { "$PPID" } else { "$$" };
    let ready = [
        // A newline, and a tab after the dot.
        r#"_nv_l=$(OWN printf "\n.\t");IFS=" " OWN read -r _nv_u _nv_v </proc/uptime||:;"#.to_owned(),
        r#"while IFS="${_nv_l#*.} " OWN read -r _nv_k _nv_a _nv_b _nv_z;"#.to_owned(),
        format!(r#"do [ "$_nv_k" = Uid: ]&&break;done <"/proc/{shell}/status";"#),
        format!(r#"OWN printf "\033_%s%s R %s %s %s\033\134" {first} {second} "$_nv_u" "{shell}" "$_nv_b""#),
    ]
    .concat();
    let line = format!("{ready};{script}");
    let line = line
        .replace("QUESTION", question)
        .replace("EVALUATE", evaluate)
        .replace("OWN", own)
        .replace("in PAGERS;", &format!("in {PAGERS};"));
    match language {
        Language::Other => format!(" /bin/sh -c {}", quoted_word(&line)),
        _ => format!(" {line}"),
    }
}

/// What is typed for the loop to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Typed<'a> {
    /// A command.
    Command(&'a str),
    /// A question of the library's own, which may return a status other than 0.
    Question(&'a str),
    /// A program that is run for a purpose of our own. It asks for the password by the words that are agreed on, and says nothing
    /// else before its end.
    Agreed { text: &'a str, question: &'a str },
}

impl<'a> Typed<'a> {
    pub(crate) fn text(self) -> &'a str {
        match self {
            Self::Command(text) | Self::Question(text) | Self::Agreed { text, .. } => text,
        }
    }

    /// By which words it asks for the password, where that is known.
    pub(crate) fn agreed(self) -> Option<&'a str> {
        match self {
            Self::Agreed { question, .. } => Some(question),
            Self::Command(_) | Self::Question(_) => None,
        }
    }
}

/// Returns what is sent for a command: batches, each but the last ending in a line that asks for a confirmation.
pub(crate) fn type_command(typed: Typed<'_>, nonce: &Nonce) -> Vec<Vec<u8>> {
    let Nonce { first, second } = nonce;
    let command = typed.text();
    // What the scenario did not type must not end its shell.
    let run = if matches!(typed, Typed::Command(_)) { "x" } else { "q" };
    let lengths = format!("{} {}", command.len(), command.chars().count());
    let mut batches = Vec::new();
    let mut batch = Vec::new();
    let mut pieces = command.split('\n').peekable();
    while let Some(line) = pieces.next() {
        let mut rest = line;
        loop {
            let mut cut = rest.len().min(PIECE);
            while !rest.is_char_boundary(cut) {
                cut -= 1;
            }
            let (piece, tail) = rest.split_at(cut);
            rest = tail;
            let kind = match (rest.is_empty(), pieces.peek().is_some()) {
                (true, false) => run,
                (true, true) => "n",
                (false, _) => "p",
            };
            batch.extend_from_slice(format!("{kind} {first} {second} {lengths} .").as_bytes());
            batch.extend(piece.bytes().flat_map(quoted));
            batch.extend_from_slice(b".\r");
            if kind != run && batch.len() > UNACKNOWLEDGED {
                batch.extend_from_slice(format!("a {first} {second} 0 0 ..\r").as_bytes());
                batches.push(std::mem::take(&mut batch));
            }
            if rest.is_empty() {
                break;
            }
        }
    }
    batches.push(batch);
    batches
}

/// Quotes a byte. A control character is preceded by ^V, which makes the line discipline take it literally (VLNEXT;
/// termios(3)). A tab needs no quoting.
fn quoted(byte: u8) -> impl Iterator<Item = u8> {
    let control = (byte < 0x20 && byte != b'\t' || byte == 0x7f).then_some(0x16);
    control.into_iter().chain([byte])
}

/// The line that ends the loop.
pub(crate) const QUIT: &[u8] = b": . . . . ..\r";

/// Typed at the prompt of a shell whose loop was interrupted: it turns the terminal's echo on again and restores the
/// person's pagers.
pub(crate) const ECHO_AGAIN: &[u8] = b"\x15 /bin/sh -c 'stty echo';type _nv_q >/dev/null 2>&1&&_nv_q\r";

#[cfg(test)]
mod tests {
    use super::*;

    fn nonce() -> Nonce {
        Nonce { first: "0123abcd".into(), second: "4567cdef".into() }
    }

    #[test]
    fn the_whole_nonce_is_never_typed() {
        for language in [Language::Bash, Language::Posix, Language::Other] {
            assert!(!serve(language, &nonce()).contains("0123abcd4567cdef"));
        }
    }

    #[test]
    fn no_typed_line_reaches_the_limit_of_a_line_discipline() {
        let command = "\u{1}\u{e9}".repeat(10_000);
        for batch in type_command(Typed::Command(&command), &nonce()) {
            for line in batch.split(|byte| *byte == b'\r') {
                assert!(line.len() < 4000, "{}", line.len());
            }
        }
    }

    /// dash reads the loop as one line of the terminal.
    #[test]
    fn the_loop_is_shorter_than_the_limit_of_a_line_discipline() {
        for language in [Language::Bash, Language::Posix, Language::Other] {
            let line = serve(language, &nonce());
            assert!(line.len() < 4000, "{}", line.len());
            assert!(!line.contains(['\n', '\t', '!']), "{line}");
        }
    }

    #[test]
    fn a_short_command_is_one_line() {
        assert_eq!(
            type_command(Typed::Command("true"), &nonce()),
            [b"x 0123abcd 4567cdef 4 4 .true.\r".to_vec()]
        );
        assert_eq!(
            type_command(Typed::Question("true"), &nonce()),
            [b"q 0123abcd 4567cdef 4 4 .true.\r".to_vec()]
        );
        assert_eq!(
            type_command(Typed::Agreed { text: "true", question: "" }, &nonce()),
            [b"q 0123abcd 4567cdef 4 4 .true.\r".to_vec()]
        );
    }
}
