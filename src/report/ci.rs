//! CI systems that read commands in a job's log. Guest output must not be read as a command.
//!
//! Environment variables show which system reads the log. A space is inserted into the sign of each command,
//! so that the text stays readable.

use std::ffi::OsString;
use std::sync::LazyLock;

use crate::environment::variable;

/// A CI system, recognised by the variable that it sets.
#[derive(Debug)]
struct System {
    variable: &'static str,
    signs: &'static [Sign],
}

/// How a command begins. Letters are not case-sensitive.
#[derive(Debug)]
enum Sign {
    /// This text anywhere in a line. The space is inserted after this number of its bytes.
    Anywhere(&'static str, usize),
    /// This text at the beginning of a line, after optional blanks.
    First(&'static str),
}

use Sign::{Anywhere, First};

/// GitHub's runner reads `::command::` at the beginning of a line, and the older `##[command]` anywhere
/// (`ActionCommand.TryParseV2`, `TryParse` in actions/runner). The runners of Gitea and Forgejo set its
/// variable, too.
const GITHUB: System = System { variable: "GITHUB_ACTIONS", signs: &[First("::"), Anywhere("##[", 2)] };

const SYSTEMS: &[System] = &[
    GITHUB,
    System { variable: "GITLAB_CI", signs: &[Anywhere("section_start:", 13), Anywhere("section_end:", 11)] },
    System { variable: "TF_BUILD", signs: &[Anywhere("##[", 2), Anywhere("##vso[", 2)] },
    System { variable: "TEAMCITY_VERSION", signs: &[Anywhere("##teamcity[", 2)] },
    System {
        variable: "BUILDKITE",
        signs: &[First("---"), First("+++"), First("~~~"), First("^^^"), Anywhere("_bk;", 3)],
    },
    System { variable: "TRAVIS", signs: &[Anywhere("travis_fold:", 11), Anywhere("travis_time:", 11)] },
];

/// Returns `text` without commands of the CI system that this process runs in. `text` is one or more lines,
/// or a part of one.
pub(crate) fn broken_up(text: &str) -> String {
    static HERE: LazyLock<Vec<&'static Sign>> = LazyLock::new(|| signs_where(variable));
    without(text, &HERE)
}

/// Returns `text` without GitHub's commands.
pub(super) fn without_githubs(text: &str) -> String {
    without(text, &GITHUB.signs.iter().collect::<Vec<_>>())
}

/// Returns `text` without what Jenkins and GitLab read in a JUnit report as a file of the host to attach.
pub(super) fn without_attachments(text: &str) -> String {
    without(text, &[&Anywhere("[[attachment|", 1)])
}

/// Returns the signs of every system whose variable is set, because a runner may run in another one.
fn signs_where(variable: impl Fn(&str) -> Option<OsString>) -> Vec<&'static Sign> {
    SYSTEMS
        .iter()
        .filter(|system| variable(system.variable).is_some())
        .flat_map(|system| system.signs)
        .collect()
}

fn without(text: &str, signs: &[&Sign]) -> String {
    if signs.is_empty() {
        return text.to_owned();
    }
    text.split_inclusive(['\n', '\r']).map(|line| line_without(line, signs)).collect()
}

fn line_without(line: &str, signs: &[&Sign]) -> String {
    let mut line = line.to_owned();
    for sign in signs {
        match sign {
            Anywhere(sign, behind) => {
                let lower = line.to_ascii_lowercase();
                let found: Vec<usize> = lower.match_indices(sign).map(|(at, _)| at).collect();
                found.into_iter().rev().for_each(|at| line.insert(at + behind, ' '));
            }
            First(sign) => {
                let blanks = line.len() - line.trim_start().len();
                if line[blanks..].starts_with(sign) {
                    line.insert(blanks + 1, ' ');
                }
            }
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn on(system: &str, text: &str) -> String {
        without(text, &signs_where(|name| (name == system).then(|| "true".into())))
    }

    #[test]
    fn a_command_of_the_system_that_reads_along_stays_readable_and_is_none() {
        for (system, text, shown) in [
            ("GITHUB_ACTIONS", "::error file=a::b", ": :error file=a::b"),
            ("GITHUB_ACTIONS", "a ::error::b", "a ::error::b"),
            ("GITHUB_ACTIONS", " \u{3000}\t::stop-commands::x", " \u{3000}\t: :stop-commands::x"),
            ("GITHUB_ACTIONS", "one\n::add-mask::a\rb ###[error]c", "one\n: :add-mask::a\rb ### [error]c"),
            ("GITLAB_CI", "a section_start:1:b\n", "a section_start :1:b\n"),
            ("TF_BUILD", "a ##vso[task.setvariable]b ##[error]c", "a ## vso[task.setvariable]b ## [error]c"),
            ("TF_BUILD", "##VSO[task.complete]", "## VSO[task.complete]"),
            ("TEAMCITY_VERSION", "a ##teamcity[x]", "a ## teamcity[x]"),
            ("BUILDKITE", "+++ open", "+ ++ open"),
            ("TRAVIS", "travis_fold:start:a", "travis_fold :start:a"),
            ("JENKINS_URL", "::error::##[a]##vso[b]", "::error::##[a]##vso[b]"),
        ] {
            assert_eq!(on(system, text), shown, "{system}");
        }
    }

    #[test]
    fn no_text_has_an_attachment_in_it() {
        for (text, shown) in [
            ("a [[ATTACHMENT|/etc/shadow]]", "a [ [ATTACHMENT|/etc/shadow]]"),
            ("[[[attachment|x]] [[Attachment|y]]", "[[ [attachment|x]] [ [Attachment|y]]"),
            ("[[ATTACHMENT]]", "[[ATTACHMENT]]"),
        ] {
            assert_eq!(without_attachments(text), shown);
        }
    }

    proptest! {
        #[test]
        fn whatever_stands_around_a_sign_there_is_none_left(
            text in "((::|##|\\[|vso|VSO|teamcity|section_(start|end)|travis_(fold|time)|---|:|#|[ \t\n\r\u{3000}a]){0,3}){0,12}",
        ) {
            for system in SYSTEMS {
                let shown = on(system.variable, &text);
                prop_assert_eq!(on(system.variable, &shown), shown.clone());
                prop_assert_eq!(shown.replace(' ', ""), text.replace(' ', ""));
                for line in shown.split(['\n', '\r']) {
                    for sign in system.signs {
                        let found = match sign {
                            Anywhere(sign, _) => line.to_ascii_lowercase().contains(sign),
                            First(sign) => line.trim_start().starts_with(sign),
                        };
                        prop_assert!(!found, "{:?} in {:?}", sign, line);
                    }
                }
            }
        }
    }
}
