//! The QEMU options that a command from another host may have, with the keys of each. Everything else is
//! refused. Before you add an option, read what each of its keys lets QEMU open, run or reach.

/// What a value may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value {
    /// Letters, digits and `. _ : + - = @ %`: a name, a number or an address, but not a path.
    Word,
    /// A [`Value::Word`], or a network such as `10.0.2.0/24`.
    Network,
    /// A number with a unit: `1024M`.
    Size,
    /// One of [`MACHINES`], or a version of it: `pc-q35-7.2`.
    Machine,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// A file in the Nix store.
    StoreFile,
    /// A disk image: one of the moment's own, or one in the Nix store.
    Image,
    /// `tcp:ADDRESS:PORT-ADDRESS:PORT`.
    Forward,
    /// Text that only the guest reads.
    GuestText,
    /// Words with `;` and `/` between them, none of which is a path: what a guest is told of its networks.
    Entries,
    /// The id of a network backend of this program, which gets a socket of the process that resumes the moment.
    OwnBackend,
}

/// What follows an option.
#[derive(Debug, Clone, Copy)]
pub(super) enum Follows {
    /// Nothing.
    Nothing,
    /// A single value.
    Whole(Value),
    /// Properties. `implied` is the key of a first word without a key.
    Keys { implied: Option<&'static str>, keys: &'static [(&'static str, Value)] },
    /// Properties that depend on the first one. `implied` is its key, and `kinds` are its possible values.
    Kinds { implied: &'static str, kinds: &'static [Kind] },
    /// `-global DRIVER.PROPERTY=WORD`, for these drivers.
    Global(&'static [&'static str]),
    /// A model and any properties that are words, as in `-cpu`.
    Features,
}

/// The values that the first property of an option may have, and the keys that go with them.
#[derive(Debug)]
pub(super) struct Kind {
    pub(super) names: &'static [&'static str],
    pub(super) keys: &'static [(&'static str, Value)],
}

use Follows::{Features, Global, Keys, Kinds, Nothing, Whole};
use Value::{Entries, Forward, GuestText, Image, Machine, Network, OneOf, OwnBackend, Size, StoreFile, Word};

const SWITCH: Value = OneOf(&["on", "off", "yes", "no", "auto"]);

/// Every allowed option.
pub(super) const OPTIONS: &[(&str, Follows)] = &[
    ("nographic", Nothing),
    ("usb", Nothing),
    ("S", Nothing),
    ("enable-kvm", Nothing),
    ("no-reboot", Nothing),
    ("no-shutdown", Nothing),
    ("no-acpi", Nothing),
    ("no-hpet", Nothing),
    ("no-fd-bootchk", Nothing),
    ("nodefaults", Nothing),
    ("no-user-config", Nothing),
    ("incoming", Whole(OneOf(&["defer"]))),
    ("append", Whole(GuestText)),
    ("kernel", Whole(StoreFile)),
    ("initrd", Whole(StoreFile)),
    ("dtb", Whole(StoreFile)),
    ("bios", Whole(StoreFile)),
    ("k", Whole(Word)),
    ("uuid", Whole(Word)),
    ("vga", Whole(Word)),
    ("display", Whole(OneOf(&["none"]))),
    ("monitor", Whole(OneOf(&["none"]))),
    ("parallel", Whole(OneOf(&["none", "null"]))),
    ("serial", Whole(OneOf(&["none", "null", "chardev:nixvm-console"]))),
    (
        "mon",
        Keys {
            implied: None,
            keys: &[("chardev", OneOf(&["nixvm-control"])), ("mode", OneOf(&["control"]))],
        },
    ),
    ("chardev", Kinds { implied: "backend", kinds: CHARACTER_DEVICES }),
    ("machine", Keys { implied: Some("type"), keys: MACHINE }),
    ("M", Keys { implied: Some("type"), keys: MACHINE }),
    ("accel", Keys { implied: Some("accel"), keys: ACCELERATOR }),
    ("cpu", Features),
    ("m", Keys { implied: Some("size"), keys: &[("size", Size), ("slots", Word), ("maxmem", Size)] }),
    ("smp", Keys { implied: Some("cpus"), keys: PROCESSORS }),
    (
        "name",
        Keys {
            implied: Some("guest"),
            keys: &[("guest", Word), ("process", Word), ("debug-threads", SWITCH)],
        },
    ),
    ("rtc", Keys { implied: Some("base"), keys: &[("base", Word), ("clock", Word), ("driftfix", Word)] }),
    ("boot", Keys { implied: Some("order"), keys: BOOT }),
    ("overcommit", Keys { implied: None, keys: &[("mem-lock", SWITCH), ("cpu-pm", SWITCH)] }),
    ("msg", Keys { implied: None, keys: &[("timestamp", SWITCH), ("guest-name", SWITCH)] }),
    ("audiodev", Kinds { implied: "driver", kinds: &[Kind { names: &["none"], keys: &[("id", Word)] }] }),
    ("smbios", Keys { implied: None, keys: FIRMWARE_TABLES }),
    (
        "fw_cfg",
        Keys { implied: Some("name"), keys: &[("name", Network), ("string", Entries), ("file", StoreFile)] },
    ),
    ("watchdog-action", Whole(Word)),
    ("action", Keys { implied: None, keys: ACTIONS }),
    ("global", Global(&["cfi.pflash01", "ICH9-LPC", "PIIX4_PM", "kvm-pit", "virtio-mmio"])),
    ("drive", Keys { implied: None, keys: DRIVE }),
    ("netdev", Kinds { implied: "type", kinds: NETWORKS }),
    ("net", Kinds { implied: "type", kinds: CARDS }),
    ("nic", Kinds { implied: "type", kinds: CARDS }),
    ("object", Kinds { implied: "qom-type", kinds: OBJECTS }),
    ("device", Kinds { implied: "driver", kinds: DEVICES }),
];

/// The sockets of this program are replaced by new ones. The other devices lead nowhere.
const CHARACTER_DEVICES: &[Kind] = &[
    Kind {
        names: &["socket"],
        keys: &[("id", OneOf(&["nixvm-console", "nixvm-control", "nixvm-channel"])), ("fd", Word)],
    },
    Kind { names: &["null"], keys: &[("id", Word)] },
];

/// Machines without built-in devices that reach the host. Boards with built-in sound are not among them.
pub(super) const MACHINES: &[&str] =
    &["pc", "q35", "microvm", "virt", "s390-ccw-virtio", "pseries", "powernv", "powernv9", "powernv10"];

/// Keys that an option may have several times.
pub(super) const LISTS: &[&str] = &["hostfwd", "value"];

/// Devices that use the host's sound unless they have an `audiodev`.
pub(super) const SOUND: &[&str] = &["hda-duplex", "hda-output", "hda-micro", "AC97"];

const MACHINE: &[(&str, Value)] = &[
    ("type", Machine),
    ("accel", OneOf(&["kvm", "tcg", "kvm:tcg", "tcg:kvm"])),
    ("memory-backend", OneOf(&["nixvm-memory"])),
    ("usb", SWITCH),
    ("smm", SWITCH),
    ("kernel_irqchip", OneOf(&["on", "off", "split"])),
    ("kernel-irqchip", OneOf(&["on", "off", "split"])),
    ("vmport", SWITCH),
    ("hpet", SWITCH),
    ("acpi", SWITCH),
    ("pit", SWITCH),
    ("pic", SWITCH),
    ("sata", SWITCH),
    ("i8042", SWITCH),
    ("graphics", SWITCH),
    ("dump-guest-core", SWITCH),
    ("mem-merge", SWITCH),
    ("gic-version", Word),
    ("virtualization", SWITCH),
    ("secure", SWITCH),
    ("highmem", SWITCH),
    ("its", SWITCH),
];

const ACCELERATOR: &[(&str, Value)] = &[
    ("accel", OneOf(&["kvm", "tcg"])),
    ("thread", OneOf(&["single", "multi"])),
    ("tb-size", Word),
    ("kernel-irqchip", OneOf(&["on", "off", "split"])),
];

const PROCESSORS: &[(&str, Value)] = &[
    ("cpus", Word),
    ("sockets", Word),
    ("dies", Word),
    ("clusters", Word),
    ("cores", Word),
    ("threads", Word),
    ("maxcpus", Word),
];

const BOOT: &[(&str, Value)] = &[
    ("order", Word),
    ("once", Word),
    ("menu", SWITCH),
    ("strict", SWITCH),
    ("splash-time", Word),
    ("reboot-timeout", Word),
];

const FIRMWARE_TABLES: &[(&str, Value)] = &[
    ("type", Word),
    ("vendor", Word),
    ("version", Word),
    ("date", Word),
    ("release", Word),
    ("uefi", SWITCH),
    ("manufacturer", Word),
    ("product", Word),
    ("serial", Word),
    ("uuid", Word),
    ("sku", Word),
    ("family", Word),
    ("asset", Word),
    ("location", Word),
    ("value", Word),
];

const ACTIONS: &[(&str, Value)] =
    &[("reboot", Word), ("shutdown", Word), ("panic", Word), ("watchdog", Word)];

const DRIVE: &[(&str, Value)] = &[
    ("file", Image),
    ("format", OneOf(&["raw", "qcow2"])),
    ("id", Word),
    ("if", OneOf(&["none", "virtio", "ide", "scsi", "pflash", "sd", "floppy"])),
    ("index", Word),
    ("bus", Word),
    ("unit", Word),
    ("media", OneOf(&["disk", "cdrom"])),
    ("readonly", SWITCH),
    ("snapshot", OneOf(&["off"])),
    ("cache", OneOf(&["none", "writeback", "writethrough", "directsync", "unsafe"])),
    ("aio", OneOf(&["threads", "native", "io_uring"])),
    ("werror", OneOf(&["ignore", "stop", "report", "enospc"])),
    ("rerror", OneOf(&["ignore", "stop", "report"])),
    ("discard", OneOf(&["ignore", "unmap", "off", "on"])),
    ("detect-zeroes", OneOf(&["on", "off", "unmap"])),
];

/// `smb` and `tftp`, which serve a folder of the host, and `guestfwd`, which runs a command, are left out on
/// purpose.
const USER: &[(&str, Value)] = &[
    ("id", Word),
    ("model", Word),
    ("mac", Word),
    ("macaddr", Word),
    ("name", Word),
    ("net", Network),
    ("host", Word),
    ("dhcpstart", Word),
    ("dns", Word),
    ("hostname", Word),
    ("domainname", Word),
    ("restrict", SWITCH),
    ("ipv4", SWITCH),
    ("ipv6", SWITCH),
    ("ipv6-net", Network),
    ("ipv6-host", Word),
    ("ipv6-dns", Word),
    ("hostfwd", Forward),
];

const NETWORKS: &[Kind] = &[
    Kind { names: &["user"], keys: USER },
    // A socket to the switch of a scenario, which is replaced.
    Kind {
        names: &["dgram"],
        keys: &[("id", OwnBackend), ("local.type", OneOf(&["fd"])), ("local.str", Word)],
    },
];

const CARDS: &[Kind] = &[
    Kind { names: &["none"], keys: &[] },
    Kind { names: &["user"], keys: USER },
    Kind {
        names: &["nic"],
        keys: &[
            ("netdev", Word),
            ("model", Word),
            ("macaddr", Word),
            ("name", Word),
            ("addr", Word),
            ("vectors", Word),
        ],
    },
];

const OBJECTS: &[Kind] = &[
    // The RAM, whose file is replaced.
    Kind {
        names: &["memory-backend-file"],
        keys: &[
            ("id", OneOf(&["nixvm-memory"])),
            ("size", Size),
            ("mem-path", GuestText),
            ("share", SWITCH),
            ("readonly", SWITCH),
            ("rom", SWITCH),
        ],
    },
    Kind {
        names: &["memory-backend-ram", "memory-backend-memfd"],
        keys: &[("id", Word), ("size", Size), ("share", SWITCH), ("prealloc", SWITCH), ("merge", SWITCH)],
    },
    Kind {
        names: &["rng-random"],
        keys: &[("id", Word), ("filename", OneOf(&["/dev/urandom", "/dev/random"]))],
    },
    Kind { names: &["rng-builtin", "iothread"], keys: &[("id", Word)] },
];

/// Keys that most devices have.
const COMMON: &[(&str, Value)] = &[
    ("id", Word),
    ("bus", Word),
    ("addr", Word),
    ("multifunction", SWITCH),
    ("bootindex", Word),
    ("drive", Word),
    ("serial", Word),
    ("netdev", Word),
    ("mac", Word),
    ("ctrl_vlan", SWITCH),
    ("chardev", OneOf(&["nixvm-channel"])),
    ("name", Word),
    ("nr", Word),
    ("port", Word),
    ("chassis", Word),
    ("slot", Word),
    ("max_ports", Word),
    ("disable-legacy", SWITCH),
    ("disable-modern", SWITCH),
    ("iommu_platform", SWITCH),
    ("ats", SWITCH),
    ("packed", SWITCH),
    ("mq", SWITCH),
    ("vectors", Word),
    ("num-queues", Word),
    ("queue-size", Word),
    ("rx_queue_size", Word),
    ("tx_queue_size", Word),
    ("romfile", OneOf(&[""])),
    ("rombar", Word),
    ("rng", Word),
    ("max-bytes", Word),
    ("period", Word),
    ("guid", Word),
    ("xres", Word),
    ("yres", Word),
    ("edid", SWITCH),
    ("max_outputs", Word),
    ("vgamem_mb", Word),
    ("audiodev", Word),
    ("iothread", Word),
    ("scsi", SWITCH),
    ("write-cache", SWITCH),
    ("logical_block_size", Word),
    ("physical_block_size", Word),
    ("discard_granularity", Word),
    ("share-rw", SWITCH),
    ("lun", Word),
    ("channel", Word),
    ("scsi-id", Word),
    ("wwn", Word),
    ("nsid", Word),
    ("removable", SWITCH),
    ("cad", Word),
    ("iobase", Word),
    ("irq", Word),
    ("index", Word),
    ("ports", Word),
];

/// Devices of the guest that reach nothing of the host except what other options give them. Left out on
/// purpose: `vfio-*`, `vhost-*` and `usb-host` (devices of the host), `usb-mtp` (a folder), `loader` (a
/// file), `ivshmem-*` (other processes).
const DEVICES: &[Kind] = &[Kind {
    names: &[
        "virtio-rng-pci",
        "virtio-rng-device",
        "virtio-rng-ccw",
        "virtio-blk-pci",
        "virtio-blk-device",
        "virtio-blk-ccw",
        "virtio-scsi-pci",
        "virtio-scsi-device",
        "scsi-hd",
        "scsi-cd",
        "ide-hd",
        "ide-cd",
        "nvme",
        "nvme-ns",
        "ahci",
        "ich9-ahci",
        "usb-storage",
        "virtio-net-pci",
        "virtio-net-device",
        "virtio-net-ccw",
        "e1000",
        "e1000e",
        "rtl8139",
        "virtio-serial-pci",
        "virtio-serial-device",
        "virtio-serial-ccw",
        "virtserialport",
        "virtio-keyboard",
        "virtio-keyboard-pci",
        "virtio-keyboard-device",
        "virtio-tablet-pci",
        "virtio-mouse-pci",
        "usb-tablet",
        "usb-kbd",
        "usb-mouse",
        "usb-hub",
        "qemu-xhci",
        "nec-usb-xhci",
        "usb-ehci",
        "piix3-usb-uhci",
        "ich9-usb-ehci1",
        "ich9-usb-uhci1",
        "ich9-usb-uhci2",
        "ich9-usb-uhci3",
        "virtio-gpu-pci",
        "virtio-gpu",
        "virtio-gpu-device",
        "virtio-vga",
        "VGA",
        "bochs-display",
        "ramfb",
        "intel-hda",
        "ich9-intel-hda",
        "hda-duplex",
        "hda-output",
        "hda-micro",
        "AC97",
        "vmgenid",
        "pvpanic",
        "pvpanic-pci",
        "i6300esb",
        "ib700",
        "isa-debug-exit",
        "pcie-root-port",
        "pci-bridge",
        "pcie-pci-bridge",
        "intel-iommu",
        "virtio-iommu-pci",
    ],
    keys: COMMON,
}];
