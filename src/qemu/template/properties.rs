//! The value of a QEMU option: properties separated by commas. A comma within a property is doubled.

/// The properties of an option's value, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::qemu) struct Properties(Vec<(String, Option<String>)>);

impl Properties {
    pub(in crate::qemu) fn parse(value: &str) -> Self {
        let mut words = vec![String::new()];
        let mut rest = value.chars().peekable();
        while let Some(character) = rest.next() {
            match (character, words.last_mut()) {
                (',', _) if rest.next_if_eq(&',').is_none() => words.push(String::new()),
                (character, Some(word)) => word.push(character),
                (_, None) => {}
            }
        }
        let pairs = words.into_iter().map(|word| match word.split_once('=') {
            Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
            None => (word, None),
        });
        Self(pairs.collect())
    }

    /// Returns the last value of a key, which is the one that QEMU uses.
    pub(in crate::qemu) fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().rev().find(|(its, _)| its == key).and_then(|(_, value)| value.as_deref())
    }

    /// Returns the first word, which may lack a key: `socket` of `socket,id=x`.
    pub(in crate::qemu) fn head(&self) -> &str {
        self.0.first().map_or("", |(key, _)| key)
    }

    /// Returns each key with its value. A first word without a value is the value of the key `implied`, as in
    /// QEMU. Empty words, such as after a trailing comma, are skipped.
    pub(in crate::qemu) fn pairs(
        &self,
        implied: Option<&'static str>,
    ) -> impl Iterator<Item = (&str, Option<&str>)> {
        let pairs = self.0.iter().enumerate().filter(|(_, (key, value))| !key.is_empty() || value.is_some());
        pairs.map(move |(at, (key, value))| match (at, implied, value) {
            (0, Some(implied), None) => (implied, Some(key.as_str())),
            _ => (key.as_str(), value.as_deref()),
        })
    }

    /// Whether a switch is on: it has the value `on`, or only its name is there.
    pub(in crate::qemu) fn is_on(&self, key: &str) -> bool {
        let last = self.0.iter().rev().find(|(its, _)| its == key);
        last.is_some_and(|(_, value)| !matches!(value.as_deref(), Some("off" | "no")))
    }

    /// Sets a key's value, in its place if it exists already.
    pub(in crate::qemu) fn set(&mut self, key: &str, value: impl Into<String>) {
        let value = Some(value.into());
        match self.0.iter_mut().rev().find(|(its, _)| its == key) {
            Some((_, its)) => *its = value,
            None => self.0.push((key.to_owned(), value)),
        }
    }

    /// Removes every occurrence of a key.
    pub(in crate::qemu) fn remove(&mut self, key: &str) {
        self.0.retain(|(its, _)| its != key);
    }
}

impl std::fmt::Display for Properties {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (at, (key, value)) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str(",")?;
            }
            f.write_str(&key.replace(',', ",,"))?;
            if let Some(value) = value {
                write!(f, "={}", value.replace(',', ",,"))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_are_read_changed_and_written() {
        let text = "cache=writeback,file=/a,,b/disk.qcow2,id=drive1,if=none,readonly,werror=report";
        let mut properties = Properties::parse(text);
        assert_eq!(properties.to_string(), text);
        assert_eq!(properties.get("file"), Some("/a,b/disk.qcow2"));
        assert_eq!(properties.get("nosuch"), None);
        assert!(properties.is_on("readonly") && !properties.is_on("snapshot"));
        assert!(!Properties::parse("readonly=on,readonly=off").is_on("readonly"));
        properties.set("file", "/c,d");
        properties.set("format", "qcow2");
        assert_eq!(
            properties.to_string(),
            "cache=writeback,file=/c,,d,id=drive1,if=none,readonly,werror=report,format=qcow2"
        );
        assert_eq!(Properties::parse("socket,id=x").head(), "socket");
        assert_eq!(Properties::parse("").to_string(), "");
    }
}
