//! Describes the host's KVM: the module, the host's own hypervisor, and known problems.

use std::fs;

/// Firmware vendors of virtual machines, by the beginning of the vendor's name.
const VIRTUAL: [(&str, &str); 9] = [
    ("QEMU", "QEMU"),
    ("Microsoft Corporation", "Hyper-V or Azure"),
    ("Google", "Google Cloud"),
    ("Amazon EC2", "AWS"),
    ("VMware", "VMware"),
    ("innotek", "VirtualBox"),
    ("Xen", "Xen"),
    ("Hetzner", "Hetzner Cloud"),
    ("DigitalOcean", "DigitalOcean"),
];

/// The content of the kernel's files.
#[derive(Debug, Default)]
pub(super) struct Host {
    /// The names in /sys/module, which include built-in modules.
    modules: Vec<String>,
    cpuinfo: String,
    vendor: String,
    kernel: String,
    clock: String,
    /// Parameters of the modules with their values.
    parameters: Vec<(String, String)>,
}

impl Host {
    pub(super) fn look() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let parameters = [
            "kvm/parameters/ignore_msrs",
            "kvm_intel/parameters/nested",
            "kvm_intel/parameters/ept",
            "kvm_intel/parameters/unrestricted_guest",
            "kvm_amd/parameters/nested",
            "kvm_amd/parameters/npt",
        ];
        let parameters =
            parameters.map(|path| (path.replace("/parameters/", "."), read(&format!("/sys/module/{path}"))));
        Self {
            modules: fs::read_dir("/sys/module")
                .map(|entries| {
                    entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect()
                })
                .unwrap_or_default(),
            cpuinfo: read("/proc/cpuinfo"),
            vendor: read("/sys/class/dmi/id/sys_vendor"),
            kernel: read("/proc/sys/kernel/osrelease"),
            clock: read("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
            parameters: parameters.into_iter().filter(|(_, value)| !value.is_empty()).collect(),
        }
    }

    fn of_cpuinfo(&self, key: &str) -> &str {
        let line = self.cpuinfo.lines().find_map(|line| line.strip_prefix(key));
        line.map_or("", |line| line.trim_start_matches([' ', '\t', ':']))
    }

    /// Returns the KVM module for this processor.
    fn module(&self) -> Option<&str> {
        self.modules.iter().map(String::as_str).find(|name| name.starts_with("kvm_"))
    }

    /// Returns the hypervisor of this host, if the host is itself a virtual machine.
    pub(super) fn nested(&self) -> Option<String> {
        let is_guest = self.of_cpuinfo("flags").split(' ').any(|flag| flag == "hypervisor");
        let named = VIRTUAL.iter().find(|(begins, _)| self.vendor.starts_with(begins)).map(|(_, name)| *name);
        match (named, is_guest) {
            (Some(name), _) => Some(name.to_owned()),
            (None, true) => Some("an unknown hypervisor".to_owned()),
            (None, false) => None,
        }
    }

    /// Describes the host in one line.
    pub(super) fn describe(&self) -> String {
        let nested = match self.nested() {
            Some(name) => format!("a virtual machine itself ({name}): KVM is nested"),
            None => "not a virtual machine itself".to_owned(),
        };
        let parameters: Vec<String> =
            self.parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let parts = [
            self.module().unwrap_or("KVM of an unknown kind").to_owned(),
            nested,
            parameters.join(" "),
            format!("Linux {}", self.kernel),
            format!("{}, microcode {}", self.of_cpuinfo("model name"), self.of_cpuinfo("microcode")),
            format!("clock {}", self.clock),
        ];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ")
    }

    /// Returns a known problem of this host, and what to do.
    pub(super) fn known_trouble(&self) -> Option<(&'static str, &'static str)> {
        if self.module() == Some("kvm_pvm") {
            return Some((
                "kvm_pvm runs guests without the processor's virtualization: firmware works, a stock kernel may not",
                "ask the host's provider for nested virtualization",
            ));
        }
        let azure = self.kernel.starts_with("6.11.") && self.kernel.ends_with("-azure");
        let ubuntu =
            self.kernel.strip_prefix("6.8.0-").and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        if azure || ubuntu.is_some_and(|build| build >= 58) {
            return Some((
                "the first start of a guest fails occasionally with `kvm run failed Cannot allocate memory`",
                "nothing: nixvm-test starts the machine again once; a newer kernel fixes it",
            ));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(modules: &str, flags: &str, vendor: &str, kernel: &str) -> Host {
        let cpuinfo = format!("processor\t: 0\nmodel name\t: A CPU\nmicrocode\t: 0x1\nflags\t\t: {flags}\n");
        Host {
            modules: modules.split(' ').map(str::to_owned).collect(),
            cpuinfo,
            vendor: vendor.into(),
            kernel: kernel.into(),
            ..Host::default()
        }
    }

    #[test]
    fn a_host_says_what_it_is() {
        let metal = host("kvm kvm_intel loop", "fpu vmx", "Dell Inc.", "6.12.1");
        assert_eq!(metal.nested(), None);
        let said = metal.describe();
        assert!(
            said.starts_with("kvm_intel; not a virtual machine itself; Linux 6.12.1; A CPU, microcode 0x1"),
            "{said}"
        );
        assert_eq!(metal.known_trouble(), None);
        let runner = host("kvm_amd", "fpu svm hypervisor", "Microsoft Corporation", "6.11.0-1018-azure");
        assert!(runner.describe().contains("(Hyper-V or Azure): KVM is nested"));
        assert!(runner.known_trouble().unwrap().0.contains("Cannot allocate memory"));
        assert!(host("", "", "", "6.8.0-60-generic").known_trouble().is_some());
        assert_eq!(host("", "", "", "6.8.0-57-generic").known_trouble(), None);
        let pvm = host("kvm kvm_pvm", "fpu hypervisor", "", "6.12");
        assert_eq!(pvm.nested().as_deref(), Some("an unknown hypervisor"));
        assert!(pvm.known_trouble().is_some());
    }
}
