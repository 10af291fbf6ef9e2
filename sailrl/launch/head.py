"""The environment of Ray, and deadlines for its start and its head node. Ray itself waits for ever for an address that
does not answer, and when its head is lost it ends this process after a minute without a useful message."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

POLL_S, DEADLINE_S = 5.0, 45.0


def set_environment() -> None:
    """Sets the variables that we need and the user has not set. Ray, OpenMP and MKL read some of them only once, when
    they are loaded."""
    # Engine, learner and rewards share the cores: threads that wait for work must soon sleep. On a busy machine small
    # operations are up to a hundred times faster so than with threads that spin; on an idle one, the microseconds that
    # GNU's OpenMP may still spin save a tenth of an update. OpenMP reads both once, when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    # Learner and engines take and give back the same memory update after update: asked of the system each time, it
    # costs some hundredths of an update. Up to a gigabyte stays with the process; pieces above 32 MiB never do.
    os.environ.setdefault("MALLOC_TRIM_THRESHOLD_", str(1 << 30))
    os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", str(32 << 20))
    # MKL may sum in another order from run to run unless it is told not to; a resumed run is to be equal bit for bit.
    os.environ.setdefault("MKL_CBWR", "AUTO")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    tokens = [os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")]
    if os.environ.get("RAY_ADDRESS") and (any(tokens) or (Path.home() / ".ray" / "auth_token").is_file()):
        # `ray start` asks for the token where there is one, and a process with an explicit address does not send it.
        os.environ.setdefault("RAY_AUTH_MODE", "token")


@contextmanager
def started(begin: Callable[[], object], deadline_s: float) -> Iterator[None]:
    """Calls ``begin`` in a thread that lives until the block ends: processes that ``begin`` starts may end with it.

    Raises:
        TimeoutError: ``begin`` has not returned after ``deadline_s`` seconds; its thread keeps running.
        Exception: whatever ``begin`` raised.
    """
    began, ended = threading.Event(), threading.Event()
    failures: list[Exception] = []

    def run() -> None:
        try:
            begin()
        except Exception as error:
            failures.append(error)
        began.set()
        ended.wait()

    threading.Thread(target=run, name="ray-start", daemon=True).start()
    try:
        if not began.wait(deadline_s):  # unlike a call of Ray's own, this wait can be interrupted by Ctrl-C
            raise TimeoutError(f"no answer within {deadline_s:g} s")
        if failures:
            raise failures[0]
        yield
    finally:
        ended.set()


@contextmanager
def watched(
    address: str, lost: Callable[[str], None] | None = None, *, poll_s: float = POLL_S, deadline_s: float = DEADLINE_S
) -> Iterator[None]:
    """Within the block, ``lost`` is called once, from another thread, when ``address`` has accepted no connection for
    ``deadline_s`` seconds.

    Args:
        address: ``host:port`` of Ray's GCS.
        lost: gets the message; by default it is printed and the process exits with code 2, since every call to Ray
            would hang, also those that end it in order.
    """
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    ended = threading.Event()

    def poll() -> None:
        seen: float | None = None  # an address that has never answered may be wrong: it is not watched
        while not ended.wait(poll_s):
            try:
                socket.create_connection((host, int(port)), timeout=poll_s).close()
                seen = time.monotonic()
            except OSError as error:
                if seen is not None and time.monotonic() - seen > deadline_s and not ended.is_set():
                    return (lost or _end)(
                        f"Ray's head, {address}, has not answered for {deadline_s:g} s ({error}). Its machine or its "
                        "process, gcs_server, is gone. The last checkpoint is whole: start Ray again if RAY_ADDRESS "
                        "names a cluster, and run the same command to resume."
                    )

    threading.Thread(target=poll, name="ray-head", daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def _end(message: str) -> None:
    print(f"error: {message}", file=sys.stderr, flush=True)
    os._exit(2)
