//! Records which moments this user kept. A moment contains a boot script, and scripts of other users are not run.
//!
//! A moment's mark is made with a key that only this user can read. So it stays valid when the moment is moved to
//! another place and back.

use std::io;

use rustix::rand::{GetRandomFlags, getrandom};

use crate::beneath::Beneath;
use crate::{cache, digest};

/// In the moment's folder.
pub(super) const MARK_FILE: &str = "mark";
/// In the user's cache folder.
const KEY_FILE: &str = "moments.key";
/// In bytes.
const KEY: usize = 32;
/// Maximum size of a mark in bytes.
const MARK: u64 = 100;

/// Returns the mark of a moment with this description.
pub(super) fn mark(about: &[u8]) -> io::Result<String> {
    mark_by(&keys()?, about)
}

/// Returns whether the moment in `folder`, with this description, has this user's mark.
pub(super) fn is_own(folder: &Beneath, about: &[u8]) -> bool {
    keys().is_ok_and(|keys| is_own_by(&keys, folder, about))
}

fn mark_by(keys: &Beneath, about: &[u8]) -> io::Result<String> {
    let key = match key(keys) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut new = [0; KEY];
            if getrandom(&mut new[..], GetRandomFlags::empty())? != KEY {
                return Err(io::Error::other("the kernel gave too few random bytes"));
            }
            keys.replace(KEY_FILE, &new, 0o600)?;
            // Another process may have created one meanwhile.
            key(keys)?
        }
        key => key?,
    };
    Ok(made(&key, about))
}

fn is_own_by(keys: &Beneath, folder: &Beneath, about: &[u8]) -> bool {
    let Ok(key) = key(keys) else { return false };
    folder.read(MARK_FILE, MARK).is_ok_and(|mark| mark == made(&key, about).as_bytes())
}

fn keys() -> io::Result<Beneath> {
    Beneath::open(cache::dir().map_err(io::Error::other)?)
}

fn key(folder: &Beneath) -> io::Result<Vec<u8>> {
    let key = folder.read(KEY_FILE, KEY as u64)?;
    if key.len() == KEY { Ok(key) } else { Err(io::Error::other("the key for kept moments is damaged")) }
}

/// Computes a mark. The key is hashed before and after the text, so that a mark can't be extended to a longer text.
fn made(key: &[u8], about: &[u8]) -> String {
    digest::of_parts([key, digest::of_parts([key, about]).as_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_its_users_own_and_nobody_elses() {
        let [mine, theirs, moment] = [(); 3].map(|()| tempfile::tempdir().unwrap());
        let [keys, others, folder] = [&mine, &theirs, &moment].map(|dir| Beneath::open(dir.path()).unwrap());
        assert!(!is_own_by(&keys, &folder, b"about"), "there is no key");
        let mark = mark_by(&keys, b"about").unwrap();
        assert_eq!(mark_by(&keys, b"about").unwrap(), mark, "one key for all moments");
        assert!(!is_own_by(&keys, &folder, b"about"), "there is no mark");
        folder.replace(MARK_FILE, mark.as_bytes(), 0o600).unwrap();
        assert!(is_own_by(&keys, &folder, b"about"));
        assert!(!is_own_by(&keys, &folder, b"another script"));
        mark_by(&others, b"about").unwrap();
        assert!(!is_own_by(&others, &folder, b"about"), "another user's key");
        keys.replace(KEY_FILE, b"", 0o600).unwrap();
        folder.replace(MARK_FILE, made(b"", b"about").as_bytes(), 0o600).unwrap();
        assert!(!is_own_by(&keys, &folder, b"about"), "a key that is damaged");
    }

    #[test]
    fn a_mark_is_of_one_key_and_of_all_that_is_known() {
        let mark = made(&[1; KEY], b"script");
        assert_eq!(mark, made(&[1; KEY], b"script"));
        assert_ne!(mark, made(&[2; KEY], b"script"));
        assert_ne!(mark, made(&[1; KEY], b"script "));
    }
}
