//! Which options let a machine reach other machines, or use something that only one machine can have. Two
//! scenarios with such machines would receive each other's frames, so they run one after another, and their
//! machines are never clones.

use serde_json::Value;

use super::cards::is_our_backend;
use super::template::Properties;

/// Networks that end in QEMU itself. Every other kind leads to a socket, a device or a process of the host,
/// and so to other machines.
const OWN_NETWORKS: [&str; 4] = ["user", "hubport", "none", "nic"];

/// Devices that two machines can't both have: a vsock number (CID), shared memory, or a shared bus.
const SHARED_DEVICES: [&str; 4] = ["vhost-vsock", "ivshmem", "vhost-user-net", "vhost-vdpa"];

/// Returns why the machine of this command reaches others, or `None` if it does not.
pub(super) fn in_command(arguments: &[String]) -> Option<String> {
    arguments.windows(2).find_map(|pair| {
        let [option, value] = pair else { return None };
        in_option(option.strip_prefix("--").or(option.strip_prefix('-'))?, value)
    })
}

/// Does the same for a run script's text, as far as the options appear in it.
pub(super) fn in_text(text: &str) -> Option<String> {
    let plain = text.replace("\\\n", " ").replace(['"', '\'', '\\'], "");
    let words: Vec<String> = plain.split_whitespace().map(str::to_owned).collect();
    in_command(&words)
}

/// Returns why an option lets a machine reach others.
fn in_option(option: &str, value: &str) -> Option<String> {
    let reaches = |what: &str| Some(format!("-{option} {value}: {what}"));
    match option {
        "netdev" | "nic" | "net" => {
            let kind = kind_of(value, "type")?;
            let known = OWN_NETWORKS.contains(&kind.as_str()) || is_our_backend(value);
            if known { None } else { reaches("its network leads to other machines") }
        }
        "device" => {
            let kind = kind_of(value, "driver")?;
            let shared = SHARED_DEVICES.iter().any(|its| kind.starts_with(its));
            if shared { reaches("it shares a device with other machines") } else { None }
        }
        "chardev" => {
            let kind = kind_of(value, "backend")?;
            let to = Properties::parse(value);
            let leads =
                kind == "udp" || (kind == "socket" && to.get("port").is_some() && !to.is_on("server"));
            if leads { reaches("it is connected to another process") } else { None }
        }
        "readconfig" => reaches("its options are in a file"),
        _ => None,
    }
}

/// Returns the kind of an option's value: its first word, or the last value of `key`, also in JSON.
pub(super) fn kind_of(value: &str, key: &'static str) -> Option<String> {
    let plain = match value.trim_start().starts_with('{') {
        true => match serde_json::from_str::<Value>(value) {
            Ok(value) => return value[key].as_str().map(str::to_owned),
            // Its quotes were removed together with the shell's.
            Err(_) => value.trim_matches(['{', '}']).replace(':', "="),
        },
        false => value.to_owned(),
    };
    let properties = Properties::parse(&plain);
    let kinds = properties.pairs(Some(key)).filter(|(its, _)| *its == key);
    kinds.last().and_then(|(_, kind)| kind).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Option<String> {
        in_command(&text.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn cards_that_lead_to_other_machines_are_named_however_they_are_written() {
        for kind in [
            "socket,id=n,mcast=230.0.0.1:1234",
            "socket,mcast=230.0.0.1:1234",
            "type=socket,id=n,listen=:1",
            "id=n,type=socket,connect=1.2.3.4:1",
            "user,id=n,type=tap",
            "tap,id=n,ifname=tap0,script=no",
            "tap,id=n,fd=5",
            "tap",
            "bridge,id=n,br=br0",
            "vde,id=n,sock=/tmp/vde",
            "dgram,id=n,remote.type=inet",
            "stream,id=n,server=off",
            "l2tpv3,id=n,src=1.1.1.1",
            "vhost-user,id=n,chardev=c",
            "vhost-vdpa,id=n,vhostdev=/dev/vhost-vdpa-0",
            "passt,id=n",
            "netmap,id=n,ifname=eth0",
            "af-xdp,id=n,ifname=eth0",
            "one-that-is-invented-later,id=n",
            r#"{"type":"socket","id":"n","mcast":"230.0.0.1:1234"}"#,
        ] {
            for option in ["-netdev", "-nic", "-net", "--netdev"] {
                let text = format!("-m 64 {option} {kind} -nographic");
                assert!(of(&text).is_some(), "{text}");
                let script = format!("exec qemu-system-x86_64 -m 64 \\\n    {option} '{kind}' \\\n  \"$@\"");
                assert!(in_text(&script).is_some(), "{script}");
            }
        }
        for text in [
            "-device vhost-vsock-pci,guest-cid=3",
            "-device ivshmem-plain,memdev=m",
            "-device driver=vhost-vsock-pci,guest-cid=3",
            r#"-device {"driver":"vhost-vsock-pci","guest-cid":3}"#,
            "-chardev udp,id=c,host=1.2.3.4,port=1",
            "-chardev socket,id=c,host=1.2.3.4,port=1",
            "-readconfig /tmp/x",
        ] {
            assert!(of(text).is_some(), "{text}");
        }
    }

    #[test]
    fn a_machine_of_its_own_reaches_none() {
        for text in [
            "-net nic,netdev=user.0,model=virtio -netdev user,id=user.0,",
            "-netdev user,id=n,hostfwd=tcp::2222-:22",
            "-netdev hubport,id=h,hubid=0",
            "-nic none",
            "-nic user,model=virtio",
            "-nic model=virtio",
            "-netdev dgram,id=nixvm-vlan1,local.type=fd,local.str=12",
            "-net none",
            "-device virtio-net-pci,netdev=n -device vhost-user-fs-pci,chardev=c,tag=t",
            "-chardev socket,id=c,fd=3 -chardev socket,id=c,path=/x,server=on",
            r#"-netdev {"type":"user","id":"n"}"#,
        ] {
            assert_eq!(of(text), None, "{text}");
            assert_eq!(in_text(text), None, "{text}");
        }
    }
}
