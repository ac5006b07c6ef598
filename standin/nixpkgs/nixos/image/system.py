"""Builder of a configuration's system: what /run/current-system is in the machine, and `result/system` beside it.

In $out:
  etc/               what /etc/static is
  etc-manifest       what of it goes to /etc: "link PATH" or "copy PATH MODE USER GROUP"
  sw/                the system's packages
  users, groups      the accounts, for activate
  users-groups.json  passwords in clear, where NixOS has them: activate names the file
  activate           run as root before systemd at every boot, and by a switch
  dry-activate       the same program, which does nothing then
  bin/switch-to-configuration, and in switch/ what it is made of
  specialisation/    links to the systems of specialisations
  init               what the initrd starts in the machine
  debian-packages    the packages that a machine's image must have for this system
  boot.json          as NixOS's bootspec, without the kernel and the initrd: those are beside `result/system`
  kernel-params, nixos-version, init-interface-version, switch-inhibitors
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

out = Path(os.environ["out"])
spec = json.loads(Path(os.environ["specFile"]).read_text())
system_units = set(Path(os.environ["base"], "units").read_text().split())


def fail(message):
    sys.exit(f"standin: error: {message}")


def programs():
    """GROUP -> [(program, path in the machine)], as the image's builders found them."""
    found = {}
    for file in (Path(os.environ["base"], "programs"), Path(os.environ["programs"])):
        for line in file.read_text().splitlines():
            group, program, path = line.split()
            found.setdefault(group, []).append((program, path))
    return found


def link_packages(folder, packages, known):
    """A folder of links to the programs of packages; the first package that has one wins, as in nixpkgs' buildEnv."""
    folder.mkdir(parents=True)
    seen = set()

    def link(name, target):
        if name not in seen:
            seen.add(name)
            os.symlink(target, folder / name)

    for package in packages:
        package = Path(package)
        if not (package / "bin").is_symlink() and (package / "bin").is_dir():
            for program in sorted((package / "bin").iterdir()):
                link(program.name, program)
        debs = package / "standin-debs"
        for group in debs.read_text().split() if debs.exists() else []:
            for program, path in known[group]:
                link(program, path)


def put(relative, text=None, source=None):
    """A file of the etc tree."""
    path = out / "etc" / relative
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink() or path.exists():
        fail(f"/etc/{relative} is made twice")
    if text is not None:
        path.write_text(text)
    else:
        path.symlink_to(source)


def put_units(folder, units, masked=()):
    """Units as files, with the links that wantedBy and its like ask for."""
    (out / "etc" / folder).mkdir(parents=True)
    for unit in units:
        name = unit["name"]
        if not unit["enable"]:
            put(f"{folder}/{name}", source="/dev/null")
            continue
        # A unit that systemd itself has is changed by a drop-in, unless the configuration says all of it.
        dropin = unit["overrideStrategy"] == "asDropin" or (name in system_units and not replaces(unit))
        if dropin and not unit["text"]:
            pass  # only its links
        elif dropin:
            put(f"{folder}/{name}.d/overrides.conf", text=unit["text"])
        else:
            put(f"{folder}/{name}", text=unit["text"])
        for kind, key in (("wants", "wantedBy"), ("requires", "requiredBy"), ("upholds", "upheldBy")):
            for target in unit[key]:
                link = f"{folder}/{target}.{kind}/{name}"
                if not (out / "etc" / link).is_symlink():
                    put(link, source=f"/usr/lib/systemd/system/{name}" if dropin else f"../{name}")
        for alias in unit["aliases"]:
            put(f"{folder}/{alias}", source=name)
    configured = {unit["name"] for unit in units}
    for name in masked:
        if name not in configured:
            put(f"{folder}/{name}", source="/dev/null")


def replaces(unit):
    """Does the text define the unit, rather than change one that there is?"""
    if unit["name"].endswith(".service"):
        execs = [line for line in unit["text"].splitlines() if line.startswith("ExecStart=")]
        # "ExecStart=" alone clears the original's: the mark of a drop-in.
        return bool(execs) and "ExecStart=" not in execs
    return unit["name"].endswith((".timer", ".socket", ".path", ".mount"))


def hash_of(user):
    """The password field of a new account; "" means that none is asked for."""
    password = user["password"]
    if "hash" in password:
        return password["hash"]
    if "file" in password:
        return "file:" + password["file"]
    if "clear" not in password:
        return "!"
    # perl's crypt, for Python has lost its own in 3.13. The salt need not be secret: the password is in the store anyway.
    salt = hashlib.sha256(f"{user['name']}:{password['clear']}".encode()).hexdigest()[:16]
    done = subprocess.run(
        ["/usr/bin/perl", "-e", "local $/; my $p = <STDIN>; print crypt($p, $ARGV[0])", f"$6${salt}$"],
        input=password["clear"], capture_output=True, text=True, check=True,
    )
    if not done.stdout.startswith("$6$"):
        fail("this host's perl can't hash passwords with SHA-512")
    return done.stdout


def table(rows):
    return "".join("\t".join("" if field is None else str(field) for field in row) + "\n" for row in rows)


def main():
    out.mkdir()
    known = programs()

    link_packages(out / "sw" / "bin", [*spec["systemPackages"], base_package()], known)
    (out / "sw" / "sbin").symlink_to("bin")
    (out / "sw" / "share").symlink_to("/usr/share")
    (out / "sw" / "lib").symlink_to("/usr/lib")

    put_units("systemd/system", spec["units"], spec["maskedUnits"])
    put_units("systemd/user", spec["userUnits"])
    if spec["defaultUnit"] != "graphical.target":
        put("systemd/system/default.target", source=f"/usr/lib/systemd/system/{spec['defaultUnit']}")
    manifest = ["link systemd/system", "link systemd/user"]

    for name, packages in spec["userPackages"].items():
        link_packages(out / "etc/profiles/per-user" / name / "bin", packages, known)
    if spec["userPackages"]:
        manifest.append("link profiles")

    for entry in sorted(spec["etc"], key=lambda entry: entry["target"]):
        target = entry["target"]
        if "text" in entry:
            put(target, text=entry["text"])
        else:
            put(target, source=entry["source"])
        if entry["mode"] in ("symlink", "direct-symlink"):
            manifest.append(f"link {target}")
        else:
            manifest.append(f"copy {target} {entry['mode']} {entry['user']} {entry['group']}")
    put("shells", text="".join(f"{shell}\n" for shell in shells()))
    put("os-release", source="/usr/lib/os-release")
    manifest += ["link shells", "link os-release"]
    (out / "etc-manifest").write_text("\n".join(manifest) + "\n")

    (out / "users").write_text(table(
        (u["name"], u["uid"], u["group"], u["home"], int(u["createHome"]), u["homeMode"], u["shell"], u["description"],
         hash_of(u), int(u["isNormalUser"]), int(u["linger"]))
        for u in sorted(spec["users"], key=lambda u: (u["uid"] is None, u["uid"] or 0, u["name"]))))
    (out / "users-groups.json").write_text(json.dumps({
        "users": [
            {"name": u["name"], "group": u["group"], "isSystemUser": not u["isNormalUser"],
             "initialPassword": u["password"].get("clear")} for u in spec["users"]],
        "groups": [{"name": g["name"], "gid": g["gid"], "members": g["members"]} for g in spec["groups"]],
    }))
    (out / "groups").write_text(table(
        (g["name"], g["gid"], ",".join(g["members"]))
        for g in sorted(spec["groups"], key=lambda g: (g["gid"] is None, g["gid"] or 0, g["name"]))))
    (out / "wrappers").write_text("\n".join(spec["wrappers"]) + "\n")
    (out / "settings").write_text("".join(f"{key} {int(spec[key])}\n" for key in ("mutableUsers", "sudoForWheelOnly")))

    scripts = spec["activationScripts"]
    if scripts:
        put_script("activation-scripts", activation(scripts) + ACTIVATED)
    if any(script["supportsDryActivation"] for script in scripts):
        put_script("dry-activation-scripts", activation(s for s in scripts if s["supportsDryActivation"]) + "exit $_status\n")
    if spec["extraDependencies"]:
        (out / "extra-dependencies").write_text("\n".join(spec["extraDependencies"]) + "\n")

    put_script("activate", Path(os.environ["activate"]).read_text().replace("@out@", str(out))
               + f"# The users, as NixOS's script has them: {out}/users-groups.json\n")
    (out / "dry-activate").symlink_to("activate")
    (out / "init").symlink_to("/usr/lib/systemd/systemd")
    (out / "kernel-params").write_text(spec["kernelParams"])
    (out / "nixos-version").write_text(spec["label"])
    (out / "system").write_text("x86_64-linux")
    (out / "debian-packages").write_text(os.environ["debianPackages"])
    # As systemd 252 of NixOS has it.
    (out / "init-interface-version").write_text("systemd 2")
    (out / "switch-inhibitors").write_text(json.dumps(spec["switchInhibitors"], indent=1, sort_keys=True) + "\n")
    if spec["switchable"]:
        put_switch()
    specialisations = json.loads(os.environ["specialisations"])
    (out / "specialisation").mkdir()
    for name, path in specialisations.items():
        (out / "specialisation" / name).symlink_to(path)
    put_bootspec(specialisations)
    if spec["extraSystemBuilderCmds"]:
        environment = {"out": str(out), "PATH": "/usr/bin:/bin", "HOME": "/homeless-shelter"}
        subprocess.run(["/bin/bash", "-eu", "-c", spec["extraSystemBuilderCmds"]], env=environment, check=True)


def put_script(name, text):
    (out / name).parent.mkdir(exist_ok=True)
    (out / name).write_text(text)
    (out / name).chmod(0o755)


# As NixOS's modules/system/activation/activation-script.nix: what fails is named, and the rest goes on.
ACTIVATION = """#!/bin/bash
systemConfig='{out}'
export PATH='{out}/sw/bin'
_status=0
trap "_status=1 _localstatus=\\$?" ERR
umask 0022
# At a boot, the journal has it too: the console is rarely read.
_failed() {{
  printf "Activation script snippet '%s' failed (%s)\\n" "$1" "$2"
  if [ -n "${{STANDIN_BOOT:-}}" ]; then
    printf "<4>stage-2-init: Activation script snippet '%s' failed (%s)\\n" "$1" "$2" >/dev/kmsg
  fi
}}

"""
ACTIVATED = """# Make this configuration the current configuration.
ln -sfn "$(readlink -f "$systemConfig")" /run/current-system

exit $_status
"""


def activation(scripts):
    return ACTIVATION.format(out=out) + "".join(
        f"#### Activation script snippet {s['name']}:\n_localstatus=0\n{s['text']}\n\n"
        f"if (( _localstatus > 0 )); then\n  _failed '{s['name']}' \"$_localstatus\"\nfi\n\n"
        for s in scripts)


def put_switch():
    """bin/switch-to-configuration."""
    source = Path(os.environ["switch"])
    program = (source / "switch-to-configuration.pl").read_text().replace("@out@", str(out))
    if spec["installBootLoader"] == "/bin/true":
        # It tells that the program can switch a machine without a boot loader.
        program = program.replace("\n", "\n# nixvm-no-boot-loader\n", 1)
    put_script("bin/switch-to-configuration", program)
    (out / "switch").mkdir()
    shutil.copyfile(source / "units.pl", out / "switch/units.pl")
    (out / "switch/base-units").write_text("\n".join(sorted(system_units)) + "\n")
    (out / "switch/install-boot-loader").write_text(spec["installBootLoader"] + "\n")
    checks = "".join(
        f"# pre-switch check {name}\nif ! (\n{text}\n) >&2 ; then\n  echo \"Pre-switch check '{name}' failed\" >&2\n  exit 1\nfi\n"
        for name, text in sorted(spec["preSwitchChecks"].items()))
    put_script("switch/pre-switch-checks", f"#!/bin/bash\nset -o errexit -o nounset -o pipefail\n{checks}")


def put_bootspec(specialisations):
    (out / "boot.json").write_text(json.dumps({
        "org.nixos.bootspec.v1": {
            "init": f"{out}/init",
            "kernelParams": spec["kernelParams"].split(),
            "label": f"NixOS {spec['label']}",
            "system": "x86_64-linux",
            "toplevel": str(out),
        },
        "org.nixos.specialisation.v1": {name: json.loads(Path(path, "boot.json").read_text()) for name, path in specialisations.items()},
    }, indent=1, sort_keys=True) + "\n")


def base_package():
    """Stands for the base system's programs in link_packages, as a package's store path would."""
    folder = Path(os.environ.get("TMPDIR", "/tmp")) / "base-package"
    folder.mkdir()
    (folder / "standin-debs").write_text("base\n")
    return folder


def shells():
    names = ["bash", "dash", "fish", "ksh", "mksh", "sh", "tcsh", "zsh"]
    return [f"/run/current-system/sw/bin/{n}" for n in names if (out / "sw/bin" / n).is_symlink()] + ["/bin/sh", "/bin/bash"]


main()
