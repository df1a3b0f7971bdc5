"""Memory that is given back, seen by the system."""

from __future__ import annotations

import subprocess
import sys

FREED = """
import sys
from pathlib import Path
from got_core.memory import give_back_memory

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

class Node:
    pass

nodes = [Node() for _ in range(100)]
for one in nodes:
    # Small pieces, which malloc keeps; a cycle, which only a collection finds.
    one.itself, one.pieces = one, [bytes(1000) for _ in range(1000)]
kept = bytes(1000)
del nodes, one
before = resident()
give_back_memory()
print((before - resident()) >> 20, "torch" in sys.modules)
"""


def test_what_nothing_refers_to_is_the_systems_again() -> None:
    done = subprocess.run([sys.executable, "-c", FREED], capture_output=True, text=True, check=True)
    freed, torch = done.stdout.split()
    assert int(freed) > 50 and torch == "False"
