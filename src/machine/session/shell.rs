//! What is typed into a shell so that it serves commands.
//!
//! A person types a command and reads until the prompt is back. A program can't do that: prompts
//! differ, output may look like a prompt, long lines wrap, and line editors redraw. So one line is
//! typed at the first prompt: a loop in the user's own shell that reads a command from the terminal,
//! evaluates it there (`cd`, variables, aliases stay, output goes to the real terminal), and prints
//! markers around it. No process is started for a command but its own.
//!
//! A line to the loop is `KIND FIRST SECOND LENGTH LENGTH .TEXT.`, where FIRST and SECOND are the halves
//! of the nonce and TEXT a piece of the command:
//!
//! | kind | what the loop does |
//! |---|---|
//! | `p` | appends the piece |
//! | `n` | appends the piece and a newline |
//! | `a` | as `p`, and says that it has taken the lines so far |
//! | `x` | appends the piece and runs the command, if it has one of the two lengths (in bytes or characters, as the shell counts) |
//! | `:` | ends the loop (at a prompt it is a command that does nothing) |
//!
//! Before a command runs, the loop prints its first line after a `$`, as a person would see what was
//! typed: transcripts and failures show it. Anything else makes it forget the command. The loop lives at the top level of the shell, not in a
//! function, where `declare` would be local. Terminals echo nothing meanwhile.

use crate::machine::language::Language;
use crate::machine::session::frame::Nonce;
use crate::machine::session::noise::{remove_records, tolerant, tolerant_word};

/// Longest piece in one line: a line discipline drops what exceeds 4,095 bytes of one line
/// (N_TTY_BUF_SIZE in the kernel's drivers/tty/n_tty.c), and a control character takes two.
const PIECE: usize = 1000;
/// The guest's terminal holds a few thousand bytes for a reader that is busy.
const UNACKNOWLEDGED: usize = 8000;

impl Language {
    /// Reads the answer to [`probe`].
    pub(crate) fn named(answer: &str) -> Self {
        let answer = remove_records(answer.as_bytes(), 0.0..=f64::INFINITY);
        let without =
            |letter: &str| memchr::memmem::find(&answer, format!(" {letter} ").as_bytes()).is_some();
        match (without("f"), without("b")) {
            (false, _) => Self::Other,
            (_, false) => Self::Bash,
            _ => Self::Posix,
        }
    }
}

/// A line that every shell in use understands; it answers with the version variables by which a shell
/// is known, and blanks the answer out for people. What is typed after it is not echoed (line editors
/// follow the terminal's echo, too), and ^V quotes, which agetty leaves turned off. The space in front
/// keeps it out of most histories.
pub(crate) fn probe(nonce: &Nonce) -> String {
    let Nonce { first, second } = nonce;
    format!(
        r#" stty -echo iexten;printf '%s%s b%s f%s ;\r%60s\r' {first} {second} "$BASH_VERSION$ZSH_VERSION" "$FISH_VERSION" ''"#
    )
}

/// The regex for the answer to [`probe`], whatever the kernel prints in its middle.
pub(crate) fn alive(nonce: &Nonce) -> String {
    let nonce = tolerant(&format!("{}{} b", nonce.first, nonce.second));
    let word = tolerant_word();
    format!("{nonce}{word}{}{word}{}", tolerant(" f"), tolerant(" ;"))
}

/// The line that starts the serving loop.
pub(crate) fn serve(language: Language, nonce: &Nonce) -> String {
    let evaluate = match language {
        Language::Bash => r#"eval "$_nv_c""#,
        Language::Posix => r#"command eval "$_nv_c""#,
        Language::Other => r#""$SHELL" -c "$_nv_c""#,
    };
    // Names may be aliases, hence `\read`. Markers go to /dev/tty, since `exec >file` is a command too.
    // The last status is set again before the command, so that `echo $?` shows what a person would
    // see.
    let script = [
        r#"_nv_s=0;_nv_c=;_nv_u=;_nv_v=;_nv_l=$(printf "\n.");_nv_l=${_nv_l%.};_nv_r() { return $1;};"#,
        r#"while IFS=" " \read -r _nv_k _nv_a _nv_b _nv_x _nv_y _nv_z </dev/tty;do "#,
        r#"_nv_z=${_nv_z#.};_nv_c=$_nv_c${_nv_z%.};case $_nv_k in p) :;;n) _nv_c=$_nv_c$_nv_l;;"#,
        r#"a) \printf "\033_%s%s T\033\134" $_nv_a $_nv_b >/dev/tty;;"#,
        r#"x) if [ "${#_nv_c}" = "$_nv_x" ]||[ "${#_nv_c}" = "$_nv_y" ];then "#,
        r#"\printf "\n$ %s\n\033_%s%s S\033\134" "${_nv_c%%$_nv_l*}" $_nv_a $_nv_b >/dev/tty;_nv_r $_nv_s;"#,
        evaluate,
        r#";_nv_s=$?;\read -r _nv_u _nv_v </proc/uptime;"#,
        r#"\printf "\033_%s%s E %s %s\033\134" $_nv_a $_nv_b $_nv_s $_nv_u >/dev/tty;"#,
        r#"else \printf "\033_%s%s D\033\134" $_nv_a $_nv_b >/dev/tty;fi;_nv_c=;;"#,
        r#":) break;;*) _nv_c=;;esac;done;stty echo"#,
    ]
    .concat();
    let Nonce { first, second } = nonce;
    // The user's shell, which is the parent of a loop in a plain sh.
    let shell = if language == Language::Other { "$PPID" } else { "$$" };
    let ready = [
        r#"\read -r _nv_u _nv_v </proc/uptime;while \read -r _nv_k _nv_a _nv_b _nv_z;"#.to_owned(),
        format!(r#"do [ "$_nv_k" = Uid: ]&&break;done </proc/{shell}/status;"#),
        format!(r#"\printf "\033_%s%s R %s %s %s\033\134" {first} {second} "$_nv_u" {shell} "$_nv_b""#),
    ]
    .concat();
    match language {
        Language::Other => format!(" sh -c '{ready};{script}'"),
        _ => format!(" {ready};{script}"),
    }
}

/// What is sent for a command: batches, each but the last ending in a line that asks whether the
/// lines were taken.
pub(crate) fn type_command(command: &str, nonce: &Nonce) -> Vec<Vec<u8>> {
    let Nonce { first, second } = nonce;
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
                (true, false) => "x",
                (true, true) => "n",
                (false, _) => "p",
            };
            batch.extend_from_slice(format!("{kind} {first} {second} {lengths} .").as_bytes());
            batch.extend(piece.bytes().flat_map(quoted));
            batch.extend_from_slice(b".\r");
            if kind != "x" && batch.len() > UNACKNOWLEDGED {
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

/// A control character is preceded by ^V, which makes the line discipline take it as it is (VLNEXT;
/// termios(3)). A tab means nothing to it.
fn quoted(byte: u8) -> impl Iterator<Item = u8> {
    let control = (byte < 0x20 && byte != b'\t' || byte == 0x7f).then_some(0x16);
    control.into_iter().chain([byte])
}

/// The line that ends the loop.
pub(crate) const QUIT: &[u8] = b": . . . . ..\r";

/// What is typed at the prompt of a shell whose loop was interrupted: the terminal echoes again.
pub(crate) const ECHO_AGAIN: &[u8] = b"\x15 stty echo\r";

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
        assert!(!probe(&nonce()).contains("0123abcd4567cdef"));
    }

    #[test]
    fn no_typed_line_reaches_the_limit_of_a_line_discipline() {
        let command = "\u{1}\u{e9}".repeat(10_000);
        for batch in type_command(&command, &nonce()) {
            for line in batch.split(|byte| *byte == b'\r') {
                assert!(line.len() < 4000, "{}", line.len());
            }
        }
    }

    #[test]
    fn a_shell_is_known_by_its_answer() {
        assert_eq!(Language::named("0123 b5.2.15(1)-release f ;"), Language::Bash);
        assert_eq!(Language::named("0123 b f3.6.0 ;"), Language::Other);
        assert_eq!(Language::named("0123 b f ;"), Language::Posix);
    }

    #[test]
    fn a_short_command_is_one_line() {
        assert_eq!(type_command("true", &nonce()), [b"x 0123abcd 4567cdef 4 4 .true.\r".to_vec()]);
    }
}
