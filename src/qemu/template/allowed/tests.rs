use proptest::prelude::*;

use super::*;

/// A command as nixpkgs writes it (26.11, with a store image and no shared folders), with this program's
/// options, under Debian's QEMU.
const NIXPKGS: &str = "-machine accel=kvm:tcg -cpu max -name nixos -m 1024 -smp 1 -device virtio-rng-pci \
    -net nic,netdev=user.0,model=virtio -netdev user,id=user.0, \
    -drive cache=writeback,file=/var/tmp/nixvm-0/ab.1/disk.qcow2,id=drive1,if=none,index=1,werror=report \
    -device virtio-blk-pci,bootindex=1,drive=drive1,serial=root \
    -drive file=/var/tmp/nixvm-0/ab.1/tmp/store.img,format=raw,id=drive2,if=none,index=2 \
    -device virtio-blk-pci,bootindex=2,drive=drive2 -device virtio-keyboard -usb -device usb-tablet,bus=usb-bus.0 \
    -kernel /nix/store/x-linux/bzImage -initrd /nix/store/x-initrd/initrd \
    -append loglevel=4|init=/nix/store/x-nixos/init|regInfo=/nix/store/x-info/registration|console=ttyS0,115200n8|$(x) \
    -nographic -machine accel=tcg -cpu max -m 2048 -smp 2 -display none \
    -chardev socket,id=nixvm-console,fd=12 -serial chardev:nixvm-console -chardev socket,id=nixvm-control,fd=14 \
    -mon chardev=nixvm-control,mode=control -device virtio-serial-pci,id=nixvm-serial \
    -chardev socket,id=nixvm-channel,fd=15 \
    -device virtserialport,id=nixvm-channel,bus=nixvm-serial.0,chardev=nixvm-channel,name=nixvm \
    -object memory-backend-file,id=nixvm-memory,size=1024M,mem-path=/root/.cache/nixvm-test/templates/ab/memory,share=off,readonly=on,rom=off \
    -machine memory-backend=nixvm-memory -device vmgenid,guid=auto -S -incoming defer -S -incoming defer";

/// More options that configurations have: EFI, a second disk, forwarded ports, graphics, a watchdog.
const MORE: &str = "-enable-kvm -cpu host -vga std -device virtio-gpu-pci -device i6300esb -watchdog-action reset \
    -drive if=pflash,format=raw,unit=0,readonly=on,file=/nix/store/x-OVMF-fd/FV/OVMF_CODE.fd \
    -netdev dgram,id=nixvm-vlan1,local.type=fd,local.str=9 -device virtio-net-pci,netdev=nixvm-vlan1,id=nixvm-card1,mac=52:54:00:12:01:01,ctrl_vlan=off \
    -fw_cfg name=opt/org.nixvm-test/network,string=name=a;card=52:54:00:12:01:01/eth1/192.168.1.1/2001:db8:1::1 \
    -netdev user,id=n1,net=10.0.3.0/24,restrict=on,hostfwd=tcp::2222-:22,hostfwd=udp:127.0.0.1:5353-10.0.3.15:53 \
    -device virtio-net-pci,netdev=n1,mac=52:54:00:12:34:56,romfile= -rtc base=utc,clock=host -boot order=c,menu=off \
    -audiodev none,id=a -device intel-hda -device hda-duplex,audiodev=a -object rng-random,id=r,filename=/dev/urandom \
    -device virtio-rng-pci,rng=r -smbios type=1,manufacturer=x,serial=1 -global ICH9-LPC.disable_s3=1 -no-reboot \
    -accel tcg,thread=multi -fw_cfg name=opt/a.b/c,string=x -monitor none -parallel none -uuid 1-2 -name guest=a,debug-threads=on \
    -device pcie-root-port,id=p,port=1,chassis=1 -nic none -net none -m size=512M,slots=2,maxmem=1G -smp cpus=2,cores=2";

/// Makes a command of these arguments. `|` stands for a blank within an argument.
fn command(text: &str) -> CommandLine {
    let arguments = text.split_whitespace().map(|word| word.replace('|', " ")).collect();
    CommandLine { program: "/usr/bin/qemu-system-x86_64".into(), arguments }
}

/// Returns the indexes of the drives that a moment has images of.
fn own(command: &CommandLine) -> Vec<usize> {
    let places = command.arguments.iter().enumerate();
    places.filter(|(_, argument)| argument.contains("/var/tmp/nixvm-0/ab.1/")).map(|(at, _)| at).collect()
}

fn refused_of(text: &str) -> Vec<String> {
    let command = command(text);
    refused(&command, &own(&command))
}

#[test]
fn the_commands_of_ordinary_machines_are_allowed() {
    assert_eq!(refused_of(NIXPKGS), [""; 0]);
    assert_eq!(refused_of(&format!("{NIXPKGS} {MORE}")), [""; 0]);
}

/// Options without which QEMU opens something by default. The refusal shows the last word of each.
const REQUIRED: [&str; 5] = [
    "-display none",
    "-mon chardev=nixvm-control,mode=control",
    "-serial chardev:nixvm-console",
    "-chardev socket,id=nixvm-console,fd=12",
    "-chardev socket,id=nixvm-control,fd=14",
];

#[test]
fn what_keeps_qemus_own_doors_shut_is_there_once() {
    for required in REQUIRED {
        assert!(NIXPKGS.contains(required), "{required}");
        let without = NIXPKGS.replace(required, "");
        assert!(!refused_of(&without).is_empty(), "without {required}");
        if required != "-display none" {
            let refused = refused_of(&format!("{NIXPKGS} {required}"));
            assert!(!refused.is_empty(), "twice {required}");
        }
        // As the value of another option, it does not count for QEMU.
        let hidden = format!("{without} -append {}", required.replace(' ', "|").trim_start_matches('-'));
        assert!(!refused_of(&hidden).is_empty(), "hidden {required}");
    }
    for (instead, of) in [
        ("-display gtk", REQUIRED[0]),
        ("-display none,gl=on", REQUIRED[0]),
        ("-mon chardev=nixvm-control", REQUIRED[1]),
        ("-mon mode=control,chardev=nixvm-console", REQUIRED[1]),
        ("-mon chardev=nixvm-control,mode=readline", REQUIRED[1]),
        ("-mon chardev=nixvm-control,mode=control,mode=control", REQUIRED[1]),
        ("-serial null -serial chardev:nixvm-console", REQUIRED[2]),
        ("-serial none", REQUIRED[2]),
        ("-serial vc", REQUIRED[2]),
        ("-chardev null,id=nixvm-console", REQUIRED[3]),
        ("-chardev socket,id=nixvm-console,fd=3,id=x", REQUIRED[3]),
        ("-chardev socket,id=nixvm-control,id=nixvm-channel,fd=3", REQUIRED[4]),
        ("-chardev null,id=nixvm-control", REQUIRED[4]),
    ] {
        let text = NIXPKGS.replace(of, instead);
        assert_ne!(text, NIXPKGS);
        assert!(!refused_of(&text).is_empty(), "{instead}");
    }
    assert!(!refused_of("-m 64 -net none -S").is_empty());
    assert!(!refused_of("").is_empty());
}

/// Options that run commands, open files, reach other processes or open this host to others.
const HOSTILE: &[&str] = &[
    "-monitor exec:/tmp/x",
    "-monitor stdio",
    "-monitor unix:/tmp/s,server,nowait",
    "-monitor tcp::4444,server,nowait",
    "-qmp tcp::4444,server",
    "-mon chardev=nixvm-channel,mode=readline",
    "-mon chardev=nixvm-console",
    "-netdev dgram,id=n,local.type=fd,local.str=9",
    "-netdev dgram,id=nixvm-vlan1x,local.type=fd,local.str=9",
    "-netdev dgram,id=nixvm-vlan1,local.type=inet,local.host=1.2.3.4,local.port=1",
    "-netdev dgram,id=nixvm-vlan1,local.type=unix,local.path=/x",
    "-netdev dgram,id=nixvm-vlan1,local.type=fd,local.str=9,remote.type=unix,remote.path=/x",
    "-netdev tap,id=n,script=/tmp/x,downscript=/tmp/y",
    "-netdev type=tap,id=n,script=/tmp/x",
    "-netdev user,id=n,type=tap,script=/tmp/x",
    "-netdev {\"type\":\"tap\",\"id\":\"n\",\"script\":\"/tmp/x\"}",
    "-netdev bridge,id=n,helper=/tmp/x",
    "-netdev user,id=n,smb=/etc",
    "-netdev user,id=n,tftp=/etc,bootfile=shadow",
    "-netdev user,id=n,guestfwd=tcp:10.0.2.100:80-cmd:/tmp/x",
    "-netdev user,id=n,hostfwd=unix:/tmp/x-:22",
    "-netdev socket,id=n,mcast=230.0.0.1:1234",
    "-netdev socket,id=n,connect=10.0.0.1:22",
    "-netdev vde,id=n,sock=/tmp/x",
    "-net tap,script=/tmp/x",
    "-net user,smb=/etc",
    "-nic tap,script=/tmp/x",
    "-nic user,id=n,tftp=/etc",
    "-drive file=/etc/shadow,format=raw,readonly=on,if=none,id=d",
    "-drive file=/nix/store/../../etc/shadow,format=raw,readonly=on",
    "-drive file=/nix/store/x/disk,format=raw",
    "-drive file=/nix/store/x/disk,readonly=on",
    "-drive file=/nix/store/x/disk,format=raw,readonly=on,readonly=off",
    "-drive file=nbd://10.0.0.1/x,format=raw,readonly=on",
    "-drive file=ssh://root@10.0.0.1/x,format=raw,readonly=on",
    "-drive file=json:{\"driver\":\"file\",\"filename\":\"/etc/shadow\"},readonly=on,format=raw",
    "-drive file=fat:rw:/root,format=raw,readonly=on",
    "-drive driver=vvfat,dir=/root",
    "-drive file.driver=file,file.filename=/etc/shadow,format=raw,readonly=on",
    "-drive if=none,id=d,backing.file.filename=/etc/shadow",
    "-drive if=none,snapshot=on",
    "-blockdev driver=file,node-name=n,filename=/etc/shadow",
    "-hda /etc/shadow",
    "-cdrom /etc/shadow",
    "-pflash /etc/shadow",
    "-sd /etc/shadow",
    "/etc/shadow",
    "-kernel /etc/shadow",
    "-initrd /tmp/x",
    "-dtb /tmp/x",
    "-bios /tmp/x",
    "-option-rom /tmp/x",
    "-L /tmp",
    "-fw_cfg name=opt/x,file=/etc/shadow",
    "-fw_cfg opt/x,file=/etc/shadow",
    "-smbios file=/etc/shadow",
    "-acpitable file=/etc/shadow",
    "-chardev file,id=c,path=/root/.bashrc",
    "-chardev pipe,id=c,path=/tmp/x",
    "-chardev socket,id=c,path=/run/docker.sock",
    "-chardev socket,id=nixvm-console,path=/run/docker.sock",
    "-chardev socket,id=c,fd=3",
    "-chardev udp,id=c,host=10.0.0.1,port=1",
    "-chardev null,id=c,logfile=/root/.bashrc",
    "-chardev backend=file,id=c,path=/root/.bashrc",
    "-serial file:/root/.bashrc",
    "-serial pipe:/tmp/x",
    "-serial /dev/tty1",
    "-serial chardev:nixvm-control",
    "-parallel file:/root/.bashrc",
    "-debugcon file:/root/.bashrc",
    "-D /root/.bashrc",
    "-pidfile /root/.bashrc",
    "-trace enable=*,file=/root/.bashrc",
    "-readconfig /tmp/x",
    "-writeconfig /root/.bashrc",
    "-plugin /tmp/x.so",
    "-tpmdev emulator,id=t,chardev=c",
    "-tpmdev passthrough,id=t,path=/dev/tpm0",
    "-virtfs local,path=/,mount_tag=x,security_model=none",
    "-fsdev local,id=f,path=/,security_model=none",
    "-device virtio-9p-pci,fsdev=f,mount_tag=x",
    "-device vhost-user-fs-pci,chardev=c,tag=x",
    "-device vhost-vsock-pci,guest-cid=3",
    "-device vfio-pci,host=00:02.0",
    "-device usb-host,vendorid=1",
    "-device usb-mtp,rootdir=/root",
    "-device loader,file=/etc/shadow",
    "-device ivshmem-plain,memdev=m",
    "-device isa-debugcon,chardev=c",
    "-device virtio-net-pci,romfile=/etc/shadow",
    "-device virtio-rng-pci,driver=vfio-pci",
    "-device {\"driver\":\"usb-mtp\",\"rootdir\":\"/root\"}",
    "-device virtserialport,chardev=nixvm-control",
    "-device scsi-generic,drive=d",
    "-object memory-backend-file,id=m,size=1M,mem-path=/root/.bashrc,share=on",
    "-object memory-backend-file,id=nixvm-memory,size=1M,,prealloc=on,mem-path=/x,share=on",
    "-object secret,id=s,file=/etc/shadow",
    "-object rng-egd,id=r,chardev=c",
    "-object rng-random,id=r,filename=/etc/shadow",
    "-object filter-dump,id=f,netdev=user.0,file=/root/.bashrc",
    "-object qom-type=filter-dump,id=f,netdev=user.0,file=/root/.bashrc",
    "-object authz-list-file,id=a,filename=/etc/shadow",
    "-object input-linux,id=i,evdev=/dev/input/event0",
    "-object can-bus,id=c",
    "-incoming exec:/tmp/x",
    "-incoming tcp:0:4444",
    "-loadvm x",
    "-machine dumpdtb=/root/.bashrc",
    "-machine firmware=/etc/shadow",
    "-machine memory-backend=other",
    "-accel xen",
    "-global virtio-net-pci.romfile=/etc/shadow",
    "-global driver=virtio-net-pci,property=romfile,value=/etc/shadow",
    "-set drive.drive1.file=/etc/shadow",
    "-global ICH9-LPC.x=/etc/shadow",
    "-audiodev wav,id=a,path=/root/.bashrc",
    "-device hda-duplex",
    "-device hda-micro",
    "-device hda-output,id=s",
    "-device AC97",
    "-M musicpal",
    "-machine type=versatilepb",
    "-machine pc,pcspk-audiodev=a",
    "-machine pcx",
    "-netdev user,id=n,id=m",
    "-drive if=none,id=a,id=b",
    "-device virtio-rng-pci,id=a,id=b",
    "-display egl-headless,rendernode=/dev/dri/renderD128",
    "-vnc :0",
    "-spice port=5900,disable-ticketing=on",
    "-gdb tcp::1234",
    "-s",
    "-daemonize",
    "-runas guest",
    "-chroot /tmp",
    "-add-fd fd=3,set=1",
    "-iscsi initiator-name=x",
    "-snapshot",
    "-boot splash=/etc/shadow",
    "-append -monitor",
    "-name -drive",
    "-nographic=on",
    "-kernel",
];

#[test]
fn everything_that_reaches_the_host_is_named_and_refused() {
    for hostile in HOSTILE {
        // Before and after the options of an ordinary machine.
        for text in [format!("{hostile} {NIXPKGS}"), format!("{NIXPKGS} {hostile}")] {
            let refused = refused_of(&text);
            let first = hostile.split_whitespace().next().unwrap();
            assert!(refused.iter().any(|line| line.contains(first)), "{hostile}: {refused:?}");
        }
    }
    assert!(HOSTILE.len() >= 100);
}

#[test]
fn an_image_that_is_none_of_the_moments_lies_in_the_store() {
    let command = command(NIXPKGS);
    let all = own(&command);
    assert_eq!(all.len(), 2);
    for without in &all {
        let rest: Vec<_> = all.iter().copied().filter(|at| at != without).collect();
        assert_eq!(refused(&command, &rest).len(), 1);
    }
}

#[test]
fn a_link_that_leads_out_of_the_store_is_not_in_it() {
    assert!(!is_in_store(Path::new("/nix/store")));
    assert!(!is_in_store(Path::new("/nix/store/x/../../../etc/shadow")));
    assert!(!is_in_store(Path::new("/nix/storex/y")));
    assert!(is_in_store(Path::new("/nix/store/gone-linux/bzImage")), "that it is missing is said elsewhere");
}

/// Words that are in no table, and words of hostile options.
fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]{1,12}",
        "[!-~]{1,20}",
        Just("/etc/shadow".to_owned()),
        Just("file=/etc/shadow".to_owned())
    ]
}

proptest! {
    #[test]
    fn an_option_that_is_not_in_the_table_is_refused_wherever_it_stands(name in word(), value in word(), at in 0usize..60) {
        prop_assume!(!OPTIONS.iter().any(|(its, _)| *its == name.trim_start_matches('-')) && !value.starts_with('-'));
        let mut command = command(NIXPKGS);
        // Inserted between two options, since the command is read in pairs.
        let places: Vec<usize> = (0..command.arguments.len()).filter(|at| command.arguments[*at].starts_with('-')).collect();
        let at = places[at % places.len()];
        command.arguments.splice(at..at, [format!("-{name}"), value]);
        let own = own(&command);
        prop_assert!(!refused(&command, &own).is_empty());
    }

    #[test]
    fn a_key_that_is_not_in_the_table_is_refused_in_every_option(key in "[a-z][a-z0-9.-]{0,12}", value in word(), at in 0usize..60) {
        let known = NIXPKGS.contains(&key) || MORE.contains(&key)
            || OPTIONS.iter().any(|(_, follows)| format!("{follows:?}").contains(&format!("\"{key}\"")));
        prop_assume!(!known);
        let mut command = command(&format!("{NIXPKGS} {MORE}"));
        let places: Vec<usize> = (1..command.arguments.len())
            .filter(|at| {
                let (option, value) = (&command.arguments[at - 1], &command.arguments[*at]);
                option.starts_with('-') && !value.starts_with('-') && !matches!(option.as_str(), "-append" | "-cpu")
            })
            .collect();
        let at = places[at % places.len()];
        command.arguments[at] += &format!(",{key}={}", value.replace(',', ",,"));
        let own = own(&command);
        prop_assert_eq!(refused(&command, &own).len(), 1, "{}", &command.arguments[at]);
    }

    #[test]
    fn a_path_outside_of_the_store_is_refused_as_every_value(path in "/(etc|home|tmp|dev|proc)/[a-z]{1,8}", at in 0usize..200) {
        let mut command = command(&format!("{NIXPKGS} {MORE}"));
        let places: Vec<(usize, String)> = command.arguments.iter().enumerate()
            .filter(|(at, _)| *at > 0 && !matches!(command.arguments[at - 1].as_str(), "-append"))
            .flat_map(|(at, value)| value.match_indices('=').map(|(place, _)| (at, value[..=place].to_owned())).collect::<Vec<_>>())
            // A path that is replaced may name anything.
            .filter(|(_, before)| !before.ends_with("mem-path=") && !before.ends_with("file="))
            .collect();
        let (at, before) = &places[at % places.len()];
        command.arguments[*at] = format!("{before}{path}");
        let own = own(&command);
        prop_assert!(!refused(&command, &own).is_empty(), "{}", &command.arguments[*at]);
    }
}
