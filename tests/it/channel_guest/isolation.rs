//! No command changes the next one, and none sees how it is run.

use crate::channel_guest::each_way;
use crate::channel_guest::guest::{Guest, Way};

/// What could be left behind, and what would show it.
const TABLE: &[(&str, &str)] = &[
    ("cd /", "pwd"),
    ("left=behind; export left", "printenv left"),
    ("umask 0", "umask"),
    ("set +e +u", "echo $-"),
    ("true() { echo mine; }; export -f true", "true"),
    ("echo() { builtin echo mine; }", "echo yours"),
    ("exec 5>&1", "ls /proc/self/fd"),
    ("exec >/dev/null", "echo here"),
    ("trap 'echo trapped' EXIT", "true"),
    ("printf -v PATH x", "env true"),
    ("alias echo=false; shopt -s expand_aliases", "echo a"),
    ("ulimit -n 50", "ulimit -n"),
    ("PATH=/nowhere", "env true"),
    ("exit 3", "echo $?"),
    ("printf abc%n PATH", "echo $PATH; env true"),
    ("printf abc%n IFS", "printf %q \"$IFS\""),
    ("printf abc%n HOME; cd", "echo ~; pwd"),
    ("printf abc%n CDPATH", "echo ${CDPATH-none}"),
    ("printf abc%n BASH_ENV; export BASH_ENV", "echo ${BASH_ENV-none}; bash -c true"),
    ("readonly r=1; export r", "r=2; echo $r"),
    ("enable -n echo test; echo() { :; }", "type -t echo test"),
    ("hash -p /bin/false env", "env true; hash"),
    ("shopt -s nullglob extglob; set -f -o posix", "shopt | md5sum; set -o | md5sum; echo $-"),
    ("unset PATH HOME; exec 2>/dev/null", "echo $PATH $HOME; echo err >&2"),
    ("trap '' TERM INT; kill -TERM $$", "kill -TERM $$; echo on"),
    ("SHELLOPTS=x; set +u; LC_ALL=C; export LC_ALL", "echo ${LC_ALL-none}; echo $x"),
    ("pushd / >/dev/null; mkdir -p /nonexistent/.. || true", "dirs"),
    ("exec -a x true", "echo $0"),
    ("sleep 0.01 & disown -a", "jobs; wait; echo none"),
];

each_way! {
    fn nothing_leaks_from_one_command_to_the_next(guest: Guest) {
        for &(leak, show) in TABLE {
            // With one that stays before and after, so that a shell that is used twice is seen, too.
            guest.run("true");
            let before = guest.run(show);
            for _ in 0..2 {
                guest.run(leak);
                for _ in 0..3 {
                    assert_eq!(guest.run(show), before, "{leak}: {show}");
                }
            }
        }
    }

    fn the_environment_is_what_the_channel_was_started_with(guest: Guest) {
        let environment = guest.run("env");
        let has = |line: &str| environment.text().lines().any(|other| other == line);
        assert!(has("NIXVM_TEST=inherited"));
        let ours = |text: &str| {
            text.lines().any(|line| line.to_lowercase().starts_with("nixvm") && !line.starts_with("NIXVM_TEST"))
        };
        assert!(!ours(environment.text()), "{}", environment.text());
        assert!(!ours(guest.run("compgen -v").text()));
        assert_eq!(guest.run("compgen -A function || echo $#").text(), "0\n");
        let here = std::env::current_dir().unwrap();
        assert_eq!(guest.run("pwd").text().trim(), here.to_str().unwrap());
    }

    fn descriptors_and_signals_are_as_a_program_expects(guest: Guest) {
        for options in ["", "shell user\n"] {
            let listed = guest.run_with("ls /proc/self/fd", options);
            if guest.way == Way::Helper {
                // The fourth is the folder that ls reads.
                assert_eq!(listed.text(), "0\n1\n2\n3\n", "{options}");
            } else {
                // A shell passes on what it was given, here by the harness; of ours there were 3, 4 and 5.
                let inherited = std::process::Command::new("ls").arg("/proc/self/fd").output().unwrap();
                assert_eq!(listed.stdout, inherited.stdout, "{options}");
            }
        }
        for options in ["", "shell user\n"] {
            let status = guest.run_with("cat /proc/self/status", options);
            for set in ["SigBlk:\t", "SigIgn:\t"] {
                let line = status.text().lines().find_map(|line| line.strip_prefix(set)).unwrap();
                // What this test's own process ignores, the shells' children do, too.
                if guest.way == Way::Helper {
                    assert_eq!(u64::from_str_radix(line, 16), Ok(0), "{set}{options}");
                }
            }
        }
        let outcome = guest.run("trap 'exit 9' INT; kill -INT $BASHPID; sleep 1000");
        assert_eq!(outcome.status, Some(9));
    }

    fn each_has_a_group_and_no_terminal(guest: Guest) {
        let outcome = guest.run("read -r _ _ _ _ group session tty _ </proc/$BASHPID/stat; echo $group $BASHPID $tty; (: >/dev/tty) 2>/dev/null || echo none");
        let mut words = outcome.text().split_whitespace();
        assert_eq!(words.next(), words.next());
        assert_eq!(words.collect::<Vec<_>>(), ["0", "none"]);
        assert_eq!(guest.run("set -o | grep -c 'monitor.*on'").text(), "0\n");
    }
}

#[test]
fn functions_in_the_environment_are_functions() {
    let mut command = std::process::Command::new(env!("NIXVM_GUEST_HELPER"));
    command.args(["serve", "-", crate::channel_guest::guest::bash(), "x"]);
    command.env("BASH_FUNC_true%%", "() { echo mine; }").env("BASH_FUNC_env%%", "() { cd /; pwd; }");
    let mut guest = Guest::spawn(Way::Helper, command);
    guest.skip_to_hello();
    assert_eq!(guest.run("true").text(), "mine\n");
    assert_eq!(guest.run("env").text(), "/\n");
    assert_ne!(guest.run("pwd").text(), "/\n");
}
