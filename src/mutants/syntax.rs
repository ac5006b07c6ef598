//! Finds the changes that can be made to the text of a Nix file, and the paths in it. Only this file knows the parser.
//!
//! Every change replaces a part of the text by a part with the same line breaks, so all other lines stay as they are.

use std::ops::Range;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use rnix::ast::{self, AstNode};
use rnix::{NodeOrToken, ParseError, Root, SyntaxKind, SyntaxNode, SyntaxToken, TextRange, tokenize};

use super::Operator;

/// The size of a file that is parsed, in bytes. The configuration of a machine has some kilobytes.
pub(super) const LARGEST: usize = 256 << 10;

/// The stack of the thread that parses, in bytes: the tree of a long chain of operators is deep.
const STACK: usize = 64 << 20;

/// The limit for a file. Usual ones take milliseconds. The parser takes the square of the length of a chain of arguments.
const LIMIT: Duration = Duration::from_secs(60);

/// The depth of nested brackets. The parser gives up where expressions are nested as deeply.
const DEEPEST: usize = 512;
const TOO_DEEP: &str = "it is nested too deeply";

/// The functions of modules that say when or how strongly a definition holds, and the number of their arguments. The
/// last argument is the definition.
const WRAPPERS: [(&str, usize); 10] = [
    ("mkAfter", 1),
    ("mkBefore", 1),
    ("mkDefault", 1),
    ("mkForce", 1),
    ("mkIf", 2),
    ("mkImageMediaOverride", 1),
    ("mkOptionDefault", 1),
    ("mkOrder", 2),
    ("mkOverride", 2),
    ("mkVMOverride", 1),
];

/// Parts of the names of options that hold passwords.
const SECRET_NAMES: [&str; 7] = ["passwd", "password", "passphrase", "privatekey", "psk", "secret", "token"];

/// A change of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) operator: Operator,
    /// The bytes that are replaced.
    pub(super) range: Range<usize>,
    /// What they are replaced by, with the same line breaks.
    pub(super) replacement: String,
    /// The path of the definition that is changed, or that contains the change.
    pub(super) subject: String,
    /// The changed part itself, where the path does not name it: an element, a number, a condition.
    pub(super) before: String,
    /// What it becomes, for numbers and booleans.
    pub(super) after: String,
}

impl Change {
    /// Returns `text`, to which this change belongs, with the change.
    pub(super) fn applied(&self, text: &str) -> String {
        let before = text.get(..self.range.start).unwrap_or_default();
        let behind = text.get(self.range.end..).unwrap_or_default();
        format!("{before}{}{behind}", self.replacement)
    }
}

/// A relative path in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RelativePath {
    /// Its text, up to the first `${`.
    pub(super) text: String,
    /// Whether more follows that only an evaluation knows.
    pub(super) goes_on: bool,
}

/// What is found in a text.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// In the order of the text.
    pub(super) changes: Vec<Change>,
    pub(super) paths: Vec<RelativePath>,
    /// Texts in definitions whose names say that they are passwords.
    pub(super) secrets: Vec<String>,
}

/// Returns what is found in `text`.
///
/// # Errors
/// Why it is not understood, in a few words.
pub(super) fn read(text: &str) -> Result<Found, String> {
    if text.len() > LARGEST {
        return Err(format!("it has {} bytes, and at most {LARGEST} are read", text.len()));
    }
    let (tell, hear) = std::sync::mpsc::channel();
    let text = text.to_owned();
    let parser = std::thread::Builder::new().name("nix parser".to_owned()).stack_size(STACK);
    let thread = parser.spawn(move || {
        // Fails only if the limit is over.
        let _ = tell.send(read_here(&text));
    });
    thread.map_err(|error| error.to_string())?;
    match hear.recv_timeout(LIMIT) {
        Ok(found) => found,
        // The thread goes on, because a thread can't be ended.
        Err(RecvTimeoutError::Timeout) => Err(format!("it took more than {} s", LIMIT.as_secs())),
        Err(RecvTimeoutError::Disconnected) => Err("the parser failed".to_owned()),
    }
}

fn read_here(text: &str) -> Result<Found, String> {
    if is_too_deep(text) {
        return Err(TOO_DEEP.to_owned());
    }
    let parsed = Root::parse(text);
    if let Some(error) = parsed.errors().first() {
        return Err(refused(error, text));
    }
    let mut found = Found::default();
    for node in parsed.syntax().descendants() {
        match node.kind() {
            SyntaxKind::NODE_ATTRPATH_VALUE => definition(&node, text, &mut found),
            SyntaxKind::NODE_INHERIT => inherit(&node, text, &mut found),
            SyntaxKind::NODE_LIST => elements(&node, text, &mut found),
            SyntaxKind::NODE_IDENT => boolean(&node, text, &mut found),
            SyntaxKind::NODE_LITERAL => integer(&node, text, &mut found),
            SyntaxKind::NODE_APPLY => wrapper(&node, text, &mut found),
            SyntaxKind::NODE_PATH_REL => found.paths.push(path(&node)),
            _ => {}
        }
    }
    found
        .changes
        .sort_by_key(|change| (change.range.start, std::cmp::Reverse(change.range.end), change.operator));
    Ok(found)
}

/// Returns whether brackets are nested more deeply than the parser goes. It would take minutes to say so.
fn is_too_deep(text: &str) -> bool {
    let mut depth = 0_usize;
    tokenize(text).any(|(kind, _)| {
        match kind {
            SyntaxKind::TOKEN_L_BRACE
            | SyntaxKind::TOKEN_L_BRACK
            | SyntaxKind::TOKEN_L_PAREN
            | SyntaxKind::TOKEN_INTERPOL_START => depth += 1,
            SyntaxKind::TOKEN_R_BRACE
            | SyntaxKind::TOKEN_R_BRACK
            | SyntaxKind::TOKEN_R_PAREN
            | SyntaxKind::TOKEN_INTERPOL_END => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth > DEEPEST
    })
}

/// Says what the parser did not understand, and where.
fn refused(error: &ParseError, text: &str) -> String {
    let at = |range: &TextRange| {
        let (line, column) = super::position(text, range.start().into());
        format!("line {line}, column {column}")
    };
    match error {
        ParseError::Unexpected(range)
        | ParseError::UnexpectedExtra(range)
        | ParseError::UnexpectedWanted(_, range, _) => {
            let found = text.get(usize::from(range.start())..).unwrap_or_default();
            // Other text may be a part of a password.
            match found.chars().next().filter(char::is_ascii_punctuation) {
                Some(sign) => format!("{}: unexpected `{sign}`", at(range)),
                None => format!("{}: unexpected text", at(range)),
            }
        }
        ParseError::UnexpectedDoubleBind(range) => {
            format!("{}: the arguments have a second name", at(range))
        }
        ParseError::DuplicatedArgs(range, name) => {
            format!("{}: the argument `{}` is there twice", at(range), short(name))
        }
        ParseError::UnexpectedEOF | ParseError::UnexpectedEOFWanted(_) => {
            let lines = text.trim_end().matches('\n').count() + 1;
            format!("the text ends too early, at line {lines}")
        }
        ParseError::RecursionLimitExceeded => TOO_DEEP.to_owned(),
        other => other.to_string(),
    }
}

/// Drops a definition of a set. Without a definition of a `let`, its name would be unknown, which Nix refuses.
fn definition(node: &SyntaxNode, text: &str, found: &mut Found) {
    let Some(definition) = cast::<ast::AttrpathValue>(node.clone()) else { return };
    let value = definition.value();
    if let (Some(name), Some(ast::Expr::Str(value))) = (last_name(&definition), value)
        && SECRET_NAMES.iter().any(|part| name.to_lowercase().contains(part))
    {
        found.secrets.extend(literal(syntax(&value)));
    }
    if is_in_a_set(node) {
        let change = blanked(Operator::DropDefinition, range(node), text);
        found.changes.push(Change { subject: subject(node), ..change });
    }
}

/// Drops one name of `inherit`, or all of it if it has one.
fn inherit(node: &SyntaxNode, text: &str, found: &mut Found) {
    let Some(inherit) = cast::<ast::Inherit>(node.clone()).filter(|_| is_in_a_set(node)) else { return };
    let names: Vec<ast::Attr> = inherit.attrs().collect();
    for name in &names {
        let dropped = if names.len() == 1 { range(node) } else { range(syntax(name)) };
        let subject = joined(subject(node), &shown(syntax(name)));
        found.changes.push(Change { subject, ..blanked(Operator::DropDefinition, dropped, text) });
    }
}

/// Drops each element of a list.
fn elements(node: &SyntaxNode, text: &str, found: &mut Found) {
    let Some(list) = cast::<ast::List>(node.clone()) else { return };
    let of_imports = node
        .ancestors()
        .find_map(cast::<ast::AttrpathValue>)
        .and_then(|definition| last_name(&definition))
        .is_some_and(|name| name == "imports");
    let operator = if of_imports { Operator::DropImport } else { Operator::DropElement };
    for item in list.items() {
        let item = syntax(&item);
        let change = blanked(operator, range(item), text);
        found.changes.push(Change { subject: subject(node), before: shown(item), ..change });
    }
}

/// Turns `true` into `false`, and the reverse.
fn boolean(node: &SyntaxNode, text: &str, found: &mut Found) {
    let after = match node.text() {
        text if text == "true" => "false",
        text if text == "false" => "true",
        _ => return,
    };
    let is_name = match node.parent() {
        None => true,
        Some(parent) => match parent.kind() {
            SyntaxKind::NODE_ATTRPATH
            | SyntaxKind::NODE_INHERIT
            | SyntaxKind::NODE_IDENT_PARAM
            | SyntaxKind::NODE_PAT_BIND => true,
            SyntaxKind::NODE_PAT_ENTRY => parent.first_child().as_ref() == Some(node),
            _ => false,
        },
    };
    if !is_name {
        found.changes.push(replaced(Operator::FlipBoolean, node, after, text));
    }
}

/// Adds one to a number.
fn integer(node: &SyntaxNode, text: &str, found: &mut Found) {
    let is_integer = node.first_token().is_some_and(|token| token.kind() == SyntaxKind::TOKEN_INTEGER);
    let Some(number) = node.text().to_string().parse::<i64>().ok().filter(|_| is_integer) else { return };
    let is_negative = node
        .parent()
        .and_then(cast::<ast::UnaryOp>)
        .is_some_and(|minus| minus.operator().is_some_and(|operator| operator == ast::UnaryOpKind::Negate));
    let Some(after) = (if is_negative { number.checked_sub(1) } else { number.checked_add(1) }) else {
        return;
    };
    if after < 0 {
        // The number is -0, and `--1` would not be read.
        return;
    }
    found.changes.push(replaced(Operator::AddOne, node, &after.to_string(), text));
}

/// Removes `mkIf CONDITION`, `mkForce` and the like before a definition.
fn wrapper(node: &SyntaxNode, text: &str, found: &mut Found) {
    let is_function = |parent: SyntaxNode| {
        cast::<ast::Apply>(parent)
            .and_then(|apply| apply.lambda())
            .is_some_and(|lambda| syntax(&lambda) == node)
    };
    // Only the outermost application has all arguments.
    if node.parent().is_some_and(is_function) {
        return;
    }
    let Some(apply) = cast::<ast::Apply>(node.clone()) else { return };
    let (Some(last), Some(mut function)) = (apply.argument(), apply.lambda()) else { return };
    let mut arguments = 1;
    while let ast::Expr::Apply(inner) = &function {
        let Some(next) = inner.lambda() else { return };
        function = next;
        arguments += 1;
    }
    let name = match &function {
        ast::Expr::Ident(name) => shown(syntax(name)),
        ast::Expr::Select(select) if select.default_expr().is_none() => {
            let last = select.attrpath().and_then(|path| path.attrs().last());
            last.map(|name| shown(syntax(&name))).unwrap_or_default()
        }
        _ => return,
    };
    if !WRAPPERS.iter().any(|(wrapper, takes)| *wrapper == name && *takes == arguments) {
        return;
    }
    let dropped = range(node).start..range(syntax(&last)).start;
    let before = text.get(dropped.clone()).map(short).unwrap_or_default();
    let change = blanked(Operator::Unwrap, dropped, text);
    found.changes.push(Change { subject: subject(node), before, ..change });
}

fn path(node: &SyntaxNode) -> RelativePath {
    let goes_on = node.children().any(|child| child.kind() == SyntaxKind::NODE_INTERPOL);
    let first = node.first_token().map(|token| token.text().to_owned()).unwrap_or_default();
    RelativePath { text: if goes_on { first } else { node.text().to_string() }, goes_on }
}

/// Returns the change that replaces a part of `text` by spaces.
fn blanked(operator: Operator, range: Range<usize>, text: &str) -> Change {
    let replacement = blank(text.get(range.clone()).unwrap_or_default());
    Change {
        operator,
        range,
        replacement,
        subject: String::new(),
        before: String::new(),
        after: String::new(),
    }
}

/// Returns spaces for all characters but the ends of lines.
pub(super) fn blank(text: &str) -> String {
    text.chars().map(|character| if matches!(character, '\n' | '\r') { character } else { ' ' }).collect()
}

fn replaced(operator: Operator, node: &SyntaxNode, after: &str, text: &str) -> Change {
    Change {
        subject: subject(node),
        before: shown(node),
        after: after.to_owned(),
        replacement: after.to_owned(),
        ..blanked(operator, range(node), text)
    }
}

/// Returns whether this is a part of a set, and not of a `let`.
fn is_in_a_set(node: &SyntaxNode) -> bool {
    node.parent().is_some_and(|parent| parent.kind() == SyntaxKind::NODE_ATTR_SET)
}

/// Returns the path of the definition that contains `node`, from the outermost definition on.
fn subject(node: &SyntaxNode) -> String {
    let mut names: Vec<String> = node
        .ancestors()
        .filter_map(cast::<ast::AttrpathValue>)
        .filter_map(|definition| definition.attrpath())
        .map(|path| shown(syntax(&path)))
        .collect();
    names.reverse();
    names.join(".")
}

fn joined(path: String, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn last_name(definition: &ast::AttrpathValue) -> Option<String> {
    definition.attrpath()?.attrs().last().map(|name| shown(syntax(&name)))
}

fn shown(node: &SyntaxNode) -> String {
    short(&node.text().to_string())
}

/// Returns `text` on one line, cut to a length that fits into a table.
pub(super) fn short(text: &str) -> String {
    const LONGEST: usize = 60;
    let words: Vec<&str> = text.split_whitespace().collect();
    let line = words.join(" ");
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// Returns the text of a string, without what is inserted by `${…}`.
fn literal(string: &SyntaxNode) -> Option<String> {
    let is_content = |part: &SyntaxToken| part.kind() == SyntaxKind::TOKEN_STRING_CONTENT;
    let parts = string.children_with_tokens().filter_map(NodeOrToken::into_token).filter(is_content);
    let text: String = parts.map(|part| part.text().to_owned()).collect();
    (!text.trim().is_empty()).then_some(text)
}

/// Returns `node` as a node of the type `N`. The trait of these functions is one of a crate that the parser is made of.
fn cast<N: AstNode>(node: SyntaxNode) -> Option<N> {
    N::cast(node)
}

fn syntax<N: AstNode>(node: &N) -> &SyntaxNode {
    node.syntax()
}

fn range(node: &SyntaxNode) -> Range<usize> {
    let range = node.text_range();
    range.start().into()..range.end().into()
}

#[cfg(test)]
mod tests;
