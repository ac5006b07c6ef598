//! The builder of fake built VMs.

use std::path::{Path, PathBuf};

use crate::FakeLine;
use crate::settings::{Flavour, Settings};
use crate::words::escape;

/// A fake built VM, to be written as a `./result`, or started as a bare console.
#[derive(Debug, Clone, Default)]
pub struct FakeVm {
    words: Vec<(String, String)>,
    name: Option<String>,
    kernel_line: String,
    disk: bool,
    script_options: String,
}

impl FakeVm {
    /// A well-behaved NixOS 23.11 named `nixos`; alice with password `test` unless a [`user`](Self::user) is given.
    pub fn new() -> Self {
        Self { disk: true, ..Self::default() }
    }

    /// Any setting of [`Settings`], by its key; `value` is taken as it is, escapes and line ends included.
    ///
    /// # Panics
    /// On an unknown key or a value that makes no sense.
    #[must_use]
    pub fn setting(mut self, key: &str, value: &str) -> Self {
        let value = escape(value);
        if let Err(why) = Settings::default().word(&format!("{key}={value}")) {
            panic!("{why}");
        }
        self.words.push((key.into(), value));
        self
    }

    /// The host name, and NAME of `run-NAME-vm`.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        self.name = Some(name.into());
        self.setting("name", name)
    }

    /// An account in group wheel; an empty password is not asked for.
    #[must_use]
    pub fn user(self, name: &str, password: &str) -> Self {
        self.setting("user", &format!("{name}:{password}"))
    }

    /// Whose console is imitated.
    #[must_use]
    pub fn flavour(self, flavour: Flavour) -> Self {
        self.setting(
            "flavour",
            match flavour {
                Flavour::Systemd254 => "systemd-254",
                Flavour::Systemd257 => "systemd-257",
                Flavour::Systemd258 => "systemd-258",
            },
        )
    }

    /// Kernel messages in between: `every:3ms` or `bytes:7`.
    #[must_use]
    pub fn kernel_noise(self, when: &str) -> Self {
        self.setting("kernel-noise", when)
    }

    /// Bytes a write: `all`, a number, or `random`.
    #[must_use]
    pub fn chunk(self, size: &str) -> Self {
        self.setting("chunk", size)
    }

    /// What the VM's own configuration puts on the kernel line (boot.kernelParams).
    #[must_use]
    pub fn kernel_params(mut self, params: &str) -> Self {
        self.kernel_line = params.into();
        self
    }

    /// `virtualisation.diskImage = null`.
    #[must_use]
    pub fn without_disk(mut self) -> Self {
        self.disk = false;
        self
    }

    /// `virtualisation.qemu.options`: stands in the script before QEMU_OPTS.
    #[must_use]
    pub fn qemu_options(mut self, options: &str) -> Self {
        self.script_options = options.into();
        self
    }

    /// Starts the fake without a run script around: its console is a socket.
    ///
    /// # Panics
    /// When it can't be started.
    pub fn start(&self) -> FakeLine {
        FakeLine::start(self).unwrap_or_else(|error| panic!("could not start the fake guest: {error}"))
    }

    /// Writes `DIR/result` with `bin/run-NAME-vm` and `system`, and gives its path. The script does what a real one does,
    /// except that its disk image is a small text file.
    ///
    /// # Panics
    /// When it can't be written.
    pub fn write_to(&self, dir: impl AsRef<Path>) -> PathBuf {
        let result = dir.as_ref().join("result");
        self.write(&result).unwrap_or_else(|error| panic!("could not write {}: {error}", result.display()));
        result
    }

    fn write(&self, result: &Path) -> std::io::Result<()> {
        let name = self.name.as_deref().unwrap_or("nixos");
        let system = result.join("system");
        std::fs::create_dir_all(result.join("bin"))?;
        std::fs::create_dir_all(&system)?;
        // The script is run from anywhere: absolute paths, as in the store.
        let system = system.canonicalize()?;
        let report = result.canonicalize()?.join("report").display().to_string();
        std::fs::write(system.join("fake-guest.conf"), self.settings_text(&report))?;
        std::fs::write(system.join("kernel-params"), format!("loglevel=4 {}", self.kernel_line))?;
        for file in ["init", "kernel", "initrd"] {
            std::fs::write(system.join(file), "fake\n")?;
        }
        let script = result.join("bin").join(format!("run-{name}-vm"));
        crate::write_executable(&script, self.script(name, &system))
    }

    /// As facts/run-script.md says, step by step.
    fn script(&self, name: &str, system: &Path) -> String {
        let system = system.display();
        let (disk, drive) = if self.disk {
            (
                format!(
                    "NIX_DISK_IMAGE=$(readlink -f \"${{NIX_DISK_IMAGE:-./{name}.qcow2}}\") || test -z \"$NIX_DISK_IMAGE\"\n\
                     if test -n \"$NIX_DISK_IMAGE\" && ! test -e \"$NIX_DISK_IMAGE\"; then\n\
                     \x20   echo \"Disk image do not exist, creating the virtualisation disk image...\"\n\
                     \x20   echo \"fake disk\" > \"$NIX_DISK_IMAGE\"\n\
                     \x20   echo \"Virtualisation disk image created.\"\n\
                     fi\n"
                ),
                "-drive cache=writeback,file=\"$NIX_DISK_IMAGE\",id=drive1,if=none,index=1,werror=report \\\n    \
                 -device virtio-blk-pci,bootindex=1,drive=drive1,serial=root \\\n    ",
            )
        } else {
            (String::new(), "")
        };
        format!(
            "#! /bin/sh\n\
             set -e\n\
             {disk}\
             if [ -z \"$TMPDIR\" ] || [ -z \"$USE_TMPDIR\" ]; then\n\
             \x20   TMPDIR=$(mktemp -d nix-vm.XXXXXXXXXX --tmpdir)\n\
             fi\n\
             export TMPDIR\n\
             mkdir -p \"$TMPDIR/xchg\"\n\
             cd \"$TMPDIR\"\n\
             export FAKE_GUEST_FILE='{system}/fake-guest.conf'\n\
             exec {binary} -machine accel=kvm:tcg -cpu max \\\n    \
             -name {name} \\\n    \
             -m 1024 \\\n    \
             -smp 1 \\\n    \
             -device virtio-rng-pci \\\n    \
             -net nic,netdev=user.0,model=virtio -netdev user,id=user.0,\"$QEMU_NET_OPTS\" \\\n    \
             -virtfs local,path=/nix/store,security_model=none,mount_tag=nix-store \\\n    \
             -virtfs local,path=\"${{SHARED_DIR:-$TMPDIR/xchg}}\",security_model=none,mount_tag=shared \\\n    \
             -virtfs local,path=\"$TMPDIR\"/xchg,security_model=none,mount_tag=xchg \\\n    \
             {drive}-device virtio-keyboard \\\n    \
             -usb \\\n    \
             -device usb-tablet,bus=usb-bus.0 \\\n    \
             -kernel '{system}/kernel' \\\n    \
             -initrd '{system}/initrd' \\\n    \
             -append \"$(cat '{system}/kernel-params') init={system}/init console=ttyS0,115200n8 console=tty0 \
             $QEMU_KERNEL_PARAMS\" \\\n    \
             {options} \\\n    \
             $QEMU_OPTS \\\n    \
             \"$@\"\n",
            binary = crate::binary().display(),
            options = self.script_options,
        )
    }

    pub(crate) fn kernel_line(&self) -> &str {
        &self.kernel_line
    }

    pub(crate) fn settings_text(&self, report: &str) -> String {
        let words = self.words.iter().map(|(key, value)| format!("{key}={value}\n"));
        std::iter::once(format!("report={}\n", escape(report))).chain(words).collect()
    }
}
