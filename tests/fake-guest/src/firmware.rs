//! What stands on the line before there is a guest to speak: the firmware's and the kernel's own lines.

/// SeaBIOS and iPXE on a serial line.
pub const SEABIOS: &str = "\x1bc\x1b[?7l\x1b[2J\x1b[0mSeaBIOS (version 1.16.3-debian-1.16.3-2)\r\n\r\n\r\n\
    iPXE (https://ipxe.org) 00:03.0 CA00 PCI2.10 PnP PMM+3EFD0F10+3EF30F10 CA00\r\n\
    Press Ctrl-B to configure iPXE (PCI 00:03.0)...\r                                                   \
    \r\n\r\n\r\nBooting from ROM...\r\n";

/// The kernel's messages until it starts init, with their time stamps.
pub fn kernel_lines(append: &str) -> Vec<(f64, String)> {
    [
        (0.0, "Linux version 6.1.63 (nixbld@localhost) (gcc (GCC) 12.3.0, GNU ld (GNU Binutils) 2.40) #1-NixOS SMP"),
        (0.0, "Command line: "),
        (0.0, "BIOS-provided physical RAM map:"),
        (0.0, "BIOS-e820: [mem 0x0000000000000000-0x000000000009fbff] usable"),
        (0.0, "NX (Execute Disable) protection: active"),
        (0.012, "DMI: QEMU Standard PC (i440FX + PIIX, 1996), BIOS 1.16.3-debian-1.16.3-2 04/01/2014"),
        (0.044117, "Kernel command line: "),
        (0.171205, "printk: console [ttyS0] enabled"),
        (0.402113, "smp: Brought up 1 node, 1 CPU"),
        (0.611908, "Serial: 8250/16550 driver, 4 ports, IRQ sharing enabled"),
        (0.850441, "virtio_blk virtio1: [vda] 2097152 512-byte logical blocks (1.07 GB/1.00 GiB)"),
        (1.000733, "Run /init as init process"),
    ]
    .into_iter()
    .map(|(stamp, text)| {
        (stamp, if text.ends_with("line: ") { format!("{text}{append}") } else { text.to_owned() })
    })
    .collect()
}

/// What a kernel prints when it panics.
pub fn panic_lines(reason: &str) -> Vec<String> {
    vec![
        format!("Kernel panic - not syncing: {reason}"),
        "CPU: 0 PID: 871 Comm: bash Not tainted 6.1.63 #1-NixOS".into(),
        "Hardware name: QEMU Standard PC (i440FX + PIIX, 1996), BIOS 1.16.3-debian-1.16.3-2 04/01/2014".into(),
        "Call Trace:".into(),
        " <TASK>".into(),
        " dump_stack_lvl+0x44/0x5c".into(),
        " panic+0x118/0x2ed".into(),
        " </TASK>".into(),
        "Kernel Offset: 0x2c000000 from 0xffffffff81000000 (relocation range: 0xffffffff80000000-0xffffffffbfffffff)"
            .into(),
        format!("---[ end Kernel panic - not syncing: {reason} ]---"),
    ]
}
