"""Calls a function in a child process that can be killed at a deadline, for code that may hang, bloat or crash.

A thread cannot be stopped, SIGALRM works in the main thread only, and a big-integer power holds the interpreter lock
until it is done: only another process can be given a hard deadline. One ``Killable`` is one child:

    symbolic = Killable("mypackage.slow:compare")          # nothing is started yet
    equal = symbolic.call("1/2", "0.5", deadline_s=1.0)    # JSON values in and out

The child is a fresh interpreter (no fork, no pickle, no re-import of ``__main__``) that talks over its own socket, so
what the target prints cannot corrupt an answer. It dies with its parent, however the parent dies.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

HEADER = struct.Struct(">Q")
_BOOT = (
    "import json, sys; setup = json.loads(sys.argv[1]); sys.path[:] = setup['path']; "
    "from sailrl.killable_child import serve; serve(setup)"
)
_inside = False

OUT_OF_MEMORY = "out of memory"
"""The reason of a ``ChildDied`` whose call wanted more memory than it may have."""

PATIENCE = 5.0
"""A call ends after this many times its deadline, however busy the machine is."""


class DeadlineExceeded(Exception):
    """The call did not end in time; its child was killed and a new one is starting.

    ``busy_s`` is the processor time that the call did get, which tells a slow call from a busy machine (0.0 where the
    system does not say).
    """

    def __init__(self, message: str, busy_s: float = 0.0) -> None:
        super().__init__(message)
        self.busy_s = busy_s


class ChildDied(Exception):
    """The call has no answer for another reason: ``out of memory``, ``killed by SIGSEGV``, ``raised ValueError: ...``,
    ``cannot start: ...``. The next call finds a working child again, unless the target cannot be loaded at all."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def inside() -> bool:
    """True in a child of ``Killable``, where calls are under a deadline already and need no second child."""
    return _inside


class Killable:
    """One child process that runs ``target`` ("package.module:function"), started by the first call or ``start()``.

    Args:
        memory_bytes: address space a call may take beyond what the child holds once its target is loaded.
        recycle_after: calls after which a child is replaced, so that leaks and caches of libraries stay bounded.
        init: when given, the target is a factory: ``target(*init)`` is called once per child and its result is what
            ``call`` calls. JSON values.
        startup_s: time a child may take to import and build its target; never counted against a call's deadline.
    """

    def __init__(
        self,
        target: str,
        *,
        memory_bytes: int = 1 << 30,
        recycle_after: int = 2000,
        init: Sequence[Any] | None = None,
        startup_s: float = 60.0,
    ) -> None:
        self.target = target
        self._memory_bytes = memory_bytes
        self._recycle_after = recycle_after
        self._init = None if init is None else list(init)
        self._startup_s = startup_s
        self._lock = threading.Lock()
        self._child: _Child | None = None
        self._closed = False

    def start(self) -> None:
        """Starts the child in the background, so that the first call need not wait for its imports."""
        with self._lock:
            if not self._closed and self._child is None:
                self._child = self._spawn()

    def ready(self) -> None:
        """Waits until the child has loaded its target. Raises ``ChildDied`` with the reason when it cannot."""
        with self._lock:
            self._ready_child()

    def call(self, *args: Any, deadline_s: float) -> Any:
        """Returns ``target(*args)``. Calls from several threads take turns; waiting for one's turn costs no deadline.

        The deadline is meant for the call and not for the machine: while the child stands in the queue for a processor
        its clock is stopped (on Linux), for at most ``PATIENCE`` times the deadline in all.

        Raises:
            DeadlineExceeded: no answer within ``deadline_s`` seconds; the child is killed and replaced.
            ChildDied: the target raised, ran out of memory, or its process died.
            TypeError, ValueError: the arguments are not JSON values.
        """
        request = encode({"args": args, "deadline_s": deadline_s})
        with self._lock:
            child = self._ready_child()
            busy_before = child.busy_s()
            try:
                reply = child.ask(request, _Deadline(deadline_s, child.queued_s))
            except TimeoutError:
                busy = child.busy_s() - busy_before
                self._replace(child)
                raise DeadlineExceeded(f"{self.target} did not answer within {deadline_s:g} s", busy) from None
            except (OSError, EOFError):
                died = child.post_mortem()
                self._replace(child)
                if died == "killed by SIGXCPU":
                    raise DeadlineExceeded(f"{self.target} used up its processor time", deadline_s) from None
                raise ChildDied(died) from None
            except BaseException:  # Ctrl-C while waiting: the answer is not read any more
                self._child = None
                child.kill()
                raise
            child.calls += 1
            # After a failed allocation the interpreter goes on, but its libraries may be in a broken state.
            if "memory" in reply or child.calls >= self._recycle_after:
                self._replace(child)
        if "value" in reply:
            return reply["value"]
        raise ChildDied(OUT_OF_MEMORY if "memory" in reply else reply["raised"])

    def close(self) -> None:
        """Kills the child and refuses further calls; a call in progress ends at once."""
        self._closed = True
        running = self._child
        if running is not None and running.owner == os.getpid():
            running.signal_kill()
        with self._lock:
            child, self._child = self._child, None
            if child is not None:
                child.kill()

    def __enter__(self) -> Killable:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        child = getattr(self, "_child", None)
        if child is not None and child.owner == os.getpid():
            child.kill()

    def _spawn(self) -> _Child:
        return _in_spawner(lambda: _Child(self.target, self._init, self._memory_bytes, self._startup_s))

    def _replace(self, child: _Child) -> None:
        self._child = None
        child.kill()
        if not self._closed:
            with contextlib.suppress(ChildDied):  # no process to be had right now: the next call tries again
                self._child = self._spawn()

    def _ready_child(self) -> _Child:
        if self._closed:
            raise ChildDied("closed")
        child = self._child
        if child is None or child.owner != os.getpid():  # a forked copy of us must not talk to its parent's child
            child = self._child = self._spawn()
        if not child.ready:
            try:
                child.wait_ready()
            except ChildDied:
                child.kill()
                self._child = None
                raise
        return child


class _Child:
    """The parent's end of one child process."""

    def __init__(self, target: str, init: list[Any] | None, memory_bytes: int, startup_s: float) -> None:
        self.owner = os.getpid()
        self.calls = 0
        self.ready = False
        self._startup_s = startup_s
        self._started = time.monotonic()
        self._socket, theirs = socket.socketpair()
        with theirs:
            setup = {
                "path": [entry or os.getcwd() for entry in sys.path],
                "fd": theirs.fileno(),
                "parent": self.owner,
                "target": target,
                "init": init,
                "memory_bytes": memory_bytes,
            }
            threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
            self._process = subprocess.Popen(
                # -P: a json.py in the folder one runs from must not become the child's json.
                [sys.executable, "-P", "-c", _BOOT, json.dumps(setup)],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=2,  # what a target prints is no data: it must not go to our stdout
                env=threads | os.environ,
                # The parent handles Ctrl-C, and killing the session ends grandchildren, too.
                start_new_session=True,
            )

    def wait_ready(self) -> None:
        try:
            reply = self._receive(_Deadline(self._startup_s - (time.monotonic() - self._started)))
        except TimeoutError:
            raise ChildDied(f"cannot start: not ready after {self._startup_s:g} s") from None
        except (OSError, EOFError):
            raise ChildDied(f"cannot start: {self.post_mortem()}") from None
        if "raised" in reply:
            raise ChildDied(f"cannot start: {reply['raised'].removeprefix('raised ')}")
        self.ready = True

    def ask(self, request: bytes, deadline: _Deadline) -> dict[str, Any]:
        left = memoryview(request)
        while left:
            with contextlib.suppress(TimeoutError):  # the deadline says whether it was the end
                self._socket.settimeout(deadline.left_s())
                left = left[self._socket.send(left) :]
        return self._receive(deadline)

    def busy_s(self) -> float:
        """Processor time of the child so far."""
        if sys.platform != "linux":
            return 0.0
        try:
            return time.clock_gettime((~self._process.pid << 3) | 2)  # the kernel's clock of another process
        except OSError:
            return 0.0

    def queued_s(self) -> float:
        """Time the child has stood ready to run without a processor so far."""
        try:
            with open(f"/proc/{self._process.pid}/schedstat", encoding="utf-8") as stat:
                return int(stat.read().split()[1]) / 1e9
        except (OSError, IndexError):  # not Linux, or a kernel that does not count
            return 0.0

    def post_mortem(self) -> str:
        """Why a child that hung up has died."""
        try:
            code = self._process.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
            return "closed its connection"
        if code >= 0:
            return f"exited with code {code}"
        return f"killed by {signal.Signals(-code).name}"

    def signal_kill(self) -> None:
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.kill()  # it may not have reached its own session yet

    def kill(self) -> None:
        self.signal_kill()
        self._process.wait()
        self._socket.close()

    def _receive(self, deadline: _Deadline) -> dict[str, Any]:
        (size,) = HEADER.unpack(self._read(HEADER.size, deadline))
        reply: dict[str, Any] = json.loads(self._read(size, deadline))
        return reply

    def _read(self, size: int, deadline: _Deadline) -> bytes:
        data = bytearray()
        while len(data) < size:
            self._socket.settimeout(deadline.left_s())
            try:
                chunk = self._socket.recv(min(size - len(data), 1 << 20))
            except TimeoutError:
                continue
            if not chunk:
                raise EOFError
            data += chunk
        return bytes(data)


class _Deadline:
    """A number of seconds from now, not counting those in the queue for a processor."""

    def __init__(self, seconds: float, queued_s: Callable[[], float] = float) -> None:
        self._seconds = seconds
        self._began = time.monotonic()
        self._queued_s = queued_s
        self._queued_before = queued_s()

    def left_s(self) -> float:
        """Raises ``TimeoutError`` when nothing is left."""
        left = self._seconds - (time.monotonic() - self._began)
        if left > 0:
            return left
        queued = min(self._queued_s() - self._queued_before, (PATIENCE - 1) * self._seconds)
        if left + queued < 0.001:
            raise TimeoutError
        return left + queued


def encode(message: Any) -> bytes:
    """A message as bytes for a pipe: its length, then JSON."""
    # ASCII escapes carry lone surrogates, which UTF-8 refuses.
    body = json.dumps(message, separators=(",", ":")).encode("ascii")
    return HEADER.pack(len(body)) + body


# --- the thread that starts children -------------------------------------------------------------------------------
# Linux sends the parent-death signal when the *thread* that started a child ends. Children started by a short-lived
# thread would be killed at random, so one thread that lives as long as the process starts them all.

_spawn_lock = threading.Lock()
_spawn_requests: queue.SimpleQueue[tuple[Callable[[], _Child], queue.SimpleQueue[Any]]] | None = None


def _in_spawner(make: Callable[[], _Child]) -> _Child:
    global _spawn_requests
    with _spawn_lock:
        if _spawn_requests is None:
            _spawn_requests = queue.SimpleQueue()
            threading.Thread(target=_spawner, args=(_spawn_requests,), name="killable-spawner", daemon=True).start()
    answer: queue.SimpleQueue[Any] = queue.SimpleQueue()
    _spawn_requests.put((make, answer))
    made = answer.get()
    if isinstance(made, OSError):
        raise ChildDied(f"cannot start: {made}") from made
    return made


def _spawner(requests: queue.SimpleQueue[tuple[Callable[[], _Child], queue.SimpleQueue[Any]]]) -> None:
    while True:
        make, answer = requests.get()
        try:
            answer.put(make())
        except OSError as error:
            answer.put(error)


def _forget_spawner() -> None:
    global _spawn_lock, _spawn_requests
    _spawn_lock, _spawn_requests = threading.Lock(), None  # threads do not survive a fork


os.register_at_fork(after_in_child=_forget_spawner)
