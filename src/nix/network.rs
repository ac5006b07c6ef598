//! The module for the machines of a scenario with networks: it takes names and addresses from what QEMU passes.

use super::additions::has_words;

/// A module for the VM variant of a configuration; see its own comment.
pub(super) const MODULE: &str = include_str!("network.nix");

/// The words by which errors about what the module sets are known.
const ITS_WORDS: [&str; 2] = ["nixvm-network", "nixvm-test/network.json"];

/// Returns whether the module may be the only cause of Nix's error.
pub(super) fn is_about_network(said: &str) -> bool {
    has_words(said, &ITS_WORDS)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;
    use std::process::{Command, Output};

    use super::super::commands;
    use super::super::store::Store;
    use super::*;

    /// Evaluates `wanted`, a function of a configuration, for each of `configurations` on the stand-in.
    fn evaluated<T: serde::de::DeserializeOwned>(wanted: &str, configurations: &[&str]) -> Vec<T> {
        let nixos = Path::new(env!("CARGO_MANIFEST_DIR")).join("standin/nixpkgs/nixos/evaluate.nix");
        let mut command = Command::new("nix-instantiate");
        command.args(["--eval", "--strict", "--json", "--readonly-mode", "--expr"]);
        // Scripts are their own texts.
        let scripts = "{ nixpkgs.overlays = [ (final: prev: { writeShellScript = name: text: text; }) ]; }";
        let configurations: String = configurations
            .iter()
            .map(|configuration| format!("({{ lib, ... }}: {configuration}) "))
            .collect();
        command.arg(format!(
            "let of = configuration: (import {} {{ modules = [ configuration {scripts} {{ virtualisation.vmVariant = {MODULE}; }} ]; }})\
             .config.virtualisation.vmVariant; in map (configuration: ({wanted}) (of configuration)) [ {configurations}]",
            nixos.display()
        ));
        let output = commands::finish(command, Store::find().unwrap(), true).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The script of the activation, and that of the unit. Their texts stand where their paths would.
    const SCRIPTS: &str = "config: [ config.system.activationScripts.nixvm-network.text \
                           config.systemd.services.nixvm-network.serviceConfig.ExecStart ]";

    #[test]
    fn the_system_tells_which_networks_its_configuration_asks_for() {
        let text = r#"config: config.environment.etc."nixvm-test/network.json".text"#;
        let told: Vec<String> = evaluated(
            text,
            &[
                "{ }",
                r#"{ networking.hostName = "web"; networking.domain = "example.org"; networking.enableIPv6 = false; virtualisation.vmVariant.virtualisation.vlans = [ 2 1 ]; }"#,
                "{ virtualisation.vlans = [ ]; }",
                r#"{ networking.hostName = lib.mkDefault "nixos"; virtualisation.interfaces = { b.vlan = 3; a = { vlan = 4; assignIP = true; }; }; }"#,
            ],
        );
        let expected = [
            r#"{"cards":[{"assignIP":true,"name":"eth1","vlan":1}],"domain":null,"hostName":null,"ipv6":true,"version":1}"#,
            r#"{"cards":[{"assignIP":true,"name":"eth1","vlan":2},{"assignIP":true,"name":"eth2","vlan":1}],"domain":"example.org","hostName":"web","ipv6":false,"version":1}"#,
            r#"{"cards":[],"domain":null,"hostName":null,"ipv6":true,"version":1}"#,
            r#"{"cards":[{"assignIP":true,"name":"a","vlan":4},{"assignIP":false,"name":"b","vlan":3}],"domain":null,"hostName":"nixos","ipv6":true,"version":1}"#,
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn a_configuration_that_forces_the_addresses_of_a_card_has_its_own_alone() {
        let own = r#"[ { address = "10.0.0.1"; prefixLength = 24; } ]"#;
        let eth1 = "networking.interfaces.eth1";
        let cases: Vec<(String, &str, &str)> = vec![
            ("{ }".into(), " ", " "),
            (format!("{{ {eth1}.ipv4.addresses = {own}; }}"), " ", " "),
            (format!("{{ {eth1}.ipv4.addresses = lib.mkForce [ ]; }}"), " eth1 ", " "),
            (format!("{{ {eth1}.ipv4.addresses = lib.mkOverride 0 {own}; }}"), " eth1 ", " "),
            (format!("{{ {eth1}.ipv4 = lib.mkForce {{ addresses = {own}; }}; }}"), " eth1 ", " "),
            (format!("{{ {eth1} = lib.mkForce {{ useDHCP = true; }}; }}"), " eth1 ", " eth1 "),
            (
                format!(
                    "lib.mkMerge [ {{ {eth1} = lib.mkIf true {{ ipv6.addresses = lib.mkVMOverride [ ]; }}; }} ]"
                ),
                " ",
                " eth1 ",
            ),
            (format!("{{ {eth1} = lib.mkIf false {{ ipv4.addresses = lib.mkForce [ ]; }}; }}"), " ", " "),
            (format!("{{ {eth1}.ipv4.addresses = lib.mkIf false (lib.mkForce [ ]); }}"), " ", " "),
            (format!("{{ {eth1}.ipv4.addresses = lib.mkDefault {own}; }}"), " ", " "),
            (
                format!("{{ virtualisation.vmVariant.{eth1}.ipv4.addresses = lib.mkForce [ ]; }}"),
                " eth1 ",
                " ",
            ),
            ("{ networking.enableIPv6 = false; }".into(), " ", " * "),
            ("{ networking.interfaces = lib.mkForce { eth2 = { }; }; }".into(), " * ", " * "),
        ];
        let configurations: Vec<&str> =
            cases.iter().map(|(configuration, ..)| configuration.as_str()).collect();
        let scripts: Vec<[String; 2]> = evaluated(SCRIPTS, &configurations);
        // A switch between two of them does not restart the unit.
        assert!(scripts.iter().all(|[_, unit]| *unit == scripts[0][1]));
        for ((configuration, four, six), [script, _]) in cases.iter().zip(scripts) {
            for (family, expected) in [(4, four), (6, six)] {
                let start = format!("taken{family}=");
                let line = script.lines().find_map(|line| line.trim().strip_prefix(&start)).unwrap();
                let names: Vec<&str> = line.trim_matches('\'').split_whitespace().collect();
                let expected: Vec<&str> = expected.split_whitespace().collect();
                assert_eq!(names, expected, "IPv{family}: {configuration}");
            }
        }
    }

    /// A machine in a folder: its /run, /sys and /proc.
    struct Fake {
        folder: tempfile::TempDir,
    }

    impl Fake {
        fn new(configuration: &str) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let root = folder.path().display().to_string();
            let [read, up]: [String; 2] = evaluated(SCRIPTS, &[configuration]).remove(0);
            // "/proc/sys/" has another path in it.
            let adapted = |text: &str| {
                let text = text.replace("/proc/sys/", "@proc@");
                let text = ["/run/", "/sys/", " /etc/"].iter().fold(text, |text, path| {
                    let there = path.trim_start();
                    text.replace(path, &path.replace(there, &format!("{root}{there}")))
                });
                text.replace("@proc@", &format!("{root}/proc/sys/"))
                    .replace("modprobe -q", "true")
                    .replace("PATH=", &format!("PATH={root}/bin:$PATH:"))
                    .replace("sys=/sys\n", &format!("sys={root}/sys\n"))
                    .replace("!= /sys ]", &format!("!= {root}/sys ]"))
            };
            let read = read.replace(&up, &format!("bash {root}/up"));
            let read = read.replace(r#" "$systemConfig" || true"#, "");
            for path in [
                "bin",
                "sys/firmware/qemu_fw_cfg/by_name/opt/org.nixvm-test/network",
                "proc/sys/kernel",
                "etc",
                "system/etc",
            ] {
                std::fs::create_dir_all(folder.path().join(path)).unwrap();
            }
            for (name, text) in [
                ("ip", "#!/bin/sh\necho \"ip $*\"\ncase \"$*\" in *-batch*) cat ;; esac\n"),
                ("udevadm", "#!/bin/sh\n"),
            ] {
                let program = folder.path().join("bin").join(name);
                std::fs::write(&program, text).unwrap();
                std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
            }
            let machine = Self { folder };
            machine.write("read", adapted(&read));
            machine.write("up", adapted(&up));
            machine.write("system/etc/hosts", "own-hosts\n");
            machine.write("etc/hosts", "own-hosts\n");
            machine.write("etc/hostname", "nixos\n");
            machine
        }

        fn run(&self, script: &str) -> Output {
            let root = self.folder.path();
            let mut command = Command::new("bash");
            command.arg(root.join(script));
            if script == "read" {
                command.arg(root.join("system"));
            }
            command.output().unwrap()
        }

        /// Reads `text`, and returns what the script said.
        fn read(&self, text: &[u8]) -> String {
            self.write("sys/firmware/qemu_fw_cfg/by_name/opt/org.nixvm-test/network/raw", text);
            let output = self.run("read");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8_lossy(&output.stderr).into_owned()
        }

        fn write(&self, path: &str, text: impl AsRef<[u8]>) {
            let path = self.folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }

        fn file(&self, path: &str) -> String {
            std::fs::read_to_string(self.folder.path().join(path))
                .unwrap_or_else(|error| format!("{path}: {error}"))
        }
    }

    const TEXT: &[u8] =
        b"name=client;card=52:54:00:12:01:01/eth1/192.168.1.1/2001:db8:1::1;card=52:54:00:12:02:01/lan0//;away=192.168.7.0/24;away=2001:db8:7::/64;\
        host=192.168.1.1/client;host=2001:db8:1::2/server/server.example.org";

    #[test]
    fn a_machine_takes_its_name_its_cards_and_its_hosts_from_what_qemu_passes() {
        let machine = Fake::new("{ }");
        assert_eq!(machine.read(TEXT), "");
        assert_eq!(
            machine.file("etc/hosts"),
            "own-hosts\n127.0.0.2 client\n::1 client\n192.168.1.1 client\n2001:db8:1::2 server server.example.org\n"
        );
        assert_eq!(machine.file("etc/hostname"), "client\n");
        assert_eq!(machine.file("proc/sys/kernel/hostname"), "client\n");
        assert_eq!(
            machine.file("run/nixvm-test/cards"),
            "52:54:00:12:01:01 eth1 192.168.1.1 2001:db8:1::1\n52:54:00:12:02:01 lan0 - -\n"
        );
        let rules = machine.file("run/udev/rules.d/70-nixvm-network.rules");
        assert!(rules.contains(r#"ATTR{address}=="52:54:00:12:02:01", NAME="lan0""#), "{rules}");
        assert_eq!(
            machine.file("run/systemd/network/40-eth1.network.d/nixvm-network.conf"),
            "[Network]\nDHCP=no\n[Network]\nConfigureWithoutCarrier=yes\nIgnoreCarrierLoss=yes\n[Address]\nAddress=192.168.1.1/24\n[Address]\nAddress=2001:db8:1::1/64\n\
             DuplicateAddressDetection=none\n"
        );
        assert!(!machine.folder.path().join("run/systemd/network/40-lan0.network").exists());

        // The cards are there, one with another name, and one with the address that its configuration gave it.
        machine.write("sys/class/net/eth7/address", "52:54:00:12:01:01\n");
        machine.write("sys/class/net/eth7/device", "");
        machine.write("sys/class/net/lan0/address", "52:54:00:12:02:01\n");
        machine.write("sys/class/net/lan0/device", "");
        machine.write("sys/class/net/ens3/address", "52:54:00:12:34:56\n");
        machine.write("sys/class/net/ens3/device", "");
        machine.write("sys/class/net/lo/address", "00:00:00:00:00:00\n");
        for each in ["eth1", "all"] {
            machine.write(&format!("proc/sys/net/ipv6/conf/{each}/disable_ipv6"), "0\n");
        }
        let output = machine.run("up");
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(
            said,
            "ip link set dev eth7 down\nip link set dev eth7 name eth1\nip -force -batch -\n\
             rule add to 192.168.7.0/24 protocol kernel pref 32763 lookup main suppress_prefixlength 0\n\
             rule add to 192.168.7.0/24 protocol kernel pref 32764 lookup main suppress_ifgroup 28280\n\
             rule add to 192.168.7.0/24 protocol kernel pref 32765 unreachable\n\
             ip -6 -force -batch -\n\
             rule add to 2001:db8:7::/64 protocol kernel pref 32763 lookup main suppress_prefixlength 0\n\
             rule add to 2001:db8:7::/64 protocol kernel pref 32764 lookup main suppress_ifgroup 28280\n\
             rule add to 2001:db8:7::/64 protocol kernel pref 32765 unreachable\n\
             ip -force -batch -\nlink set dev eth1 up\n\
             address replace 192.168.1.1/24 brd + dev eth1\naddress replace 2001:db8:1::1/64 dev eth1 nodad\n"
        );
        assert!(output.status.success());
        // Cards that are none of the scenario's are told from its own.
        assert!(rules.contains(
            r#"ATTR{address}!="52:54:00:12:01:01", ATTR{address}!="52:54:00:12:02:01", ATTR{netdev_group}="28280""#
        ));
        assert_eq!(machine.file("sys/class/net/ens3/netdev_group"), "28280\n");
        for own in ["lan0", "lo"] {
            assert!(
                !machine.folder.path().join(format!("sys/class/net/{own}/netdev_group")).exists(),
                "{own}"
            );
        }
        // The rules are there once.
        let again = machine.run("up");
        assert!(!String::from_utf8_lossy(&again.stdout).contains("rule add"));
    }

    #[test]
    fn a_configuration_that_says_its_name_keeps_it() {
        let machine = Fake::new(r#"{ networking.hostName = "web"; }"#);
        assert_eq!(machine.read(TEXT), "");
        assert!(machine.file("etc/hosts").starts_with("own-hosts\n192.168.1.1 client\n"));
        assert_eq!(machine.file("etc/hostname"), "nixos\n");
        assert!(!machine.folder.path().join("proc/sys/kernel/hostname").exists());
    }

    #[test]
    fn the_name_that_nixos_gives_is_not_a_name_of_a_machine_that_is_called_otherwise() {
        let own = "127.0.0.1 localhost\n::1 localhost\n127.0.0.2 nixos.example.org nixos\n::1 nixos.example.org nixos\n\
                   10.0.0.1 nixos\n";
        let text = b"name=client;host=192.168.1.2/nixos";
        let machine = Fake::new(r#"{ networking.domain = "example.org"; }"#);
        machine.write("system/etc/hosts", own);
        assert_eq!(machine.read(text), "");
        assert_eq!(
            machine.file("etc/hosts"),
            "127.0.0.1 localhost\n::1 localhost\n10.0.0.1 nixos\n127.0.0.2 client.example.org client\n\
             ::1 client.example.org client\n192.168.1.2 nixos\n"
        );
        // NixOS puts the names of one address on one line.
        let machine = Fake::new("{ }");
        machine.write("system/etc/hosts", "::1 six nixos\n127.0.0.2 nixos two\n");
        machine.read(text);
        assert!(machine.file("etc/hosts").starts_with("::1 six\n127.0.0.2 two\n127.0.0.2 client\n"));
        let named = Fake::new(r#"{ networking.hostName = "nixos"; }"#);
        named.write("system/etc/hosts", own);
        named.read(text);
        assert!(named.file("etc/hosts").starts_with(own));
    }

    #[test]
    fn a_last_line_of_the_configuration_s_hosts_without_an_end_stays_a_line() {
        for (configuration, next) in
            [("{ }", "127.0.0.2 client"), (r#"{ networking.hostName = "web"; }"#, "192.168.1.1 client")]
        {
            let machine = Fake::new(configuration);
            machine.write("system/etc/hosts", "127.0.0.1 localhost\n10.0.0.1 other");
            assert_eq!(machine.read(TEXT), "");
            let hosts = machine.file("etc/hosts");
            assert!(hosts.starts_with(&format!("127.0.0.1 localhost\n10.0.0.1 other\n{next}\n")), "{hosts}");
        }
    }

    #[test]
    fn a_machine_without_a_text_is_as_its_configuration_has_it() {
        let machine = Fake::new("{ }");
        let output = machine.run("read");
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        assert_eq!(machine.file("etc/hosts"), "own-hosts\n");
        assert_eq!(machine.file("etc/hostname"), "nixos\n");
        assert_eq!(machine.file("run/nixvm-test/cards"), "");
        assert_eq!(machine.file("run/udev/rules.d/70-nixvm-network.rules"), "");
        let unit = Fake::new("{ }");
        unit.read(b"");
        assert!(unit.run("up").status.success(), "there is nothing to wait for");
        // A text that can't be read any more is the one of before: a clone may lack the entry.
        machine.read(TEXT);
        std::fs::remove_dir_all(machine.folder.path().join("sys/firmware/qemu_fw_cfg")).unwrap();
        assert!(machine.run("read").status.success());
        assert_eq!(machine.file("etc/hostname"), "client\n");
    }

    #[test]
    fn what_qemu_passes_is_not_trusted() {
        let machine = Fake::new("{ }");
        let hostile: [&[u8]; 16] = [
            b"name=$(touch pwned)",
            b"name=-x",
            b"name=a b",
            b"name=a/../b",
            b"card=52:54:00:12:01:01/../1.2.3.4/::1",
            b"card=52:54:00:12:01:01/eth1; reboot/1.2.3.4/",
            b"card=52:54:00:13:01:01/eth1/192.168.1.1/",
            b"card=52:54:00:12:01:01/eth1/192.168.1.1",
            b"card=52:54:00:12:01:01/a-name-that-is-too-long/192.168.1.1/",
            b"card=52:54:00:12:01:01/eth1\"/192.168.1.1/",
            b"host=192.168.1.1",
            b"host=192.168.1.1/",
            b"host=192.168.1.1/a b",
            b"host=`id`/a",
            b"hello",
            b"=",
        ];
        for text in hostile {
            let said = machine.read(text);
            assert!(said.contains("an entry from QEMU is not understood"), "{said}");
            assert_eq!(machine.file("etc/hosts"), "own-hosts\n");
            assert_eq!(machine.file("etc/hostname"), "nixos\n");
            assert_eq!(machine.file("run/nixvm-test/cards"), "");
        }
        // Bytes that are no text are left out, and good entries are taken.
        machine.read(b"\0\xff\n;;name=cli\x1bent;x");
        assert_eq!(machine.file("etc/hostname"), "client\n");
    }

    #[test]
    fn a_machine_knows_all_of_254_others() {
        let machine = Fake::new("{ }");
        let mut text = "name=m001".to_owned();
        for number in 1..=254 {
            for address in [format!("192.168.1.{number}"), format!("2001:db8:1::{number}")] {
                text.push_str(&format!(";host={address}/machine-with-a-long-name-{number:03}/machine-with-a-long-name-{number:03}.example.org"));
            }
        }
        for vlan in 1..=20 {
            text.push_str(&format!(
                ";card=52:54:00:12:{vlan:02x}:01/eth{vlan}/192.168.{vlan}.1/2001:db8:{vlan}::1"
            ));
        }
        assert_eq!(machine.read(text.as_bytes()), "");
        let hosts = machine.file("etc/hosts");
        assert_eq!(hosts.lines().count(), 3 + 2 * 254);
        assert!(hosts.contains(
            "2001:db8:1::254 machine-with-a-long-name-254 machine-with-a-long-name-254.example.org\n"
        ));
        assert_eq!(machine.file("run/nixvm-test/cards").lines().count(), 20);
    }

    #[test]
    fn an_address_that_a_switch_takes_away_is_gone_and_others_stay() {
        let machine = Fake::new("{ }");
        machine.read(TEXT);
        assert!(!machine.folder.path().join("run/nixvm-test/added").exists());
        for card in ["eth1 52:54:00:12:01:01", "lan0 52:54:00:12:02:01"] {
            let (name, address) = card.split_once(' ').unwrap();
            machine.write(&format!("sys/class/net/{name}/address"), format!("{address}\n"));
            machine.write(&format!("sys/class/net/{name}/device"), "");
        }
        machine.write("run/nixvm-test/added", "192.168.1.1/24 dev eth1\n192.168.9.9/24 dev eth2\n");
        let said = machine.run("read");
        assert_eq!(String::from_utf8_lossy(&said.stdout), "", "nothing has changed");
        machine.write("run/nixvm-test/cards", "52:54:00:12:01:01 eth1 192.168.1.1 -\n");
        let said = machine.run("read");
        let said = String::from_utf8_lossy(&said.stdout);
        assert!(said.contains("ip address del 192.168.9.9/24 dev eth2\nip -force -batch -\n"), "{said}");
        assert_eq!(machine.file("run/nixvm-test/added"), "192.168.1.1/24 dev eth1\n");
    }

    #[test]
    fn a_card_that_asks_by_dhcp_goes_on_to_do_so() {
        let machine = Fake::new(
            r#"{ networking.interfaces.eth1 = { useDHCP = true; ipv6.addresses = lib.mkForce [ ]; }; }"#,
        );
        machine.read(TEXT);
        assert_eq!(
            machine.file("run/systemd/network/40-eth1.network.d/nixvm-network.conf"),
            "[Network]\nConfigureWithoutCarrier=yes\nIgnoreCarrierLoss=yes\n[Address]\nAddress=192.168.1.1/24\n"
        );
    }

    #[test]
    fn a_card_of_a_bridge_or_a_bond_gets_no_address() {
        for group in ["bridges", "bonds"] {
            let machine = Fake::new(&format!("{{ networking.{group}.x.interfaces = [ \"eth1\" ]; }}"));
            assert_eq!(machine.read(TEXT), "");
            assert!(!machine.folder.path().join("run/systemd/network/40-eth1.network").exists());
            machine.write("sys/class/net/eth1/address", "52:54:00:12:01:01\n");
            machine.write("sys/class/net/eth1/device", "");
            machine.write("sys/class/net/lan0/address", "52:54:00:12:02:01\n");
            machine.write("sys/class/net/lan0/device", "");
            let output = machine.run("up");
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(!said.contains("link set") && !said.contains("address replace"), "{said}");
            assert!(output.status.success());
        }
    }

    #[test]
    fn only_an_error_about_what_the_module_sets_is_blamed_on_it() {
        for said in [
            "error: The option `virtualisation.vmVariant.system.activationScripts.nixvm-network' does not exist.",
            "error: The option `environment.etc.\"nixvm-test/network.json\".text' has conflicting definition values:",
        ] {
            assert!(is_about_network(said), "{said}");
        }
        for said in [
            "error: attribute 'x' missing\n… while evaluating the option `systemd.services.nixvm-network.serviceConfig':",
            "error: The option `environment.etc.x.source' is used but not defined.",
        ] {
            assert!(!is_about_network(said), "{said}");
        }
    }
}
