#!/usr/bin/env python3
"""Where the RAM of a machine that is to be saved had better be: in a file on a disk, in a tmpfs, or in a memfd.

    benches/template-ram.py [FOLDER ON A DISK]

Prints how fast memory is dirtied there, by a guest under TCG and by this process (as a guest under KVM does, whose
stores are the processor's), and what it costs to copy a memfd with holes out to the disk. Each number is the median of
some rounds that take turns, and its ratio to the memfd's. A loaded host changes the numbers, and the ratios less.
"""

import mmap
import os
import statistics
import subprocess
import sys
import tempfile
import time

MIB = 1 << 20
DIRTIED = 384
ROUNDS = 5
FOLDER = sys.argv[1] if len(sys.argv) > 1 else "."


def boot_sector():
    """Enters protected mode, writes to DIRTIED MiB from 1 MiB on again and again, and says a dot after each pass."""
    start = bytes.fromhex("fa 31c0 8ed8 e492 0c02 e692")
    enter = bytes.fromhex("0f20c0 6683c801 0f22c0")
    at = 0x7C00 + len(start) + 5 + len(enter) + 5
    begin = bytes.fromhex("66b81000 8ed8 8ec0 8ed0 fc")
    loop = b"\xbf" + MIB.to_bytes(4, "little") + b"\xb9" + (DIRTIED * MIB // 4).to_bytes(4, "little")
    loop += bytes.fromhex("40 f3ab 89c3 66baf803 b02e ee 89d8")
    loop += b"\xeb" + (-(len(loop) + 2)).to_bytes(1, "little", signed=True)
    gdt_at = at + len(begin) + len(loop)
    gdt = bytes(8) + (0x00CF9A000000FFFF).to_bytes(8, "little") + (0x00CF92000000FFFF).to_bytes(8, "little")
    gdtr_at = gdt_at + len(gdt)
    gdtr = (len(gdt) - 1).to_bytes(2, "little") + gdt_at.to_bytes(4, "little")
    lgdt = b"\x0f\x01\x16" + gdtr_at.to_bytes(2, "little")
    jump = b"\xea" + at.to_bytes(2, "little") + b"\x08\x00"
    code = start + lgdt + enter + jump + begin + loop + gdt + gdtr
    return code.ljust(510, b"\0") + b"\x55\xaa"


class Place:
    """A file of the guest's size, somewhere."""

    def __init__(self, kind):
        self.path = None
        if kind == "memfd":
            self.fd = os.memfd_create("ram", 0)
        else:
            folder = FOLDER if kind == "disk" else "/dev/shm"
            self.fd, self.path = tempfile.mkstemp(dir=folder)
        os.ftruncate(self.fd, 512 * MIB)

    def close(self):
        os.close(self.fd)
        if self.path:
            os.unlink(self.path)


def by_a_guest(place, disk):
    """MiB a second that a guest under TCG dirties."""
    ram = f"memory-backend-file,id=ram,size=512M,mem-path=/proc/self/fd/{place.fd},share=on"
    command = ["qemu-system-x86_64", "-accel", "tcg", "-m", "512", "-object", ram, "-machine", "memory-backend=ram"]
    command += ["-nodefaults", "-display", "none", "-serial", "stdio", "-drive", f"file={disk},format=raw,if=ide"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, pass_fds=[place.fd])
    try:
        process.stdout.read(1)
        begun, passes = time.monotonic(), 0
        while time.monotonic() - begun < 4:
            process.stdout.read(1)
            passes += 1
        return passes * DIRTIED / (time.monotonic() - begun)
    finally:
        process.kill()
        process.wait()


def by_this_process(place):
    """MiB a second that stores of the processor dirty, the first time and again while the kernel writes back."""
    chunk = b"\x5a" * MIB
    with mmap.mmap(place.fd, 512 * MIB, mmap.MAP_SHARED) as ram:
        rates = []
        for _ in range(2):
            begun = time.monotonic()
            for at in range(DIRTIED):
                ram[at * MIB : (at + 1) * MIB] = chunk
            rates.append(DIRTIED / (time.monotonic() - begun))
            time.sleep(1)
    return rates


def copied_out(place):
    """Seconds to copy what is in a memfd to a file on the disk, holes left out."""
    fd, path = tempfile.mkstemp(dir=FOLDER)
    begun, at, size = time.monotonic(), 0, 512 * MIB
    os.ftruncate(fd, size)
    while at < size:
        try:
            start = os.lseek(place.fd, at, os.SEEK_DATA)
        except OSError:
            break
        at = os.lseek(place.fd, start, os.SEEK_HOLE)
        while start < at:
            start += os.pwrite(fd, os.pread(place.fd, min(MIB, at - start), start), start)
    took = time.monotonic() - begun
    os.close(fd)
    os.unlink(path)
    return took


def main():
    kinds = ["memfd", "tmpfs", "disk"]
    numbers = {}
    with tempfile.NamedTemporaryFile() as disk:
        disk.write(boot_sector())
        disk.flush()
        for _ in range(ROUNDS):
            for kind in kinds:
                place = Place(kind)
                first, again = by_this_process(place)
                numbers.setdefault(("the processor, first time", kind), []).append(first)
                numbers.setdefault(("the processor, again", kind), []).append(again)
                if kind == "memfd":
                    numbers.setdefault("copy", []).append(copied_out(place))
                place.close()
                place = Place(kind)
                numbers.setdefault(("a guest under TCG", kind), []).append(by_a_guest(place, disk.name))
                place.close()
    print(f"| dirtied by | place | MiB/s (median of {ROUNDS}) | of the memfd's |\n|---|---|---:|---:|")
    for what in ["a guest under TCG", "the processor, first time", "the processor, again"]:
        base = statistics.median(numbers[what, "memfd"])
        for kind in kinds:
            rate = statistics.median(numbers[what, kind])
            print(f"| {what} | {kind} | {rate:.0f} | {rate / base:.2f} |")
    copy = statistics.median(numbers["copy"])
    print(f"\n{DIRTIED} MiB of a memfd are copied out to the disk in {copy:.2f} s ({DIRTIED / copy:.0f} MiB/s).")


main()
