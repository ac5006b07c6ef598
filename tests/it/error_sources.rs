//! An error of this library that is made of the error of another crate keeps it as its `source()`.

use std::fs;
use std::path::Path;

/// The names that code has for such an error.
const NAMES: [&str; 3] = ["error", "source", "errno"];

/// The call that begins a text, with its arguments, and what stands behind it up to the end of the statement.
fn call(text: &str) -> (&str, &str) {
    let mut depth = 0;
    let end = text.find(|letter| {
        depth += i32::from("([{".contains(letter)) - i32::from(")]}".contains(letter));
        depth == 0 && letter == ')'
    });
    let (call, rest) = text.split_at(end.unwrap_or(text.len()));
    (call, rest.split(';').next().unwrap_or_default())
}

/// The calls in a file that show another error and do not keep it.
fn lost(source: &str) -> Vec<&str> {
    let shown = |call: &str| {
        NAMES.iter().any(|name| {
            call.contains(&format!("{{{name}}}")) || call.contains(&format!("{name}.to_string()"))
        })
    };
    let places = source.match_indices("Error::new(").filter(|(at, _)| !source[..*at].ends_with("io::"));
    let calls = places.map(|(at, _)| call(&source[at..]));
    let lost = calls.filter(|(call, rest)| shown(call) && !rest.contains(".caused_by("));
    lost.map(|(call, _)| call).collect()
}

#[test]
fn no_error_shows_another_one_without_keeping_it() {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let source = fs::read_to_string(&path).unwrap();
                let source = source.split("#[cfg(test)]\n").next().unwrap_or_default();
                found.extend(lost(source).iter().map(|call| format!("{}: {call}", path.display())));
            }
        }
    }
    assert!(found.is_empty(), "keep it with `.caused_by(error)`, or use `Error::io`:\n{}", found.join("\n"));
}

#[test]
fn an_error_that_is_lost_is_found() {
    let one = r#"x.map_err(|error| Error::new(ErrorKind::Io, format!("no (x): {error}")))?;"#;
    let two = r#"x.map_err(|error| Error::new(Io, error.to_string()).caused_by(error))?;"#;
    let three = r#"x.map_err(|error| io::Error::new(error.kind(), format!("{error}")))?;"#;
    assert_eq!((lost(one).len(), lost(two).len(), lost(three).len()), (1, 0, 0));
}
