//! Compiles a scenario's file against this library, once for each content.
//!
//! Each file becomes a small cargo package of its own in the cache folder, and all of them share one
//! target directory, so the library is compiled once: where the folder is still there in which cargo built this
//! program, and lies in the checkout, it is that one, and the library is compiled already (`own_build.rs`). What went into a
//! binary, and which library it is linked with, is recorded in the cache: while that stands as it was, the binary is
//! run as it is, without asking cargo (some milliseconds). Otherwise cargo builds the file again, from where it lies, so
//! that the compiler's messages show the user's own path and line.
//!
//! ```text
//! <cache>/scenarios/<library>/      one workshop for each place that the library is compiled from
//!     target/                       of all packages, without a build of our own: emptied when the compiler changes
//!     packages/<file>/              Cargo.toml, Cargo.lock, record.json; least recently used go first
//! ```

mod build;
mod cargo;
mod complete;
mod editor;
mod frontmatter;
mod library;
mod lock;
mod look;
mod manifest;
mod own_build;
mod record;
mod source;
mod workshop;

use std::path::{Path, PathBuf};

use crate::{Events, Result};

pub(crate) use crate::scenario::walk::EDITOR_MARK;
pub use editor::{EditorPackage, check_editor_package, editor_package, files_of_editor_package};
pub use source::{find as files, left_out_below};

/// What a manifest says to depend on this library: a version, or the path of the checkout that this program was compiled
/// from.
pub fn dependency() -> toml::Table {
    library::Library::find().lasting_dependency()
}

/// What came of compiling a file.
#[derive(Debug)]
pub struct Compiled {
    /// What the compiler said (warnings, errors), as it would show it on this terminal.
    pub diagnostics: String,
    /// The binary, or why there is none: [`Build`](crate::ErrorKind::Build) if the compiler found errors,
    /// [`Host`](crate::ErrorKind::Host) if cargo or a linker is missing,
    /// [`Usage`](crate::ErrorKind::Usage) if the file can't be a scenario's.
    pub binary: Result<PathBuf>,
}

/// Compiles scenario files and remembers what it compiled.
#[derive(Debug)]
pub struct Compiler {
    workshop: workshop::Workshop,
    library: library::Library,
    own_build: Option<own_build::OwnBuild>,
    colour: bool,
    own_group: bool,
}

impl Compiler {
    /// A compiler that works in the cache folder. `colour` is for its diagnostics.
    ///
    /// # Errors
    /// If the cache folder can't be made.
    pub fn new(colour: bool) -> Result<Self> {
        let library = library::Library::find();
        let own_build = own_build::OwnBuild::find(&library);
        let workshop = workshop::Workshop::open(&crate::cache::dir()?, &library, own_build.as_ref())?;
        Ok(Self { workshop, library, own_build, colour, own_group: false })
    }

    /// Ends cargo, with all that it started, when a compilation is given up: without this, what it started goes on.
    /// For those who end on ctrl-C in an order of their own: it does not reach cargo then.
    #[must_use]
    pub fn ended_with_us(mut self) -> Self {
        self.own_group = true;
        self
    }

    /// The binary of `file` if it is there and nothing that went into it has changed.
    pub fn fresh(&self, file: &Path) -> Option<PathBuf> {
        self.workshop.package(file).fresh(&self.library)
    }

    /// The files of the user's that `file` was compiled from the last time: itself, its modules, what it includes.
    pub fn inputs(&self, file: &Path) -> Vec<PathBuf> {
        let package = self.workshop.package(file);
        let (copy, beside) = (package.copy(), file.parent().unwrap_or(Path::new("/")));
        let inputs = package.inputs().into_iter().map(|path| match path.strip_prefix(&copy) {
            Ok(name) => beside.join(name),
            Err(_) => path,
        });
        // Not what build scripts made.
        let made = self.workshop.target().join("debug");
        inputs.filter(|path| !path.starts_with(&made)).collect()
    }

    /// Compiles `file` unless that was done already, telling `events` how it goes.
    ///
    /// The first file of all compiles the library as well, unless this program's own build is at hand; an edit takes
    /// about a second. Other processes that compile the same file are waited for, 20 minutes at most.
    pub async fn compile(&self, file: &Path, events: &Events) -> Compiled {
        match build::run(self, file, events).await {
            Ok(compiled) => compiled,
            Err(error) => Compiled { diagnostics: String::new(), binary: Err(error) },
        }
    }
}
