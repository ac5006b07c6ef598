//! What the guest's kernel was given on QEMU's command line: its consoles, and its initial ramdisk.

use super::Qemu;
use super::template::arguments;

impl Qemu {
    /// The kernel's parameters; `None` where QEMU starts no kernel itself, so that a boot loader has them.
    pub(crate) fn kernel_line(&self) -> Option<String> {
        value(&arguments(self.pid())?, "-append")
    }

    /// How many bytes the initial ramdisk has that QEMU gives the kernel, packed as it is.
    pub(crate) fn initrd_size(&self) -> Option<u64> {
        let path = value(&arguments(self.pid())?, "-initrd")?;
        std::fs::metadata(path).ok().map(|file| file.len())
    }
}

/// The last value of an option, which is the one that QEMU takes.
fn value(arguments: &[String], option: &str) -> Option<String> {
    let is_it =
        |word: &String| word.strip_prefix('-').filter(|rest| rest.starts_with('-')).unwrap_or(word) == option;
    let at = arguments.iter().rposition(is_it)?;
    arguments.get(at + 1).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_an_option_counts() {
        let arguments: Vec<String> =
            ["-m", "64", "-append", "a", "--append", "b c", "-initrd"].map(str::to_owned).into();
        assert_eq!(value(&arguments, "-append").as_deref(), Some("b c"));
        assert_eq!(value(&arguments, "-initrd"), None);
        assert_eq!(value(&arguments, "-kernel"), None);
    }
}
