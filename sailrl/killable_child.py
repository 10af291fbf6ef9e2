"""The child's side of ``Killable``: loads the target, keeps its limits, answers one call after the other."""

from __future__ import annotations

import contextlib
import importlib
import json
import math
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

from sailrl import killable
from sailrl.killable import HEADER, encode

_PR_SET_PDEATHSIG = 1


def serve(setup: dict[str, Any]) -> None:
    """Loads the target, reports that, and answers calls until the parent closes the connection."""
    killable._inside = True
    _die_with_parent(setup["parent"])
    connection = socket.socket(fileno=setup["fd"])
    os.set_inheritable(setup["fd"], False)
    try:
        module, _, name = setup["target"].partition(":")
        target = getattr(importlib.import_module(module), name)
        if setup["init"] is not None:
            target = target(*setup["init"])
    except BaseException as error:
        connection.sendall(encode({"raised": _raised(error)}))
        return
    _limit_memory(setup["memory_bytes"])
    connection.sendall(encode({"ready": True}))
    stream = connection.makefile("rb")
    while header := stream.read(HEADER.size):
        request = json.loads(stream.read(HEADER.unpack(header)[0]))
        _limit_processor(request["deadline_s"])
        connection.sendall(_answer(target, request["args"]))
        del request
    os._exit(0)  # end of file: the parent closed us; nothing a target left behind may hold us back


def _answer(target: Callable[..., Any], args: list[Any]) -> bytes:
    try:
        return encode({"value": target(*args)})
    except MemoryError:
        return encode({"memory": True})
    except BaseException as error:  # some libraries' time-outs and sys.exit() are no Exception
        return encode({"raised": _raised(error)})


def _raised(error: BaseException) -> str:
    try:
        text = str(error)[:500]
    except Exception:
        text = "(its message cannot be printed)"
    return f"raised {type(error).__name__}: {text}"


def _die_with_parent(parent: int) -> None:
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before we asked to be told
        os._exit(0)


def _limit_memory(extra_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash must not write gigabytes of core file
    with contextlib.suppress(OSError, ValueError):  # no /proc outside Linux, and macOS refuses this limit
        with open("/proc/self/statm", encoding="utf-8") as statm:
            loaded = int(statm.read().split()[0]) * resource.getpagesize()
        _lower_limit(resource.RLIMIT_AS, loaded + extra_bytes)


def _limit_processor(deadline_s: float) -> None:
    """Ends a call that burns the processor even when no parent is there to do so. The parent's clock comes first."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    soft = math.ceil(usage.ru_utime + usage.ru_stime + 2 * deadline_s + 2)
    _lower_limit(resource.RLIMIT_CPU, soft)


def _lower_limit(kind: int, soft: int) -> None:
    hard = resource.getrlimit(kind)[1]  # a limit that is set already cannot be raised
    resource.setrlimit(kind, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))
