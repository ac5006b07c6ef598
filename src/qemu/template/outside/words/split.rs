//! The words of a shell's text.

/// A word with its quotes, or what ends a command.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Token {
    Word(String),
    End(char),
}

impl Token {
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Word(word) => word,
            Self::End(_) => "",
        }
    }
}

/// Splits a text. A redirection only ends a word.
///
/// # Errors
/// What in the text is not understood.
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, &'static str> {
    let mut tokens = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        let rest = &text[at + c.len_utf8()..];
        at += c.len_utf8();
        let mut length = 0;
        match c {
            '\\' if quote != Some('\'') => length = rest.chars().next().map_or(0, char::len_utf8),
            '\'' | '"' if quote.is_none() => quote = Some(c),
            _ if quote == Some(c) => quote = None,
            '$' if quote != Some('\'') && rest.starts_with(['(', '{']) => {
                length = closing(rest).ok_or("a bracket without its end")?;
            }
            '`' if quote != Some('\'') => length = rest.find('`').ok_or("a ` without its end")? + 1,
            '#' if quote.is_none() && word.is_empty() => {
                at += rest.find('\n').unwrap_or(rest.len());
                continue;
            }
            '<' if quote.is_none() && rest.starts_with('<') && !rest.starts_with("<<") => {
                return Err("a text within its text (<<)");
            }
            _ if quote.is_none() && (c.is_whitespace() || ";&|<>()".contains(c)) => {
                if c == '(' && word.ends_with('=') {
                    // An array: what is in it are words of their own.
                    word += "$(an array)";
                }
                if !word.is_empty() {
                    tokens.push(Token::Word(std::mem::take(&mut word)));
                }
                if c == '\n' || ";&|()".contains(c) {
                    tokens.push(Token::End(c));
                }
                if c == '<' && rest.starts_with("<<") {
                    at += 2;
                }
                continue;
            }
            _ => {}
        }
        word.push(c);
        word += &rest[..length];
        at += length;
    }
    if !word.is_empty() {
        tokens.push(Token::Word(word));
    }
    if quote.is_some() { Err("a quote without its end") } else { Ok(tokens) }
}

/// The length of a text in brackets that `text` begins with, the brackets included.
pub(super) fn closing(text: &str) -> Option<usize> {
    let (open, close) = if text.starts_with('(') { ('(', ')') } else { ('{', '}') };
    let mut depth = 0_usize;
    let mut is_quoted = false;
    let mut skips = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if std::mem::take(&mut skips) => {}
            '\'' if open == '(' => is_quoted = !is_quoted,
            _ if is_quoted => {}
            '\\' => skips = true,
            _ if c == open => depth += 1,
            _ if c == close => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(at + c.len_utf8());
                }
            }
            _ => {}
        }
    }
    None
}

/// The name of a variable that a text begins with; empty when there is none.
pub(super) fn name_at(text: &str) -> &str {
    let length = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    if text.starts_with(|c: char| c.is_ascii_digit()) { "" } else { &text[..length] }
}
