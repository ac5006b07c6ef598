//! Reads facts about a configuration by evaluating it, without building it.

use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::builder::{Builder, file_of};
use super::error_text::Tail;
use super::nixpkgs::Nixpkgs;
use super::process::{self, Stopped};
use super::source::{FlakeVm, Source};
use super::store::Store;
use super::{commands, diagnosis, host};
use crate::{Error, ErrorKind, Events, Result};

/// A user of a configuration, as its VM creates them on a fresh disk.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ConfiguredUser {
    /// The name to log in with.
    pub name: String,
    /// Whether it is a person's account (`isNormalUser`).
    pub normal: bool,
    /// The file name of their shell.
    shell: String,
    /// The password options that are set; the first one takes effect.
    passwords: Vec<String>,
    /// The password that takes effect, if the configuration has it as text.
    clear: Option<String>,
}

impl ConfiguredUser {
    /// Returns the password that logs the user in, if the configuration contains it and a keyboard can type it;
    /// otherwise the reason why not.
    pub fn password(&self) -> std::result::Result<&str, String> {
        if self.has_no_shell() {
            return Err(format!("the shell is {}", self.shell));
        }
        match (&self.clear, self.passwords.first()) {
            (Some(clear), _) if clear.is_empty() => Err("the password is empty".to_owned()),
            (Some(clear), _) if clear.chars().any(char::is_control) => {
                Err("the password has control characters".to_owned())
            }
            (Some(clear), _) => Ok(clear),
            (None, Some(option)) => Err(format!("{option} does not contain the password")),
            (None, None) => Err("no password is set".to_owned()),
        }
    }

    /// Returns whether this user's shell prevents any login, even with the right password.
    pub fn has_no_shell(&self) -> bool {
        ["nologin", "false"].contains(&self.shell.as_str())
    }

    /// Returns lines of a configuration that give this user a password in the VM only.
    pub fn gets_a_password(&self) -> String {
        let user = format!("virtualisation.vmVariant.users.users.{}", attribute(&self.name));
        let mut lines = format!("{user}.initialPassword = \"test\";\n");
        for option in self.passwords.iter().filter(|option| *option != "initialPassword") {
            lines.push_str(&format!("{user}.{option} = lib.mkForce null;\n"));
        }
        lines
    }
}

impl Builder {
    /// Evaluates the users of `source`. Builds nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Build`] with Nix's message when the configuration does not evaluate; [`ErrorKind::Usage`] when
    /// `source` is not a configuration.
    pub async fn users(&self, source: &Source, events: &Events) -> Result<Vec<ConfiguredUser>> {
        // It stays while Nix reads it.
        let mut checkout = None;
        let (command, home) = match source {
            Source::Configuration(_) | Source::Committed(_) => {
                let (file, kept) = file_of(source, events).await?;
                checkout = kept;
                let nixpkgs = Nixpkgs::choose(self.nixpkgs.as_deref(), events).await?;
                host::check_build(source, None)?;
                (commands::users_of_configuration(&file, &nixpkgs, Store::find()?), Some(file))
            }
            Source::Flake(reference) => {
                let flake: FlakeVm = reference.parse()?;
                host::check_build(source, None)?;
                let none = || Error::new(ErrorKind::Usage, format!("{reference} names no host of a flake"));
                let command = commands::users_of_flake(&flake, Store::find()?).ok_or_else(none)?;
                (command, None)
            }
            Source::Built(vm) => {
                let summary = format!("{} is built already, so its configuration is not known", vm.display());
                return Err(Error::new(ErrorKind::Usage, summary)
                    .next_step("name the configuration: --configuration FILE.nix, or --flake REF#HOST"));
            }
        };
        let users = self.evaluate(&source.to_string(), home.as_deref().and_then(Path::parent), command).await;
        drop(checkout);
        users
    }

    /// Evaluates the hosts of the flake in `folder`, its `nixosConfigurations`, sorted by name.
    ///
    /// # Errors
    /// [`ErrorKind::Build`] with Nix's message when it does not evaluate.
    pub async fn hosts(&self, folder: &Path) -> Result<Vec<String>> {
        let reference = folder.display().to_string();
        host::check_build(&Source::Flake(reference.clone()), None)?;
        let command = commands::hosts_of_flake(&reference, Store::find()?);
        let hosts =
            self.evaluate(&folder.join("flake.nix").display().to_string(), Some(folder), command).await;
        match hosts {
            // Nix's message for a flake with other outputs only.
            Err(error) if error.summary().contains("does not provide attribute") => Ok(Vec::new()),
            hosts => hosts,
        }
    }

    async fn evaluate<T: DeserializeOwned>(
        &self,
        what: &str,
        home: Option<&Path>,
        command: std::process::Command,
    ) -> Result<T> {
        tracing::debug!(?command, "evaluate");
        let mut tail = Tail::default();
        let ended = match process::run(command, self.limit, |line| tail.push(line)).await {
            Ok(ended) if ended.status.success() => ended,
            Ok(ended) => return Err(diagnosis::explain("evaluating", what, home, ended.status, &tail)),
            Err(Stopped::Limit) => return Err(diagnosis::too_long("evaluating", what, self.limit, &tail)),
            Err(Stopped::Io(source)) => return Err(Error::io("run nix", &source).because_of_a_limit(&source)),
        };
        serde_json::from_str(&ended.stdout).map_err(|error| {
            Error::new(
                ErrorKind::Build,
                format!("the answer of Nix about {what} has an unexpected form: {error}"),
            )
            .caused_by(error)
        })
    }
}

/// Quotes a name as one part of an attribute path.
pub(super) fn attribute(name: &str) -> String {
    let mut letters = name.chars();
    let starts = letters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_');
    let keywords = ["assert", "else", "if", "in", "inherit", "let", "or", "rec", "then", "with"];
    if starts
        && letters.all(|letter| letter.is_ascii_alphanumeric() || "_'-".contains(letter))
        && !keywords.contains(&name)
    {
        return name.to_owned();
    }
    let escaped = name.replace('\\', "\\\\").replace('"', "\\\"").replace("${", "\\${");
    format!("\"{}\"", escaped.replace('\n', "\\n").replace('\r', "\\r"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(text: &str) -> ConfiguredUser {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_password_is_known_where_the_one_that_holds_is_text() {
        let known =
            r#"{"name":"a","normal":true,"shell":"bash","passwords":["initialPassword"],"clear":"te st"}"#;
        assert_eq!(user(known).password(), Ok("te st"));
        for (shell, passwords, clear, why) in [
            ("bash", r#"["hashedPassword","initialPassword"]"#, "null", "hashedPassword does not contain"),
            ("bash", "[]", "null", "no password is set"),
            ("nologin", r#"["password"]"#, r#""x""#, "the shell is nologin"),
            ("bash", r#"["password"]"#, r#""""#, "empty"),
            ("bash", r#"["password"]"#, r#""a\nb""#, "control characters"),
        ] {
            let text = format!(
                r#"{{"name":"a","normal":true,"shell":"{shell}","passwords":{passwords},"clear":{clear}}}"#
            );
            let said = user(&text).password().unwrap_err();
            assert!(said.contains(why), "{said}");
        }
    }

    #[test]
    fn a_hash_is_out_of_the_way_of_the_password_that_is_shown() {
        let text = r#"{"name":"a b","normal":true,"shell":"bash","passwords":["hashedPasswordFile","hashedPassword"],"clear":null}"#;
        assert_eq!(
            user(text).gets_a_password(),
            "virtualisation.vmVariant.users.users.\"a b\".initialPassword = \"test\";\n\
             virtualisation.vmVariant.users.users.\"a b\".hashedPasswordFile = lib.mkForce null;\n\
             virtualisation.vmVariant.users.users.\"a b\".hashedPassword = lib.mkForce null;\n"
        );
    }

    #[test]
    fn a_name_is_quoted_where_nix_would_read_it_as_something_else() {
        for plain in ["alice", "web-1", "_x", "o'hara"] {
            assert_eq!(attribute(plain), plain);
        }
        for (name, quoted) in [("a.b", "\"a.b\""), ("1a", "\"1a\""), ("", "\"\""), ("let", "\"let\"")] {
            assert_eq!(attribute(name), quoted);
        }
        assert_eq!(attribute("x\"; y = \"${z}\n\\"), "\"x\\\"; y = \\\"\\${z}\\n\\\\\"");
    }
}
