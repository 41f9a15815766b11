"""Ports for the testbed of a test."""

import random
import socket
from contextlib import ExitStack
from pathlib import Path


def free_ports() -> int:
    """The first of 100 consecutive free ports, below the range for outgoing connections."""
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="utf-8").split()[0])
    for first in random.sample(range(10_000, lowest - 100, 100), 50):
        with ExitStack() as tried:
            try:
                for port in range(first, first + 100):
                    tried.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
            return first
    raise AssertionError("there are no 100 consecutive free ports")
