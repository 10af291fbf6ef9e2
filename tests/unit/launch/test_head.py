"""Ray's start has a deadline. The loss of its head is said once, after the deadline, and a head that comes back in time
is no loss."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from sailrl.launch.head import set_environment, started, watched


def test_a_start_that_hangs_ends_at_its_deadline() -> None:
    with pytest.raises(TimeoutError, match=r"no answer within 0\.05 s"), started(threading.Event().wait, 0.05):
        raise AssertionError("the block runs after the start only")


def test_a_start_that_fails_raises_its_own_error() -> None:
    def refused() -> None:
        raise ConnectionError("Failed to connect")

    with pytest.raises(ConnectionError, match="Failed to connect"), started(refused, 5.0):
        raise AssertionError("the block runs after the start only")


def test_an_error_of_the_block_is_not_one_of_the_start() -> None:
    with pytest.raises(ZeroDivisionError), started(lambda: None, 5.0):
        raise ZeroDivisionError


@pytest.mark.skipif(sys.platform != "linux", reason="the parent-death signal is Linux's")
def test_processes_that_die_with_their_thread_live_as_long_as_the_block() -> None:
    children: list[subprocess.Popen[bytes]] = []

    def begin() -> None:  # as Ray starts its own processes
        die_with_parent = ctypes.CDLL(None).prctl
        children.append(subprocess.Popen(["sleep", "30"], preexec_fn=lambda: die_with_parent(1, signal.SIGKILL)))

    with started(begin, 20.0), pytest.raises(subprocess.TimeoutExpired):
        children[0].wait(timeout=0.5)
    assert children[0].wait(timeout=20.0) == -signal.SIGKILL


def _listen(port: int = 0) -> socket.socket:
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(("127.0.0.1", port))
    server.listen(64)
    return server


def _story(*, back_after_s: float | None) -> list[str]:
    said: list[str] = []
    server = _listen()
    port = server.getsockname()[1]
    with watched(f"127.0.0.1:{port}", said.append, poll_s=0.05, deadline_s=1.0):
        time.sleep(0.3)
        server.close()
        time.sleep(3.0 if back_after_s is None else back_after_s)
        if back_after_s is not None:
            server = _listen(port)
            time.sleep(2.0)
    server.close()
    return said


def test_a_lost_head_is_named_with_its_deadline_and_the_next_step() -> None:
    (message,) = _story(back_after_s=None)
    assert "has not answered for 1 s" in message
    assert "Connection refused" in message
    assert "run the same command to resume" in message


def test_a_head_that_comes_back_in_time_is_not_lost() -> None:
    assert _story(back_after_s=0.3) == []


def test_a_head_that_goes_after_the_run_is_nobodys_business() -> None:
    said: list[str] = []
    server = _listen()
    with watched(f"127.0.0.1:{server.getsockname()[1]}", said.append, poll_s=0.05, deadline_s=0.2):
        pass
    server.close()
    time.sleep(0.6)
    assert said == []


def test_an_address_that_never_answered_ends_no_run() -> None:
    said: list[str] = []
    server = _listen()
    port = server.getsockname()[1]
    server.close()
    with watched(f"127.0.0.1:{port}", said.append, poll_s=0.05, deadline_s=0.2):
        time.sleep(1.0)
    assert said == []


@pytest.mark.parametrize(
    ("given", "mode"),
    [
        ({}, None),
        ({"RAY_ADDRESS": "10.0.0.1:6379"}, None),
        ({"RAY_AUTH_TOKEN": "t"}, None),
        ({"RAY_ADDRESS": "10.0.0.1:6379", "RAY_AUTH_TOKEN": "t"}, "token"),
        ({"RAY_ADDRESS": "10.0.0.1:6379", "RAY_AUTH_TOKEN_PATH": "/t"}, "token"),
        ({"RAY_ADDRESS": "10.0.0.1:6379", "RAY_AUTH_TOKEN": "t", "RAY_AUTH_MODE": "disabled"}, "disabled"),
    ],
)
def test_the_token_is_sent_to_a_named_cluster_unless_the_user_says_otherwise(
    given: dict[str, str], mode: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RAY_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ({"HOME": str(tmp_path)} | given).items():
        monkeypatch.setenv(name, value)
    set_environment()
    assert os.environ.get("RAY_AUTH_MODE") == mode
