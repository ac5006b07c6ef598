"""Builder of the initrd: busybox, the disk's kernel modules, init.sh, and the closure of the configuration's system.

A cpio archive in the kernel's `newc` format, not compressed: QEMU loads it faster than the guest would unpack it.
"""

import os
import stat
from pathlib import Path

out = Path(os.environ["out"])
base = Path(os.environ["base"])
toplevel = os.environ["toplevel"]


class Archive:
    def __init__(self, file):
        self.file = file
        self.inode = 0
        self.folders = set()

    def add(self, name, mode, data=b"", device=(0, 0)):
        self.inode += 1
        encoded = name.encode() + b"\0"
        fields = (self.inode, mode, 0, 0, 2 if stat.S_ISDIR(mode) else 1, 1, len(data), 0, 0, *device, len(encoded), 0)
        self.write(b"070701" + b"".join(b"%08x" % field for field in fields) + encoded)
        self.write(data)

    def write(self, data):
        """Every part is padded to four bytes."""
        self.file.write(data + b"\0" * (-len(data) % 4))

    def folder(self, name, mode=0o755):
        if name and name not in self.folders:
            self.folder(os.path.dirname(name))
            self.folders.add(name)
            self.add(name, stat.S_IFDIR | mode)

    def path(self, source, name):
        """A file, link or whole folder. What the store has is read-only and root's."""
        info = source.lstat()
        if stat.S_ISLNK(info.st_mode):
            self.add(name, stat.S_IFLNK | 0o777, os.readlink(source).encode())
        elif stat.S_ISDIR(info.st_mode):
            self.folder(name, 0o555)
            for child in sorted(source.iterdir()):
                self.path(child, f"{name}/{child.name}")
        else:
            self.add(name, stat.S_IFREG | (0o555 if info.st_mode & 0o111 else 0o444), source.read_bytes())


def closure():
    lines = Path("closure").read_text().splitlines()
    return sorted({line for line in lines if line.startswith("/") and not line.endswith(".drv")})


with open(out, "wb") as file:
    archive = Archive(file)
    for folder in ("dev", "proc", "root", "modules"):
        archive.folder(folder)
    archive.add("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
    archive.add("busybox", stat.S_IFREG | 0o755, (base / "busybox").read_bytes())
    init = Path(os.environ["init"]).read_text().replace("@system@", toplevel)
    sectors = int(Path(os.environ["image"], "size").read_text()) * 2048
    init = init.replace("@sectors@", str(sectors))
    archive.add("init", stat.S_IFREG | 0o755, init.encode())
    for module in sorted((base / "initrd-modules").iterdir()):
        archive.add(f"modules/{module.name}", stat.S_IFREG | 0o644, module.read_bytes())
    archive.folder("nix/store")
    for path in closure():
        archive.path(Path(path), path.lstrip("/"))
    archive.add("TRAILER!!!", 0)
