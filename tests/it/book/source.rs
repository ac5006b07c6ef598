//! What the sources say of public items: their documentation, as a page of the book has it.
//!
//! The sources are read as text, which rustfmt has made regular: an `impl` begins at the margin, what is in it one level in.

use std::fs;
use std::path::Path;

/// A public item and its documentation.
#[derive(Debug, Clone)]
pub struct Item {
    /// The type that it belongs to; its own name for a type or a function of a module.
    pub of: String,
    /// Its name.
    pub name: String,
    /// Its declaration, on one line, without a body.
    pub declaration: String,
    /// The documentation, in Markdown.
    pub about: String,
    /// What the file says it is about, in one line.
    pub topic: String,
    /// The heading in the documentation of the `impl` block it stands in.
    pub heading: Option<String>,
}

impl Item {
    /// Whether it is a type, and no method, variant or function.
    pub fn is_type(&self) -> bool {
        self.of == self.name && !self.declaration.contains("fn ")
    }
}

/// The public items of a file: types, their variants, fields and methods, functions.
pub fn items(path: &Path) -> Vec<Item> {
    let text = fs::read_to_string(path).unwrap();
    let topic = text.lines().next().and_then(|line| line.strip_prefix("//! ")).unwrap_or_default();
    let topic = topic.split(": ").next().unwrap_or_default().trim_end_matches('.').to_owned();
    let mut items = Vec::new();
    let mut about = String::new();
    let mut block = None;
    let mut within: Option<(String, bool)> = None;
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.starts_with("mod tests {") {
            break;
        }
        let inner = line.strip_prefix("    ").filter(|line| !line.starts_with(' '));
        if line.starts_with('}') {
            within = None;
            about.clear();
            continue;
        }
        let code = if within.is_some() { inner.unwrap_or_default() } else { line };
        if let Some(said) = code.strip_prefix("///") {
            about.push_str(said.strip_prefix(' ').unwrap_or(said));
            about.push('\n');
            continue;
        }
        if code.starts_with("#[doc(hidden)]") {
            about = "hidden".to_owned();
        }
        // Comments, attributes, bodies, and what is begun and ended on one line.
        if code.starts_with("//")
            || code.ends_with("{}")
            || code.starts_with("#[")
            || within.is_some() && inner.is_none()
        {
            continue;
        }
        if within.is_none() {
            block = heading(&about).filter(|_| code.starts_with("impl")).map(str::to_owned);
        }
        let mut declaration = code.to_owned();
        let is_function = |code: &str| {
            ["pub fn ", "pub async fn ", "pub const fn "].iter().any(|begin| code.starts_with(begin))
        };
        if is_function(code) {
            while !declaration.ends_with('{') {
                declaration.push(' ');
                declaration.push_str(lines.next().unwrap().trim());
            }
        }
        let declaration = tidy(&declaration);
        let item = |of: &str, name: &str| Item {
            of: of.to_owned(),
            name: name.to_owned(),
            declaration: declaration.clone(),
            about: plain(&about),
            topic: topic.clone(),
            heading: block.clone(),
        };
        let hidden = about == "hidden";
        match &within {
            None => {
                if let Some(rest) = code.strip_prefix("impl") {
                    let rest = if rest.starts_with('<') {
                        rest.split_once("> ").unwrap_or_default().1
                    } else {
                        rest
                    };
                    let of = word(rest.trim_start());
                    // What implements a trait is not described again.
                    within = Some((if code.contains(" for ") { String::new() } else { of }, false));
                } else if let Some(rest) = ["pub struct ", "pub enum ", "pub trait ", "pub type "]
                    .iter()
                    .find_map(|kind| code.strip_prefix(kind))
                {
                    let name = word(rest);
                    items.extend((!hidden).then(|| item(&name, &name)));
                    if code.ends_with('{') {
                        within = Some((name, code.starts_with("pub enum")));
                    }
                } else if is_function(code) {
                    let name = word(code.split_once("fn ").unwrap_or_default().1);
                    items.extend((!hidden).then(|| item(&name, &name)));
                    within = Some((String::new(), false));
                } else if code.ends_with('{') {
                    within = Some((String::new(), false));
                }
            }
            Some((of, is_enum)) if !of.is_empty() && !hidden => {
                let name = if is_function(code) {
                    word(code.split_once("fn ").unwrap_or_default().1)
                } else if *is_enum && code.starts_with(char::is_uppercase) {
                    word(code)
                } else if code.starts_with("pub ") && code.contains(": ") {
                    word(&code[4..])
                } else {
                    String::new()
                };
                items.extend((!name.is_empty()).then(|| item(of, &name)));
            }
            Some(_) => {}
        }
        if !code.is_empty() {
            about.clear();
        }
    }
    items
}

/// The heading that documentation begins with.
fn heading(about: &str) -> Option<&str> {
    about.lines().next()?.strip_prefix("# ")
}

/// The word that text begins with.
fn word(text: &str) -> String {
    text.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect()
}

/// A declaration without its body and without the breaks of lines.
fn tidy(declaration: &str) -> String {
    let line = declaration.split_whitespace().collect::<Vec<_>>().join(" ");
    let line = line.trim_end_matches(['{', ',']).trim();
    line.replace("( ", "(").replace(", )", ")").replace(", >", ">").trim_end_matches(',').to_owned()
}

/// Documentation outside of rustdoc: its links to items are their names, and its headings bold.
pub fn plain(about: &str) -> String {
    let mut text = String::new();
    let mut code = false;
    for line in about.lines() {
        if let Some(kind) = line.strip_prefix("```") {
            code = !code;
            let rust = code && ["", "no_run", "compile_fail", "should_panic"].contains(&kind);
            text.push_str(if rust { "```rust" } else { line });
        } else if code {
            text.push_str(line);
        } else if let Some(heading) = line.strip_prefix("# ") {
            text.push_str(&format!("**{heading}:**"));
        } else if line.starts_with('[') && line.contains("]: ") {
            continue; // where a link leads
        } else {
            text.push_str(&without_item_links(line).replace("`super::", "`").replace("`crate::", "`"));
        }
        text.push('\n');
    }
    text
}

/// A line in which ``[`Name`](path)`` and ``[`Name`]`` are `Name`. Links to addresses stay.
fn without_item_links(line: &str) -> String {
    let mut text = String::new();
    let mut rest = line;
    while let Some(at) = rest.find('[') {
        text.push_str(&rest[..at]);
        let link = &rest[at + 1..];
        let Some((name, after)) = link.split_once(']') else { break };
        match after.strip_prefix('(').and_then(|target| target.split_once(')')) {
            Some((target, after)) if !target.starts_with("http") => {
                text.push_str(name);
                rest = after;
            }
            None if name.starts_with('`') => {
                text.push_str(name);
                rest = after;
            }
            _ => {
                text.push('[');
                rest = link;
                continue;
            }
        }
    }
    text.push_str(rest);
    text
}

#[test]
fn public_items_are_found_with_what_is_said_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.rs");
    let source = "//! Files: in and out.\n\n/// A thing. See [`Other`](crate::Other).\n#[derive(Debug)]\npub struct Thing {\n    /// Its size.\n    \
        pub size: u64,\n    hidden: u64,\n}\n\n/// # Ways\nimpl Thing {\n    /// Goes.\n    ///\n    /// # Errors\n    /// [`ErrorKind::Io`].\n    pub async fn go(\n        \
        &self,\n        far: u64,\n    ) -> Result {\n        let x = 1;\n    }\n\n    pub(crate) fn own(&self) {}\n}\n\nimpl Clone for Thing {\n    \
        /// No.\n    fn clone(&self) {}\n}\n\n/// Kinds.\npub enum Kind {\n    /// One.\n    One,\n}\n";
    fs::write(&file, source).unwrap();
    let found = items(&file);
    let names: Vec<(&str, &str)> = found.iter().map(|item| (&*item.of, &*item.name)).collect();
    assert_eq!(
        names,
        [("Thing", "Thing"), ("Thing", "size"), ("Thing", "go"), ("Kind", "Kind"), ("Kind", "One")]
    );
    assert_eq!(found[0].about, "A thing. See `Other`.\n");
    assert_eq!(found[2].declaration, "pub async fn go(&self, far: u64) -> Result");
    assert_eq!(found[2].about, "Goes.\n\n**Errors:**\n`ErrorKind::Io`.\n");
    assert_eq!(found[2].topic, "Files");
    let headings: Vec<_> = found.iter().map(|item| item.heading.as_deref()).collect();
    assert_eq!(headings, [None, None, Some("Ways"), None, None]);
    assert_eq!(without_item_links("a [b](https://c.d) [`e`]"), "a [b](https://c.d) `e`");
}
