//! The reference of all settings: the page `docs/src/reference/settings.md`.

use super::VARIABLES;
use super::table::{Setting, TABLE};
use super::value::Form;

/// Returns the page in Markdown.
pub fn reference() -> String {
    let mut page = String::from(
        "# Settings: nixvm.toml and variables\n\nA flag overrides a variable, a variable overrides `nixvm.toml`, and that overrides the default. `nixvm-test config` shows\n\
         each value in effect and its source.\n\n\
         `nixvm.toml` is searched for in the folder of the scenario's file and above it, then in the current folder and above it\n\
         (for a suite under `cargo test`, which runs in the folder of its package, only there and above it), each time up to the\n\
         root of the repository. Only the first one is read. Paths in it are relative to its folder. An unknown key is an error.\n\n\
         ```toml\n\
         nixpkgs = \"channel:nixos-26.05\"\n\
         run-timeout = \"45m\"\n\
         fail-fast = true\n\
         jobs = 2\n\
         ```\n\n\
         | in `nixvm.toml` | flag | variable | meaning | default |\n\
         |---|---|---|---|---|\n",
    );
    for setting in TABLE {
        page.push_str(&format!(
            "| `{}` | {} | `{}` | {} | {} |\n",
            example(setting),
            flags(setting),
            setting.variable,
            escaped(setting.meaning),
            escaped(setting.default)
        ));
    }
    page.push_str(
        "\nAs a variable, a switch is `1` or `0`, and an empty variable counts as unset. Of `configuration`, `flake` and `vm`, at\n\
         most one may be set in the same way. `flake` and `vm` bring their own nixpkgs: a `nixpkgs` beside them is an error, or is\n\
         ignored if it is set in a weaker way (in `nixvm.toml`, with a flag `--vm`).\n\n\
         Variables that have no flag and no key:\n\n| variable | meaning |\n|---|---|\n",
    );
    for (name, meaning) in VARIABLES {
        page.push_str(&format!("| `{name}` | {} |\n", escaped(meaning)));
    }
    page
}

/// Returns the key with the syntax of its value.
fn example(setting: &Setting) -> String {
    let value = match setting.form {
        Form::Reports => "\"junit=junit.xml\"",
        Form::Switch { or: None } => "true",
        Form::Switch { or: Some(word) } => return format!("{} = true`, `\"{word}\"", setting.key),
        Form::Number { .. } => "2",
        Form::Path => "\"PATH\"",
        Form::Nixpkgs => "\"NIXPKGS\"",
        Form::Flake => "\".#HOST\"",
        Form::Time => "\"45m\"",
        Form::Size => "\"4G\"",
        Form::Share => "\"hash:1/3\"",
        Form::Run => "\"RUN\"",
    };
    format!("{} = {value}", setting.key)
}

fn flags(setting: &Setting) -> String {
    let flag = setting.flag;
    let short = setting.short.map(|short| format!("`-{short}`, ")).unwrap_or_default();
    match setting.form {
        Form::Switch { or: None } => format!("{short}`--{flag}`, `--no-{flag}`"),
        Form::Switch { or: Some(word) } => format!("{short}`--{flag}`, `--{flag}={word}`, `--no-{flag}`"),
        _ => format!("{short}`--{flag} {}`", setting.placeholder),
    }
}

/// Escapes text for a cell of a table, where `<…>` would be read as a tag.
fn escaped(text: &str) -> String {
    text.replace('|', "\\|").replace("<nixpkgs>", "`<nixpkgs>`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_that_of_the_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/src/reference/settings.md");
        let page = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            page == reference(),
            "the page is out of date: nixvm-test config --reference >docs/src/reference/settings.md"
        );
    }
}
