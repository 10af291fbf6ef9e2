"""Functions for children of Killable to run: well behaved, hanging, bloating, crashing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import Any

from sailrl import killable


def echo(*args: Any) -> Any:
    return list(args)


def pid() -> int:
    return os.getpid()


def child_pids_then_hang(path: str) -> None:
    grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    with open(path, "w") as out:
        out.write(f"{os.getpid()} {grandchild.pid}")
    time.sleep(600)


def is_inside() -> bool:
    return killable.inside()


def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def spin(processor_s: float) -> float:
    end = time.process_time() + processor_s
    while time.process_time() < end:
        pass
    return processor_s


def big_power() -> int:
    """Holds the interpreter lock for minutes: no thread and no Python signal handler gets a turn."""
    return len(bin(9 ** (9**9)))


def allocate(gigabytes: float) -> int:
    return len(bytearray(int(gigabytes * (1 << 30))))


def raise_error(text: str) -> None:
    raise LookupError(text)


def leave() -> None:
    sys.exit(3)


def vanish() -> None:
    os._exit(7)


def crash() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def chatter(text: str) -> str:
    print(text)
    os.write(1, b"\x00\x00\x00\x00\x00\x00\x00\x02{}")
    sys.stdout.flush()
    return text


class Counter:
    """A stateful target: built once per child."""

    def __init__(self, start: int) -> None:
        if start < 0:
            raise ValueError("start is negative")
        self.n = start

    def __call__(self) -> int:
        self.n += 1
        return self.n


def slow_factory() -> Any:
    time.sleep(0.5)
    return echo
