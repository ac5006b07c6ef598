//! Is a command's text one simple command that can't change the shell which evaluates it?
//!
//! Such a command needs no shell of its own: the one that served it can serve the next. The answer may be
//! "no" for any reason, and must be "yes" only when nothing the command does can be seen by the next.

/// Words that, coming first, are more than a program to run or a builtin without effect on its shell.
const NOT_SIMPLE: &[&str] = &[
    // Keywords.
    "if",
    "then",
    "else",
    "elif",
    "fi",
    "case",
    "esac",
    "for",
    "select",
    "while",
    "until",
    "do",
    "done",
    "in",
    "function",
    "time",
    "coproc",
    // Builtins of bash, but for the few below that leave nothing behind.
    ".",
    "alias",
    "bg",
    "bind",
    "break",
    "builtin",
    "caller",
    "cd",
    "command",
    "compgen",
    "complete",
    "compopt",
    "continue",
    "declare",
    "dirs",
    "disown",
    "enable",
    "eval",
    "exec",
    "exit",
    "export",
    "fc",
    "fg",
    "getopts",
    "hash",
    "help",
    "history",
    "jobs",
    "kill",
    "let",
    "local",
    "logout",
    "mapfile",
    "popd",
    "pushd",
    "read",
    "readarray",
    "readonly",
    "return",
    "set",
    "shift",
    "shopt",
    "source",
    "suspend",
    "times",
    "trap",
    "type",
    "typeset",
    "ulimit",
    "umask",
    "unalias",
    "unset",
    "wait",
];

/// Whether `text` is such a command.
pub(super) fn is_simple(text: &str) -> bool {
    let mut words = text.split(' ');
    let Some(first) = words.next() else { return false };
    let plain = |word: &str| !word.is_empty() && word.bytes().all(is_plain);
    plain(first)
        && text.split(' ').all(plain)
        // An assignment; a job (`%1` is `fg %1`).
        && !first.contains(['=', '%'])
        && !NOT_SIMPLE.contains(&first)
        // `printf -v NAME` sets a variable.
        && !(first == "printf" && words.next().is_some_and(|word| word.starts_with('-')))
}

/// Bytes that mean nothing but themselves to a shell. Not among them: `~`, as `~+` and `~USER` are expanded.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_@%+=:,./-".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_and_harmless_builtins_are_simple() {
        for text in [
            "true",
            "false",
            ":",
            "pwd",
            "echo",
            "echo hello",
            "echo -n a,b=c",
            "test -e /etc/passwd",
            "printf x",
            "systemctl is-active nginx.service",
            "/run/current-system/sw/bin/ls -la /",
            "./run a@b:22",
            "curl http://localhost:80/",
            "date +%s",
            "g++ -v",
            "env A=b true",
            "busctl --user",
        ] {
            assert!(is_simple(text), "{text}");
        }
    }

    #[test]
    fn whatever_is_more_than_a_simple_command_is_not() {
        for text in [
            "",
            " ",
            " true",
            "true ",
            "echo  a",
            "true\n",
            "true\ntrue",
            "a\tb",
            "A=b",
            "A=b true",
            "a+=b",
            "%1",
            "cd /",
            "cd",
            "export A=b",
            "exit 3",
            "exec true",
            "set -x",
            "read a",
            "printf -v a b",
            ". /etc/profile",
            "source x",
            "command cd /",
            "builtin cd /",
            "eval cd",
            "umask 077",
            "ulimit -n 10",
            "time true",
            "! true",
            "true; true",
            "true && true",
            "true | cat",
            "sleep 1 &",
            "echo $A",
            "echo `id`",
            "echo ~",
            "ls *",
            "ls ?",
            "echo a>b",
            "echo 'a'",
            "echo \"a\"",
            "echo \\a",
            "{ true",
            "( true )",
            "[ a ]",
            "[[ a ]]",
            "echo #a",
            "echo {a,b}",
            "f() true",
            "kill 1",
            "wait",
            "trap",
            "hash -r",
            "let a=1",
            "a[1]=2",
            "echo é",
            "echo \0",
        ] {
            assert!(!is_simple(text), "{text}");
        }
    }
}
