//! Sources as text: in the attribute of a scenario, and on the command line.

use std::path::Path;

use super::git::Committed;
use super::source::Source;
use super::{profile, relative};
use crate::{Error, ErrorKind, Result};

/// The kinds of sources that a text can name, by the word before its first colon.
const KINDS: [(&str, Kind); 4] =
    [("git:", Kind::Git), ("profile:", Kind::Profile), ("flake:", Kind::Flake), ("vm:", Kind::Built)];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    Git,
    Profile,
    Flake,
    Built,
}

/// A source as the user wrote it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Written<'a> {
    whole: &'a str,
    kind: Kind,
    /// What stands behind the word for its kind.
    rest: &'a str,
}

impl<'a> Written<'a> {
    /// Takes a text apart. A text without a known word before its first colon names a file.
    pub(crate) fn parse(whole: &'a str) -> Self {
        let known = KINDS.iter().find_map(|(word, kind)| Some((*kind, whole.strip_prefix(word)?)));
        let (kind, rest) = known.unwrap_or((Kind::File, whole));
        Self { whole, kind, rest }
    }

    /// Returns the file that it names, if it names one.
    pub(crate) fn file(self) -> Option<&'a Path> {
        (self.kind == Kind::File).then(|| Path::new(self.rest))
    }

    /// Returns the source. A relative path starts at `folder`. `usual` is the source that would be used without the
    /// text: a commit without a path has its file.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when nothing stands behind the word, or it names no commit.
    pub(crate) fn source(self, folder: &Path, usual: impl FnOnce() -> Result<Source>) -> Result<Source> {
        if self.rest.trim().is_empty() {
            return Err(self.incomplete());
        }
        match self.kind {
            Kind::File => Ok(Source::Configuration(folder.join(self.rest))),
            Kind::Git => Committed::find(self.whole, self.rest, folder, usual)
                .map(|found| Source::Committed(Box::new(found))),
            Kind::Profile => {
                let link = relative::absolute(Path::new(self.rest), folder);
                let found = Committed::find(self.whole, &profile::revision(&link)?, folder, usual)?;
                Ok(Source::Committed(Box::new(found)))
            }
            Kind::Flake => Ok(Source::Flake(relative::flake(self.rest, folder))),
            Kind::Built => Ok(Source::Built(relative::absolute(Path::new(self.rest), folder))),
        }
    }

    fn incomplete(self) -> Error {
        let example = match self.kind {
            Kind::File => "configuration.nix",
            Kind::Git => "git:HEAD:configuration.nix",
            Kind::Profile => "profile:/nix/var/nix/profiles/system",
            Kind::Flake => "flake:.#web",
            Kind::Built => "vm:result",
        };
        Error::new(ErrorKind::Usage, format!("{:?} names no source", self.whole))
            .next_step(format!("write, for example, {example:?}"))
    }
}
