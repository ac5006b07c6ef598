//! QEMU's command line, as far as a fake one needs it.

use std::os::fd::RawFd;

/// What the command line said.
#[derive(Debug, Default)]
pub struct Options {
    /// The console's descriptor; none: standard input and output.
    pub console: Option<RawFd>,
    /// QMP's descriptor.
    pub qmp: Option<RawFd>,
    /// The descriptor of the control channel's port.
    pub channel: Option<RawFd>,
    /// The accelerators to try, in order.
    pub accelerators: Vec<String>,
    /// The guest's processor.
    pub cpu: String,
    /// The kernel line; none where the command line has no `-append`.
    pub append: Option<String>,
    /// `-no-reboot`.
    pub no_reboot: bool,
    /// `-no-shutdown`.
    pub no_shutdown: bool,
    /// `-S`.
    pub start_paused: bool,
    /// `-incoming defer`: a clone, which is given a state.
    pub incoming: bool,
}

/// Options of QEMU 7.2 to 11 that a NixOS run script or a driver uses and that take a value.
const WITH_VALUE: &[&str] = &[
    "-accel",
    "-action",
    "-add-fd",
    "-append",
    "-bios",
    "-blockdev",
    "-boot",
    "-chardev",
    "-cpu",
    "-cdrom",
    "-D",
    "-d",
    "-device",
    "-display",
    "-drive",
    "-drives",
    "-echr",
    "-fsdev",
    "-fw_cfg",
    "-global",
    "-hda",
    "-incoming",
    "-initrd",
    "-kernel",
    "-loadvm",
    "-m",
    "-machine",
    "-M",
    "-mon",
    "-monitor",
    "-msg",
    "-name",
    "-net",
    "-netdev",
    "-nic",
    "-numa",
    "-object",
    "-overcommit",
    "-parallel",
    "-pidfile",
    "-qmp",
    "-rtc",
    "-run-with",
    "-runas",
    "-sandbox",
    "-serial",
    "-set",
    "-smbios",
    "-smp",
    "-spice",
    "-trace",
    "-usbdevice",
    "-uuid",
    "-vga",
    "-virtfs",
    "-vnc",
    "-watchdog-action",
];

/// Those without a value.
const FLAGS: &[&str] = &[
    "-S",
    "-daemonize",
    "-enable-kvm",
    "-no-acpi",
    "-no-fd-bootchk",
    "-no-hpet",
    "-no-reboot",
    "-no-shutdown",
    "-no-user-config",
    "-nodefaults",
    "-nographic",
    "-only-migratable",
    "-snapshot",
    "-usb",
];

impl Options {
    /// Reads QEMU's arguments.
    ///
    /// # Errors
    /// What QEMU would print before it exits with status 1, without its name in front.
    pub fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut options = Self::default();
        let mut chardevs: Vec<(String, RawFd)> = Vec::new();
        let (mut serial, mut monitor, mut channel, mut accel) = (None, None, None, None);
        let mut machine_accel = false;
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            // QEMU takes `--option` for `-option`.
            let option = argument.strip_prefix('-').filter(|a| a.starts_with('-')).unwrap_or(argument);
            if FLAGS.contains(&option) {
                match option {
                    "-enable-kvm" => accel = Some("kvm".to_owned()),
                    "-no-reboot" => options.no_reboot = true,
                    "-no-shutdown" => options.no_shutdown = true,
                    "-S" => options.start_paused = true,
                    _ => {}
                }
                continue;
            }
            if !WITH_VALUE.contains(&option) {
                if option.starts_with('-') {
                    return Err(format!("{argument}: invalid option"));
                }
                return Err(format!("{argument}: Could not open '{argument}': No such file or directory"));
            }
            let value = rest.next().ok_or_else(|| format!("{argument}: requires an argument"))?;
            match option {
                "-cpu" => options.cpu = value.clone(),
                "-append" => options.append = Some(value.clone()),
                "-incoming" => options.incoming = true,
                "-chardev" => {
                    if let (Some(id), Some(fd)) = (property(value, "id"), property(value, "fd")) {
                        let fd =
                            fd.parse().map_err(|_| format!("-chardev {value}: Invalid file descriptor"))?;
                        chardevs.push((id.into(), fd));
                    }
                }
                "-serial" => serial = value.strip_prefix("chardev:").map(str::to_owned).or(serial),
                "-mon" if property(value, "mode") == Some("control") => {
                    monitor = property(value, "chardev").map(str::to_owned);
                }
                "-qmp" => monitor = value.strip_prefix("chardev:").map(str::to_owned),
                "-device" if property(value, "name") == Some("nixvm") => {
                    channel = property(value, "chardev").map(str::to_owned);
                }
                "-machine" | "-M" => {
                    if let Some(list) = property(value, "accel") {
                        accel = Some(list.to_owned());
                        machine_accel = true;
                    }
                }
                "-accel" => {
                    // Measured on the real one (facts of the project): both together are an error.
                    if machine_accel {
                        return Err("The -accel and \"-machine accel=\" options are incompatible".into());
                    }
                    accel = value.split(',').next().map(str::to_owned);
                }
                _ => {}
            }
        }
        let find = |id: Option<String>| match id {
            None => Ok(None),
            Some(id) => match chardevs.iter().find(|(name, _)| *name == id) {
                Some((_, fd)) => Ok(Some(*fd)),
                None => Err(format!("chardev \"{id}\" not found")),
            },
        };
        options.console = find(serial)?;
        options.qmp = find(monitor)?;
        options.channel = find(channel)?;
        options.accelerators = accel.unwrap_or_else(|| "tcg".into()).split(':').map(str::to_owned).collect();
        Ok(options)
    }
}

fn property<'a>(value: &'a str, key: &str) -> Option<&'a str> {
    value.split(',').find_map(|part| part.strip_prefix(key)?.strip_prefix('='))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        Options::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn descriptors_are_found_by_their_names() {
        let line = "-chardev socket,id=con,fd=5 -serial chardev:con -chardev socket,id=q,fd=6 -mon chardev=q,mode=control";
        let options = parse(line).unwrap();
        assert_eq!((options.console, options.qmp), (Some(5), Some(6)));
    }

    #[test]
    fn the_last_machine_option_names_the_accelerator() {
        let options = parse("-machine accel=kvm:tcg -m 1024 -machine accel=tcg").unwrap();
        assert_eq!(options.accelerators, ["tcg"]);
    }

    #[test]
    fn a_bad_option_is_refused_in_qemus_words() {
        assert_eq!(parse("-frobnicate").unwrap_err(), "-frobnicate: invalid option");
    }
}
