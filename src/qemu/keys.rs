//! The names of keys, and the keys for each character on a US keyboard.

use serde_json::{Value, json};

use crate::{Error, ErrorKind, Result};

/// Keys that are pressed together. They are pressed in this order and released in the reverse order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chord(Vec<Key>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Key {
    /// QEMU's name (`QKeyCode` in its documentation).
    Name(String),
    /// A scan code of a PC keyboard.
    Number(u32),
}

/// Common names of keys, and QEMU's names.
const OTHER_NAMES: [(&str, &str); 18] = [
    ("enter", "ret"),
    ("return", "ret"),
    ("space", "spc"),
    ("escape", "esc"),
    ("del", "delete"),
    ("ins", "insert"),
    ("page_up", "pgup"),
    ("pageup", "pgup"),
    ("page_down", "pgdn"),
    ("pagedown", "pgdn"),
    ("super", "meta_l"),
    ("meta", "meta_l"),
    ("win", "meta_l"),
    ("control", "ctrl"),
    ("capslock", "caps_lock"),
    ("printscreen", "print"),
    ("sysreq", "sysrq"),
    ("alt_gr", "alt_r"),
];

/// Characters that are neither letters nor digits, the key of each, and whether it is shifted.
const SIGNS: [(char, &str, bool); 44] = [
    ('\n', "ret", false),
    ('\r', "ret", false),
    ('\t', "tab", false),
    ('\x08', "backspace", false),
    ('\x7f', "backspace", false),
    ('\x1b', "esc", false),
    (' ', "spc", false),
    ('-', "minus", false),
    ('_', "minus", true),
    ('=', "equal", false),
    ('+', "equal", true),
    ('[', "bracket_left", false),
    ('{', "bracket_left", true),
    (']', "bracket_right", false),
    ('}', "bracket_right", true),
    (';', "semicolon", false),
    (':', "semicolon", true),
    ('\'', "apostrophe", false),
    ('"', "apostrophe", true),
    ('`', "grave_accent", false),
    ('~', "grave_accent", true),
    ('\\', "backslash", false),
    ('|', "backslash", true),
    (',', "comma", false),
    ('<', "comma", true),
    ('.', "dot", false),
    ('>', "dot", true),
    ('/', "slash", false),
    ('?', "slash", true),
    ('!', "1", true),
    ('@', "2", true),
    ('#', "3", true),
    ('$', "4", true),
    ('%', "5", true),
    ('^', "6", true),
    ('&', "7", true),
    ('*', "8", true),
    ('(', "9", true),
    (')', "0", true),
    // Control characters, which a terminal sends for a key with ctrl.
    ('\x03', "c", false),
    ('\x04', "d", false),
    ('\x0c', "l", false),
    ('\x15', "u", false),
    ('\x1a', "z", false),
];

impl Chord {
    /// Parses `ctrl-alt-f2`, `ret`, `0x1c`, or a single character as in [`Chord::of`]. Names of more than one
    /// letter are not case-sensitive.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for an empty name and for a character that a US keyboard does not have. Longer
    /// names are checked by QEMU only.
    pub(crate) fn parse(names: &str) -> Result<Self> {
        let mut characters = names.chars();
        if let (Some(character), None) = (characters.next(), characters.next()) {
            return Self::of(character);
        }
        // "ctrl--" is ctrl and minus.
        let (names, minus) = match names.strip_suffix("--") {
            Some(names) => (names, Some(Key::Name("minus".to_owned()))),
            None => (names, None),
        };
        let mut keys = names.split('-').map(Key::parse).collect::<Result<Vec<_>>>()?;
        keys.extend(minus);
        Ok(Self(keys))
    }

    /// Returns the keys that make a character on a US keyboard.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for a character that it does not have.
    pub(crate) fn of(character: char) -> Result<Self> {
        let key = |name: &str| Key::Name(name.to_owned());
        if character.is_ascii_alphanumeric() {
            let name = key(&character.to_ascii_lowercase().to_string());
            let shift = character.is_ascii_uppercase().then(|| key("shift"));
            return Ok(Self(shift.into_iter().chain([name]).collect()));
        }
        let found = SIGNS.iter().find(|(sign, ..)| *sign == character);
        let Some((_, name, shifted)) = found else {
            return Err(Error::new(ErrorKind::Usage, format!("a US keyboard has no key for {character:?}"))
                .next_step("type it on the serial console (`send_console`), or name the keys that make it"));
        };
        let modifier = match character {
            '\x03' | '\x04' | '\x0c' | '\x15' | '\x1a' => Some("ctrl"),
            _ if *shifted => Some("shift"),
            _ => None,
        };
        Ok(Self(modifier.into_iter().chain([*name]).map(key).collect()))
    }

    /// Returns the arguments of `input-send-event`, with one report for each key. A guest may treat the keys
    /// of one report as simultaneous.
    pub(super) fn reports(&self) -> impl Iterator<Item = Value> {
        let pressed = self.0.iter().map(|key| key.report(true));
        pressed.chain(self.0.iter().rev().map(|key| key.report(false)))
    }
}

impl Key {
    fn parse(name: &str) -> Result<Self> {
        let lower = name.to_ascii_lowercase();
        if let Some(number) = lower.strip_prefix("0x") {
            let number = u32::from_str_radix(number, 16);
            let number =
                number.map_err(|_| Error::new(ErrorKind::Usage, format!("{name:?} is not a scan code")))?;
            return Ok(Self::Number(number));
        }
        let mut characters = lower.chars();
        let known = match (characters.next(), characters.next()) {
            (None, _) => return Err(Error::new(ErrorKind::Usage, "a key without a name")),
            // "ctrl-[", "alt-."
            (Some(one), None) => SIGNS.iter().find(|(sign, _, shifted)| *sign == one && !shifted),
            _ => None,
        };
        let other = OTHER_NAMES.iter().find(|(other, _)| *other == lower).map(|(_, name)| *name);
        let known = known.map(|(_, name, _)| *name).or(other);
        Ok(Self::Name(known.map_or(lower.clone(), str::to_owned)))
    }

    fn report(&self, down: bool) -> Value {
        let key = match self {
            Self::Name(name) => json!({ "type": "qcode", "data": name }),
            Self::Number(number) => json!({ "type": "number", "data": number }),
        };
        json!({ "events": [{ "type": "key", "data": { "down": down, "key": key } }] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(chord: &Chord) -> String {
        let names = chord.0.iter().map(|key| match key {
            Key::Name(name) => name.clone(),
            Key::Number(number) => format!("{number:#x}"),
        });
        names.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn keys_have_the_names_that_nixos_tests_use() {
        for (given, keys) in [
            ("ctrl-alt-f2", "ctrl alt f2"),
            ("ret", "ret"),
            ("ENTER", "ret"),
            ("alt-shift-x", "alt shift x"),
            ("ctrl--", "ctrl minus"),
            ("-", "minus"),
            ("A", "shift a"),
            ("\n", "ret"),
            ("ctrl-[", "ctrl bracket_left"),
            ("meta_l-d", "meta_l d"),
            ("shift-0x1c", "shift 0x1c"),
        ] {
            assert_eq!(names(&Chord::parse(given).unwrap()), keys, "{given}");
        }
        for bad in ["", "é", "ctrl-", "0xzz", "a--b"] {
            assert_eq!(Chord::parse(bad).unwrap_err().kind(), ErrorKind::Usage, "{bad:?}");
        }
    }

    #[test]
    fn every_printable_character_has_keys_of_its_own() {
        let mut seen = std::collections::HashSet::new();
        for character in ' '..='~' {
            let chord = Chord::of(character).unwrap();
            assert!(chord.0.len() <= 2, "{character:?}");
            assert!(seen.insert(names(&chord)), "{character:?} is made as another is");
        }
    }

    #[test]
    fn keys_are_let_go_in_the_reverse_order() {
        let reports: Vec<_> = Chord::parse("ctrl-c").unwrap().reports().collect();
        let told = reports.iter().map(|report| {
            let data = &report["events"][0]["data"];
            (data["key"]["data"].as_str().unwrap(), data["down"].as_bool().unwrap())
        });
        let expected = [("ctrl", true), ("c", true), ("c", false), ("ctrl", false)];
        assert_eq!(told.collect::<Vec<_>>(), expected);
    }
}
