//! The paths in the text of a run script. The words are expanded as a shell does it, as far as the text and the variables of
//! this process tell. What a path begins or goes on with must be known: a file that can't be named can't be watched.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::super::allowed::STORE;

mod split;

use split::{Token, closing, name_at, tokens};

/// Stands for a file or folder of the machine's own, as `$TMPDIR` is.
const OWN: char = '\u{1}';
/// Stands for a text that is not known, and names no file alone: a number, an argument of a function.
const TEXT: char = '\u{2}';
/// Stands for what is not known at all.
const ANYTHING: char = '\u{3}';

/// Variables that the script gets from us; what is behind them is the machine's own.
const OURS: [&str; 2] = ["TMPDIR", "NIX_DISK_IMAGE"];
/// Variables with options; QEMU's command shows what is in them.
const OPTIONS: [&str; 4] = ["QEMU_OPTS", "QEMU_NET_OPTS", "QEMU_KERNEL_PARAMS", "USE_TMPDIR"];
/// Programs that write no path.
const HARMLESS: [&str; 12] =
    ["uname", "nproc", "date", "id", "hostname", "stat", "wc", "expr", "seq", "du", "arch", "basename"];
/// What a command may follow on the same line.
const BEFORE: [&str; 10] = ["then", "do", "else", "if", "elif", "while", "until", "!", "{", "exec"];
/// Folders of the kernel's.
const KERNEL: [&str; 3] = ["/dev/", "/proc/", "/sys/"];
/// The limit on the values of a word; a word with more can be anything.
const MOST: usize = 64;
/// The limit on a value, in bytes.
const LONGEST: usize = 16 << 10;
/// So deep are words in words.
const DEEPEST: usize = 16;

/// The absolute paths that a script's text names. `variable` gives the variables that the script is started with.
///
/// # Errors
/// The word that may name a file which can't be told.
pub(super) fn paths(
    text: &str,
    script: &Path,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<PathBuf>, String> {
    let script = script.to_str().map_or_else(|| ANYTHING.to_string(), str::to_owned);
    let text: String = text.chars().filter(|c| !(OWN..=ANYTHING).contains(c)).collect();
    let text = text.strip_prefix("#!").unwrap_or(&text).replace("\\\n", "");
    let mut reader = Reader {
        script,
        variable,
        values: BTreeMap::new(),
        here: vec![OWN.to_string()],
        folders: BTreeSet::new(),
        sourced: false,
        depth: 0,
        word: String::new(),
        found: Vec::new(),
        unknown: None,
    };
    reader.read(&text);
    // A function may use what is set below it.
    reader.found.clear();
    reader.unknown = None;
    reader.here = vec![OWN.to_string()];
    reader.read(&text);
    reader.unknown.map_or(Ok(reader.found), Err)
}

struct Reader<'a> {
    script: String,
    variable: &'a dyn Fn(&str) -> Option<String>,
    /// What each variable is set to, anywhere.
    values: BTreeMap<String, Vec<String>>,
    /// The current folder.
    here: Vec<String>,
    /// Every folder outside of the machine's own that was the current one.
    folders: BTreeSet<String>,
    /// Another text was run that may set variables.
    sourced: bool,
    depth: usize,
    /// The word that is looked at, for errors.
    word: String,
    found: Vec<PathBuf>,
    unknown: Option<String>,
}

impl Reader<'_> {
    fn read(&mut self, text: &str) {
        if self.depth == DEEPEST {
            self.set_unknown();
            return;
        }
        self.depth += 1;
        match tokens(text) {
            Ok(tokens) => {
                for command in tokens.split(|token| matches!(token, Token::End(_))) {
                    let words: Vec<&str> = command.iter().map(Token::text).collect();
                    self.command(&words);
                }
            }
            Err(why) => {
                why.clone_into(&mut self.word);
                self.set_unknown();
            }
        }
        self.depth -= 1;
    }

    fn command(&mut self, words: &[&str]) {
        for (at, word) in words.iter().enumerate() {
            let rest = &words[at + 1..];
            (*word).clone_into(&mut self.word);
            match *word {
                "cd" | "pushd" => self.change_folder(rest),
                "." | "source" | "eval" if at == 0 || BEFORE.contains(&words[at - 1]) => {
                    let values = rest.first().map(|word| self.expand(word)).unwrap_or_default();
                    let is_in_own = self.here == [OWN.to_string()];
                    let is_own =
                        |value: &String| value.starts_with(OWN) || is_in_own && value.starts_with("./");
                    self.sourced |=
                        *word == "eval" || !values.iter().all(|value| in_store(value) || is_own(value));
                }
                "for" if rest.get(1) == Some(&"in") => {
                    let values = rest[2..].iter().flat_map(|word| self.expand(word)).collect();
                    self.set(rest[0], values);
                }
                "read" | "mapfile" | "readarray" | "getopts" | "-v" => {
                    for name in rest.iter().filter(|word| name_at(word).len() == word.len()) {
                        self.set(name, vec![ANYTHING.to_string()]);
                    }
                }
                _ => {}
            }
            (*word).clone_into(&mut self.word);
            let name = name_at(word);
            let set = word[name.len()..].strip_prefix('=').map(|value| (value, false));
            let set = set.or_else(|| word[name.len()..].strip_prefix("+=").map(|value| (value, true)));
            if let Some((value, more)) = set.filter(|_| !name.is_empty()) {
                let mut values = self.expand(value);
                if more {
                    values = product(&self.of(name), &values);
                }
                for value in &values {
                    self.look(value, true);
                }
                self.set(name, values);
            } else {
                for value in self.expand(word) {
                    self.look(&value, false);
                }
            }
        }
    }

    fn set(&mut self, name: &str, values: Vec<String>) {
        let known = self.values.entry(name.to_owned()).or_default();
        known.extend(values);
        known.sort_unstable();
        known.dedup();
        for all in [ANYTHING, TEXT] {
            if known.len() > MOST || known.iter().any(|value| value.len() == 1 && value.starts_with(all)) {
                *known = vec![if known.len() > MOST { ANYTHING } else { all }.to_string()];
                return;
            }
        }
    }

    fn change_folder(&mut self, words: &[&str]) {
        let to = words.iter().find(|word| !word.starts_with('-')).copied().unwrap_or("~");
        let mut folders = Vec::new();
        for folder in self.expand(to) {
            if folder.starts_with('/') || folder.starts_with([OWN, TEXT, ANYTHING]) {
                folders.push(folder);
            } else {
                folders.extend(self.here.iter().map(|here| format!("{here}/{folder}")));
            }
        }
        if folders.iter().any(|folder| folder.contains([TEXT, ANYTHING])) {
            self.set_unknown();
        }
        self.folders.extend(folders.iter().filter(|folder| folder.starts_with('/')).cloned());
        self.here = folders;
    }

    /// What a word may be, without its quotes.
    fn expand(&mut self, word: &str) -> Vec<String> {
        let mut out = vec![String::new()];
        let mut quote = None;
        let mut at = 0;
        while let Some(c) = word[at..].chars().next() {
            let rest = &word[at + c.len_utf8()..];
            let begins = at == 0 || word[..at].ends_with(['=', ':', ',']);
            at += c.len_utf8();
            let values = match c {
                '\'' | '"' if quote.is_none() || quote == Some(c) => {
                    quote = if quote.is_none() { Some(c) } else { None };
                    continue;
                }
                '\\' if quote != Some('\'') && !rest.is_empty() => {
                    let next: String = rest.chars().take(1).collect();
                    at += next.len();
                    vec![next]
                }
                '~' if begins && quote.is_none() && (rest.is_empty() || rest.starts_with('/')) => {
                    vec![(self.variable)("HOME").unwrap_or_else(|| ANYTHING.to_string())]
                }
                '~' if begins && quote.is_none() => vec![ANYTHING.to_string()],
                '*' | '?' | '[' | '{' if quote.is_none() => vec![TEXT.to_string()],
                // Also in single quotes: another shell may be given the text.
                '$' => {
                    let (length, values) = self.dollar(rest);
                    at += length;
                    values
                }
                '`' => {
                    let length = rest.find('`').unwrap_or(rest.len());
                    at += (length + 1).min(rest.len());
                    self.substitution(&rest[..length])
                }
                _ => vec![c.to_string()],
            };
            out = product(&out, &values);
        }
        out
    }

    /// What stands behind a `$`: its length, and what it may be.
    fn dollar(&mut self, rest: &str) -> (usize, Vec<String>) {
        let name = name_at(rest);
        if !name.is_empty() {
            return (name.len(), self.of(name));
        }
        let length = closing(rest).unwrap_or(rest.len());
        let inner = rest.get(1..length.saturating_sub(1)).unwrap_or_default();
        match rest.chars().next() {
            Some('(') if inner.starts_with('(') => (length, vec![TEXT.to_string()]),
            Some('(') => (length, self.substitution(inner)),
            Some('{') => (length, self.parameter(inner)),
            Some('0') => (1, vec![self.script.clone()]),
            Some(c) if c.is_ascii_digit() || "@*#?$!-".contains(c) => (1, vec![TEXT.to_string()]),
            _ => (0, vec!["$".to_owned()]),
        }
    }

    /// `${inner}`
    fn parameter(&mut self, inner: &str) -> Vec<String> {
        let name = if inner.starts_with(|c: char| c.is_ascii_digit()) { &inner[..1] } else { name_at(inner) };
        let operation = &inner[name.len()..];
        let operation = match operation.strip_prefix('[').and_then(|index| index.split_once(']')) {
            Some((_, operation)) => operation,
            None => operation,
        };
        let values = match name {
            "0" => vec![self.script.clone()],
            // `${#NAME}` is a number; `${!NAME}` is another variable.
            "" if inner.starts_with('!') => vec![ANYTHING.to_string()],
            name if name.len() == 1 && name.starts_with(|c: char| c.is_ascii_digit()) => {
                vec![TEXT.to_string()]
            }
            "" => return vec![TEXT.to_string()],
            name => self.of(name),
        };
        let plain = operation.strip_prefix(':').filter(|rest| rest.starts_with(['-', '=', '+', '?']));
        let plain = plain.unwrap_or(operation);
        let other = plain.get(1..).unwrap_or_default();
        match plain.chars().next() {
            None | Some('?') => values,
            Some('-' | '=') if OURS.contains(&name) => values,
            Some(kind @ ('-' | '=')) => {
                let default = self.expand(other);
                if kind == '=' {
                    self.set(name, default.clone());
                }
                let set = values.into_iter().filter(|value| !value.is_empty());
                set.chain(default).collect()
            }
            Some('+') => self.expand(other).into_iter().chain([String::new()]).collect(),
            Some('%') if other == "/*" => values.iter().map(|value| parent(value)).collect(),
            _ if values.iter().any(|value| value.starts_with(ANYTHING)) => vec![ANYTHING.to_string()],
            // A part of a path may be one.
            _ if plain.starts_with("##*/") || values.iter().all(|value| !value.contains('/')) => {
                vec![TEXT.to_string()]
            }
            _ => vec![ANYTHING.to_string()],
        }
    }

    /// What a variable may be.
    fn of(&self, name: &str) -> Vec<String> {
        let set = self.values.get(name).cloned().unwrap_or_default();
        if OURS.contains(&name) {
            let others = set.into_iter().filter(|value| value.starts_with('/'));
            return [OWN.to_string()].into_iter().chain(others).collect();
        }
        if OPTIONS.contains(&name) {
            return vec![TEXT.to_string()];
        }
        match name {
            "PWD" => return self.here.clone(),
            // Programs are looked for there; their names are found elsewhere.
            "PATH" => return vec![String::new()],
            "BASH_SOURCE" => return vec![self.script.clone()],
            _ => {}
        }
        let given = (self.variable)(name).filter(|value| !value.contains([OWN, TEXT, ANYTHING]));
        let all: Vec<String> = set.into_iter().chain(given).collect();
        match () {
            () if !all.is_empty() => all,
            () if self.sourced => vec![ANYTHING.to_string()],
            () => vec![String::new()],
        }
    }

    /// `$(inner)`
    fn substitution(&mut self, inner: &str) -> Vec<String> {
        let (here, word) = (self.here.clone(), self.word.clone());
        self.read(inner);
        let inside = std::mem::replace(&mut self.here, here);
        self.word = word;
        let all = tokens(inner).unwrap_or_default();
        let is_piped = all.contains(&Token::End('|'));
        let words: Vec<&str> =
            all.iter().filter(|token| matches!(token, Token::Word(_))).map(Token::text).collect();
        let commands =
            all.split(|token| matches!(token, Token::End(_))).filter(|words| !words.is_empty()).count();
        let last = |reader: &mut Self| words.last().map(|word| reader.expand(word)).unwrap_or_default();
        match words.first().copied() {
            _ if is_piped => vec![ANYTHING.to_string()],
            _ if words.iter().rev().find(|word| !word.starts_with('-')) == Some(&"pwd") => inside,
            _ if commands != 1 => vec![ANYTHING.to_string()],
            Some("mktemp") => vec![OWN.to_string()],
            Some("dirname") => last(self).iter().map(|value| parent(value)).collect(),
            Some("readlink" | "realpath") => last(self).iter().map(|value| real(value)).collect(),
            Some("echo") if words.len() == 2 => last(self),
            Some("cat") if last(self).iter().all(|value| in_store(value)) => vec![TEXT.to_string()],
            Some(name) if HARMLESS.contains(&name) => vec![TEXT.to_string()],
            _ => vec![ANYTHING.to_string()],
        }
    }

    /// Looks for paths in what a word may be: the whole of it, and between signs of shells and of QEMU's options.
    fn look(&mut self, value: &str, is_set: bool) {
        let signs: &[char] = &[' ', '\t', '\n', ',', ':', '=', ';', '|', '&', '<', '>', '(', ')', '"', '\''];
        for part in value.split(signs).filter(|part| !part.is_empty()) {
            self.part(part, is_set);
        }
        // Names with such signs in them, where there is such a file.
        for signs in [&[][..], &[','], &['='], &[',', '='], &[' ', '\t', '\n']] {
            for part in value.split(signs).filter(|part| part.starts_with('/') && Path::new(part).exists()) {
                self.part(part, is_set);
            }
        }
    }

    fn part(&mut self, part: &str, is_set: bool) {
        let is_known = !part.contains([TEXT, ANYTHING]);
        let climbs = part.split('/').any(|name| name == "..");
        if part.starts_with(OWN) {
            // `..` may lead out of it.
            if climbs {
                self.set_unknown();
            }
        } else if part.starts_with('/') {
            if is_known && !part.contains(OWN) {
                self.add(PathBuf::from(part));
            } else if !in_store(part) && (climbs || !KERNEL.iter().any(|its| part.starts_with(its))) {
                self.set_unknown();
            }
        } else if part.starts_with([TEXT, ANYTHING]) {
            let is_path = part.contains('/');
            if is_path || part.starts_with(ANYTHING) && !is_set {
                self.set_unknown();
            }
        } else if part.starts_with("../..") {
            self.set_unknown();
        } else {
            if is_known {
                let files = self.folders.iter().map(|folder| Path::new(folder).join(part));
                let files: Vec<PathBuf> = files.filter(|file| file.is_file()).collect();
                files.into_iter().for_each(|file| self.add(file));
                // An option and its value in one, as `-I/folder/file`.
                let behind = part.find('/').map(|at| PathBuf::from(&part[at..]));
                behind.into_iter().filter(|file| file.is_file()).for_each(|file| self.add(file));
            } else {
                let in_folder = self.folders.iter().any(|folder| !in_store(folder));
                let goes_on = || [TEXT, ANYTHING].iter().any(|all| part.contains(&format!("{all}/")));
                let is_file = if part.starts_with('-') { goes_on() } else { in_folder };
                if is_file {
                    self.set_unknown();
                }
            }
        }
    }

    fn add(&mut self, path: PathBuf) {
        // With more than FILES the machine is not cloned in any case.
        if self.found.len() <= super::FILES && !self.found.contains(&path) {
            self.found.push(path);
        }
    }

    fn set_unknown(&mut self) {
        if self.unknown.is_none() {
            self.unknown = Some(self.word.clone());
        }
    }
}

/// Every value of one followed by every one of the other.
fn product(one: &[String], other: &[String]) -> Vec<String> {
    let mut all: Vec<String> =
        one.iter().flat_map(|a| other.iter().map(move |b| format!("{a}{b}"))).take(MOST + 1).collect();
    all.sort_unstable();
    all.dedup();
    let is_too_much = all.len() > MOST || all.iter().any(|value| value.len() > LONGEST);
    if is_too_much { vec![format!("{ANYTHING}/{ANYTHING}")] } else { all }
}

/// As `dirname` gives it.
fn parent(value: &str) -> String {
    match value.trim_end_matches('/').rsplit_once('/') {
        Some((_, "..")) => format!("{value}/.."),
        Some(("", _)) => "/".to_owned(),
        Some((folder, _)) => folder.to_owned(),
        None if value.starts_with(OWN) => value.to_owned(),
        None if value.contains([TEXT, ANYTHING]) => ANYTHING.to_string(),
        None => ".".to_owned(),
    }
}

/// As `realpath` gives it.
fn real(value: &str) -> String {
    let found = Path::new(value).canonicalize().ok().filter(|_| value.starts_with('/'));
    found.and_then(|path| path.to_str().map(str::to_owned)).unwrap_or_else(|| value.to_owned())
}

/// Whether a path leads into the Nix store, as far as it goes.
fn in_store(value: &str) -> bool {
    let below = value.strip_prefix(STORE).and_then(|rest| rest.strip_prefix('/'));
    below.is_some_and(|rest| !rest.starts_with([OWN, TEXT, ANYTHING]) && !rest.contains(".."))
}

#[cfg(test)]
mod tests;
