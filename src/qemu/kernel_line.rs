//! What QEMU's command line gives the guest's kernel: its consoles, and its initial ramdisk.

use super::Qemu;
use super::template::arguments;

impl Qemu {
    /// Returns the kernel's parameters, or `None` if QEMU does not start a kernel itself, so that a boot
    /// loader has them.
    pub(crate) fn kernel_line(&self) -> Option<String> {
        value(&arguments(self.pid())?, "-append")
    }

    /// Returns the size of the initial ramdisk that QEMU gives the kernel, in bytes, as packed.
    pub(crate) fn initrd_size(&self) -> Option<u64> {
        let path = value(&arguments(self.pid())?, "-initrd")?;
        std::fs::metadata(path).ok().map(|file| file.len())
    }
}

/// Returns the last value of an option, which is the one that QEMU uses.
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
