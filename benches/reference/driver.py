"""One round of the bench `reference` with the NixOS test driver: `driver.py FOLDER SCRIPT TRUES`.

FOLDER has the driver's package (`test_driver`), SCRIPT starts the VM. Prints one line of JSON, in seconds. What the
driver logs goes to stderr.
"""

import importlib
import json
import statistics
import sys
import tempfile
import time
import types
from pathlib import Path

folder, script, trues = sys.argv[1], sys.argv[2], int(sys.argv[3])


class Nothing(str):
    """Stands in for whatever a module that is not installed has: colours, the REPL, JUnit's classes."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Nothing()

    def __call__(self, *arguments, **named):
        return Nothing()


def module(name):
    """The module `name`. What it imports and is not installed is not used here."""
    for _ in range(20):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as missing:
            if missing.name.startswith("test_driver"):
                raise
            stand_in = types.ModuleType(missing.name)
            stand_in.__path__ = []
            stand_in.__getattr__ = Nothing().__getattr__
            sys.modules[missing.name] = stand_in
    raise SystemExit(f"{name} can't be imported from {folder}")


sys.path.insert(0, folder)
machines = module("test_driver.machine")
loggers = module("test_driver.logger")


def timed(call):
    """How long a call takes, and what it gives."""
    begun = time.monotonic()
    given = call()
    return time.monotonic() - begun, given


def median(count, call):
    """The median time of `count` calls."""
    return statistics.median(timed(call)[0] for _ in range(count))


with tempfile.TemporaryDirectory(prefix="reference-") as tmp:
    machine = machines.Machine(
        out_dir=Path(tmp),
        tmp_dir=Path(tmp),
        start_command=machines.NixStartScript(script),
        logger=loggers.CompositeLogger([loggers.TerminalLogger()]),
        name="machine",
    )
    try:
        cold, _ = timed(lambda: machine.succeed("true"))
        # What has just booted is still busy.
        machine.execute("systemctl is-system-running --wait")
        figures = {
            "cold": cold,
            "builtin": median(trues, lambda: machine.succeed("true")),
            "program": median(trues, lambda: machine.succeed("/bin/true")),
            "unit": median(10, lambda: machine.wait_for_unit("multi-user.target")),
        }
        took, output = timed(lambda: machine.succeed("seq 1000000 1937499"))
        assert len(output) == 7_500_000, len(output)
        figures["output"] = took
        figures["shutdown"], _ = timed(machine.shutdown)
    finally:
        machine.release()
print(json.dumps(figures))
