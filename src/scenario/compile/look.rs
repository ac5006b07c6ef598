//! Scans a Rust file for the parts of a scenario file: attributes, a `main`, modules. Comments and strings do not
//! count.
//!
//! The macro crate shares this file by a symbolic link, so that `scenarios!` and a run of a folder use the same rule.

use std::collections::BTreeSet;

/// The result of scanning a file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Look {
    /// The line of each `#[scenario]`, from 1.
    pub(crate) scenarios: Vec<usize>,
    /// The function name of each `#[scenario]`; empty if no function follows.
    pub(crate) functions: Vec<String>,
    /// The line and name of each attribute of a test that is not a scenario.
    pub(crate) tests: Vec<(usize, String)>,
    /// Whether there is a `main!()`, a `scenarios!()` or a `fn main`.
    pub(crate) main: bool,
    /// The modules in other files: `mod NAME;`, and the file's name if `#[path = "…"]` gives one.
    pub(crate) modules: BTreeSet<String>,
}

/// The last parts of attributes that mark tests for rustc's harness, which a scenario file does not have.
const TESTS: [&str; 3] = ["test", "rstest", "test_case"];

impl Look {
    /// Scans a file's text, which may be invalid Rust.
    pub(crate) fn at(text: &str) -> Self {
        let tokens = tokens(text);
        let names = |name: &'static str| {
            // For example `use nixvm_test::scenario as s`.
            let aliases = tokens.windows(3).filter_map(move |three| match three {
                [Token(Kind::Word(its), _), Token(Kind::Word("as"), _), Token(Kind::Word(alias), _)] => {
                    (*its == name).then_some(*alias)
                }
                _ => None,
            });
            aliases.chain([name]).collect::<BTreeSet<&str>>()
        };
        let (scenarios, mains) = (names("scenario"), names("main"));
        let mut look = Self::default();
        let mut at = 0;
        while let Some(Token(kind, line)) = tokens.get(at) {
            let next = tokens.get(at + 1).map(|token| &token.0);
            match kind {
                Kind::Sign('#') => {
                    if let Some((inside, end)) = attribute(&tokens, at) {
                        look.attribute(inside, *line, &scenarios);
                        look.functions.resize_with(look.scenarios.len(), || function(&tokens, end));
                        at = end;
                        continue;
                    }
                }
                Kind::Word("macro_rules") if next == Some(&Kind::Sign('!')) => {
                    // The tokens in a macro call are not code yet.
                    at = group(&tokens, at + 3).map_or(at + 1, |(_, end)| end);
                    continue;
                }
                Kind::Word("fn") if next == Some(&Kind::Word("main")) => look.main = true,
                Kind::Word(word) if next == Some(&Kind::Sign('!')) => {
                    look.main |= mains.contains(word) || *word == "scenarios";
                }
                Kind::Word("mod") => {
                    if let (Some(Kind::Word(name)), Some(Token(Kind::Sign(';'), _))) =
                        (next, tokens.get(at + 2))
                    {
                        look.modules.insert(format!("{name}.rs"));
                        look.modules.insert(format!("{name}/mod.rs"));
                    }
                }
                _ => {}
            }
            at += 1;
        }
        look
    }

    /// Processes an attribute's tokens, without its brackets.
    fn attribute(&mut self, tokens: &[Token<'_>], line: usize, scenarios: &BTreeSet<&str>) {
        let is_of_path = |token: &&Token<'_>| matches!(token.0, Kind::Word(_) | Kind::Sign(':'));
        let path: Vec<&Token<'_>> = tokens.iter().take_while(is_of_path).collect();
        let Some(Kind::Word(last)) = path.last().map(|token| &token.0) else { return };
        let rest = &tokens[path.len()..];
        match *last {
            "cfg_attr" => {
                if let Some((inside, _)) = group(rest, 0) {
                    parts(inside).skip(1).for_each(|part| self.attribute(part, line, scenarios));
                }
            }
            "path" => {
                if let [Token(Kind::Sign('='), _), Token(Kind::Text(file), _)] = rest {
                    self.modules.insert(file.rsplit('/').next().unwrap_or(file).to_owned());
                    let of_folder: Vec<&str> = file.rsplitn(3, '/').collect();
                    if let ["mod.rs", folder, ..] = of_folder[..] {
                        self.modules.insert(format!("{folder}/mod.rs"));
                    }
                }
            }
            last if scenarios.contains(last) => self.scenarios.push(line),
            last if TESTS.contains(&last) => {
                let text: String = path.iter().map(|token| token.0.shown()).collect();
                self.tests.push((line, format!("#[{text}]")));
            }
            _ => {}
        }
    }
}

/// Returns the name of the function at `at`, after attributes and words such as `pub(crate) async`; else an empty
/// string.
fn function(tokens: &[Token<'_>], mut at: usize) -> String {
    while let Some(Token(kind, _)) = tokens.get(at) {
        let next = tokens.get(at + 1).map(|token| &token.0);
        at = match kind {
            Kind::Word("fn") => match next {
                Some(Kind::Word(name)) => return (*name).to_owned(),
                _ => break,
            },
            Kind::Word(_) | Kind::Text(_) => at + 1,
            Kind::Sign('#') => match attribute(tokens, at) {
                Some((_, end)) => end,
                None => break,
            },
            Kind::Sign('(') => match group(tokens, at) {
                Some((_, end)) => end,
                None => at + 2,
            },
            _ => break,
        };
    }
    String::new()
}

/// Returns the tokens within the brackets of the attribute whose `#` is at `at`, and the index after it.
fn attribute<'a, 'b>(tokens: &'b [Token<'a>], at: usize) -> Option<(&'b [Token<'a>], usize)> {
    let inner = matches!(tokens.get(at + 1), Some(Token(Kind::Sign('!'), _)));
    let opening = at + 1 + usize::from(inner);
    matches!(tokens.get(opening), Some(Token(Kind::Sign('['), _))).then(|| group(tokens, opening)).flatten()
}

/// Returns the tokens within the brackets that open at `at`, and the index after them.
fn group<'a, 'b>(tokens: &'b [Token<'a>], at: usize) -> Option<(&'b [Token<'a>], usize)> {
    let mut depth = 0_usize;
    for (place, token) in tokens.iter().enumerate().skip(at) {
        match token.0 {
            Kind::Sign('(' | '[' | '{') => depth += 1,
            Kind::Sign(')' | ']' | '}') => depth = depth.checked_sub(1)?,
            _ => {}
        }
        if depth == 0 {
            return (place > at).then(|| (&tokens[at + 1..place], place + 1));
        }
    }
    None
}

/// Splits at commas outside of brackets.
fn parts<'a, 'b>(tokens: &'b [Token<'a>]) -> impl Iterator<Item = &'b [Token<'a>]> {
    let mut depth = 0_usize;
    tokens.split(move |token| {
        match token.0 {
            Kind::Sign('(' | '[' | '{') => depth += 1,
            Kind::Sign(')' | ']' | '}') => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0 && token.0 == Kind::Sign(',')
    })
}

/// A token, and its line.
#[derive(Debug)]
struct Token<'a>(Kind<'a>, usize);

#[derive(Debug, PartialEq, Eq)]
enum Kind<'a> {
    /// A name or a keyword, without `r#`.
    Word(&'a str),
    /// A string literal as written.
    Text(&'a str),
    Sign(char),
    /// A number, a character or a lifetime.
    Other,
}

impl Kind<'_> {
    fn shown(&self) -> String {
        match self {
            Self::Word(word) => (*word).to_owned(),
            Self::Sign(sign) => sign.to_string(),
            Self::Text(_) | Self::Other => String::new(),
        }
    }
}

fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut all = Vec::new();
    let (mut rest, mut line) = (text, 1);
    while let Some(first) = rest.chars().next() {
        let (length, kind) = one(rest, first);
        let (read, after) = rest.split_at(length.clamp(first.len_utf8(), rest.len()));
        all.extend(kind.map(|kind| Token(kind, line)));
        line += read.matches('\n').count();
        rest = after;
    }
    all
}

/// Returns the length and the kind of the first token. Comments and spaces have no kind.
fn one(rest: &str, first: char) -> (usize, Option<Kind<'_>>) {
    if first.is_whitespace() {
        return (first.len_utf8(), None);
    }
    if rest.starts_with("//") {
        return (rest.find('\n').unwrap_or(rest.len()), None);
    }
    if rest.starts_with("/*") {
        return (comment(rest), None);
    }
    if first == '"' {
        return string(rest, 0);
    }
    if first == '\'' {
        return (character(rest), Some(Kind::Other));
    }
    if is_of_word(first) {
        let end = rest.find(|character| !is_of_word(character)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if first.is_ascii_digit() {
            return (end, Some(Kind::Other));
        }
        return match word {
            "r" | "br" | "cr" if after.starts_with(['"', '#']) => raw(rest, end),
            "b" | "c" if after.starts_with('"') => string(rest, end),
            "b" if after.starts_with('\'') => (end + character(after), Some(Kind::Other)),
            _ => (end, Some(Kind::Word(word))),
        };
    }
    (first.len_utf8(), Some(Kind::Sign(first)))
}

fn is_of_word(character: char) -> bool {
    character == '_' || character.is_alphanumeric()
}

/// Returns the length of a comment, including nested comments.
fn comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while let Some(found) = rest[at..].find(['/', '*']) {
        at += found;
        match rest.get(at..at + 2) {
            Some("/*") => (depth, at) = (depth + 1, at + 2),
            Some("*/") => (depth, at) = (depth.saturating_sub(1), at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

/// Parses a string whose quotation mark is at `at`.
fn string(rest: &str, at: usize) -> (usize, Option<Kind<'_>>) {
    let mut escaped = false;
    for (place, character) in rest.char_indices().skip_while(|(place, _)| *place <= at) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return (place + 1, Some(Kind::Text(&rest[at + 1..place]))),
            _ => {}
        }
    }
    (rest.len(), Some(Kind::Other))
}

/// Parses a raw string, or a name written as `r#name`, after its letters.
fn raw(rest: &str, letters: usize) -> (usize, Option<Kind<'_>>) {
    let hashes = rest[letters..].chars().take_while(|character| *character == '#').count();
    let opening = letters + hashes;
    if !rest[opening..].starts_with('"') {
        let length = rest[opening..].find(|character| !is_of_word(character)).unwrap_or(rest.len() - opening);
        return (opening + length, Some(Kind::Word(&rest[opening..opening + length])));
    }
    let closing = format!("\"{}", "#".repeat(hashes));
    match rest[opening + 1..].find(&closing) {
        Some(length) => {
            let end = opening + 1 + length;
            (end + closing.len(), Some(Kind::Text(&rest[opening + 1..end])))
        }
        None => (rest.len(), Some(Kind::Other)),
    }
}

/// Returns the length of a character, such as `'"'` or `'\''`, or of a lifetime.
fn character(rest: &str) -> usize {
    let mut after = rest.char_indices().skip(1);
    match after.next() {
        Some((_, '\\')) => {
            after.next();
            rest.char_indices()
                .skip(3)
                .find(|(_, its)| matches!(its, '\'' | '\n'))
                .map_or(rest.len(), |(at, _)| at + 1)
        }
        Some(_) => match after.next() {
            Some((at, '\'')) => at + 1,
            _ => 1,
        },
        None => rest.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scenarios(text: &str) -> usize {
        Look::at(text).scenarios.len()
    }

    #[test]
    fn a_scenario_is_seen_however_its_attribute_is_spelled() {
        for text in [
            "#[scenario] async fn x() {}",
            "#[scenario(timeout = \"5m\", allow(\"]\"))]\nasync fn x() {}",
            "# [ scenario ] async fn x() {}",
            "#[nixvm_test::scenario] async fn x() {}",
            "#[::nixvm_test::scenario(ignore)] async fn x() {}",
            "use nixvm_test::scenario as s;\n#[s] async fn x() {}",
            "use nixvm_test::{prelude::*, scenario as s};\n#[s(retries = 2)] async fn x() {}",
            "#[cfg_attr(all(a, b), scenario)] async fn x() {}",
            "#[cfg_attr(feature = \"x, scenario\", allow(dead_code), nixvm_test::scenario(cores = 2))] fn x() {}",
            "mod inner { #[scenario] async fn x() {} }",
            "/* /* nested */ */ #[scenario] async fn x() {}",
            "const C: char = '\"'; #[scenario] fn x<'a>(y: &'a str) {} const D: char = '\\'';",
            "const R: &str = r#\"\"#; #[scenario] fn r#mod() {}",
            "const B: u8 = b'\"'; #[scenario] fn x() {}",
            "let x = 1..2; #[r#scenario] fn x() {}",
            "#[doc = \"x\"] #[scenario] fn x() {}",
        ] {
            assert_eq!(scenarios(text), 1, "{text}");
        }
    }

    #[test]
    fn what_only_looks_like_a_scenario_is_none() {
        for text in [
            "// #[scenario]\nfn x() {}",
            "/// #[scenario]\nfn x() {}",
            "//! #[scenario]",
            "/* #[scenario] */ fn x() {}",
            "/* /* */ #[scenario] */ fn x() {}",
            "const T: &str = \"#[scenario]\";",
            "const T: &str = \"\\\"#[scenario]\";",
            "const T: &str = r\"\\\"; const U: &str = r\"#[scenario]\";",
            "const T: &str = r##\"\"# #[scenario]\"##;",
            "const T: &[u8] = b\"#[scenario]\"; const U: &[u8] = br#\"#[scenario]\"#; const C: X = c\"#[scenario]\";",
            "#[doc = \"#[scenario]\"] fn x() {}",
            "#[cfg(scenario)] fn x() {}",
            "#[cfg_attr(scenario, allow(dead_code))] fn x() {}",
            "#[scenarios] fn x() {}",
            "#[checkpoint] async fn x() {}",
            "macro_rules! m { () => { #[scenario] async fn x() {} #[test] fn y() {} } }",
            "fn scenario() {}",
            "#[",
            "#[scenario",
            "",
        ] {
            assert_eq!(Look::at(text), Look { modules: BTreeSet::new(), ..Look::default() }, "{text}");
        }
    }

    #[test]
    fn a_test_of_another_kind_is_seen_with_its_line() {
        let text = "\n\"a\nb\";\n#[test]\nfn a() {}\n#[tokio::test(flavor = \"x\")]\nasync fn b() {}\n\
            #[cfg(test)] mod tests { #[::core::prelude::v1::test] fn c() {} }\n// #[test]\n#[cfg_attr(x, test)] fn d() {}";
        let tests = Look::at(text).tests;
        let expected =
            [(4, "#[test]"), (6, "#[tokio::test]"), (8, "#[::core::prelude::v1::test]"), (10, "#[test]")];
        assert_eq!(tests, expected.map(|(line, text)| (line, text.to_owned())));
        assert!(Look::at("#[cfg(test)] fn x() {}\n#[latest] fn y() {}").tests.is_empty());
    }

    #[test]
    fn a_main_and_modules_are_seen() {
        for text in [
            "nixvm_test::main!();",
            "main! {}",
            "use nixvm_test::main as m; m!();",
            "fn main() {}",
            "#[tokio::main] async fn main () {}",
            "nixvm_test::scenarios!(\"../scenarios\");",
        ] {
            assert!(Look::at(text).main, "{text}");
        }
        for text in [
            "// nixvm_test::main!();",
            "\"fn main() {}\"",
            "/* fn main() {} */",
            "domain!(); fn main_loop() {}",
        ] {
            assert!(!Look::at(text).main, "{text}");
        }
        let modules =
            Look::at("mod a; pub mod r#b; mod c { } #[path = \"../x/d.rs\"] mod e; // mod f;").modules;
        let expected = ["a.rs", "a/mod.rs", "b.rs", "b/mod.rs", "d.rs", "e.rs", "e/mod.rs"];
        assert_eq!(modules.iter().map(String::as_str).collect::<Vec<_>>(), expected);
        assert!(Look::at("#[path = \"common/mod.rs\"] mod common;").modules.contains("common/mod.rs"));
    }

    #[test]
    fn any_text_can_be_looked_at() {
        for text in [
            "'",
            "'\\",
            "\"\\",
            "r#",
            "r#\"",
            "b'",
            "/*",
            "/*/",
            "é'ü'\"ß",
            "#![",
            "macro_rules!",
            "macro_rules! x",
            "))]",
            "#[cfg_attr(",
            "'\u{1F600}'",
        ] {
            for end in 0..=text.len() {
                if text.is_char_boundary(end) {
                    Look::at(&text[..end]);
                }
            }
        }
    }
}
