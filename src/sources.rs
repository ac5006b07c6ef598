//! The sources of this program, with which scenarios are compiled, and which contain the stand-in for
//! nixpkgs.

use std::path::{Path, PathBuf};

/// Returns the folder of the sources. In the archive of a release that is `share/nixvm-test/source` beside
/// `bin`. Otherwise it is the folder that this program was compiled from, which may be gone.
pub(crate) fn folder() -> PathBuf {
    let program = std::env::current_exe().ok();
    program.and_then(|program| beside(&program)).unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into())
}

fn beside(program: &Path) -> Option<PathBuf> {
    let folder = program.parent()?.parent()?.join("share/nixvm-test/source");
    folder.join("Cargo.toml").is_file().then_some(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sources_lie_beside_a_released_program_and_else_where_it_was_compiled() {
        assert_eq!(folder(), Path::new(env!("CARGO_MANIFEST_DIR")));
        let root = tempfile::tempdir().unwrap();
        let (program, source) =
            (root.path().join("bin/nixvm-test"), root.path().join("share/nixvm-test/source"));
        std::fs::create_dir_all(&source).unwrap();
        assert_eq!(beside(&program), None, "an empty folder");
        std::fs::write(source.join("Cargo.toml"), "").unwrap();
        assert_eq!(beside(&program), Some(source));
        assert_eq!(beside(Path::new("/")), None);
    }
}
