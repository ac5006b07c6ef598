"""Adds the kernel and the initrd to a bootspec and to those of its specialisations: bootspec.py FILE KERNEL INITRD"""

import json
import sys

file, kernel, initrd = sys.argv[1:]


def complete(spec):
    spec["org.nixos.bootspec.v1"].update(kernel=kernel, initrd=initrd)
    for child in spec["org.nixos.specialisation.v1"].values():
        complete(child)
    return spec


print(json.dumps(complete(json.load(open(file))), indent=1, sort_keys=True))
