from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sailrl.killable import ChildDied, DeadlineExceeded, Killable, inside

T = "tests.unit.killable_targets"


@pytest.fixture
def child() -> Iterator[Callable[..., Killable]]:
    made: list[Killable] = []

    def make(name: str, **kwargs: object) -> Killable:
        made.append(Killable(f"{T}:{name}", **kwargs))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for one in made:
        one.close()


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def dies(pid: int, within_s: float = 5.0) -> bool:
    end = time.monotonic() + within_s
    while alive(pid) and time.monotonic() < end:
        time.sleep(0.02)
    return not alive(pid)


def test_json_values_come_back_as_they_went_in_lone_surrogates_and_null_bytes_included(child) -> None:
    values = ["\ud800 \udfff", "a\x00b\n", 1.5, 10**40, None, True, {"k": [1, {"x": "é"}]}, "x" * 5_000_000]
    assert child("echo").call(*values, deadline_s=5) == values


def test_arguments_that_are_no_json_are_refused_and_the_child_goes_on(child) -> None:
    echo = child("echo")
    with pytest.raises(TypeError):
        echo.call(object(), deadline_s=1)
    assert echo.call(1, deadline_s=1) == [1]


def test_inside_is_true_in_the_child_only(child) -> None:
    assert child("is_inside").call(deadline_s=1) is True
    assert not inside()


@pytest.mark.parametrize("name", ["sleep", "big_power"])
def test_a_call_past_its_deadline_is_killed_and_the_next_call_works(child, name: str) -> None:
    stuck = child(name)
    stuck.ready()
    with pytest.raises(DeadlineExceeded):  # neither would end within this test's life
        stuck.call(*([600] if name == "sleep" else []), deadline_s=0.2)
    if name == "sleep":
        assert stuck.call(0, deadline_s=1) == 0


def test_a_busy_machine_stops_the_clock_of_a_call_but_not_for_ever(child) -> None:
    """Four spinning processes share the one processor of the child, which gets a fifth of it: 0.4 s of work take about
    2 s, and a deadline of 0.8 s in wall time would cut it. At 4 s, five times that, it ends in any case."""
    spin = child("spin")
    spin.ready()
    core = min(os.sched_getaffinity(0))
    os.sched_setaffinity(spin._child._process.pid, {core})
    # Sessions of their own, since Linux may share a processor out among sessions instead of processes.
    spinning = [sys.executable, "-c", "while True: pass"]
    neighbours = [subprocess.Popen(spinning, start_new_session=True) for _ in range(4)]
    try:
        for process in neighbours:
            os.sched_setaffinity(process.pid, {core})
        time.sleep(0.2)
        queued_before = spin._child.queued_s()
        assert spin.call(0.4, deadline_s=0.8) == 0.4
        assert spin._child.queued_s() - queued_before > 0.4  # with the work, past the deadline in wall time
        with pytest.raises(DeadlineExceeded) as caught:  # in the end, although it hardly ran
            spin.call(600, deadline_s=0.1)
        assert caught.value.busy_s < 0.2  # far from the 0.5 s that it would have had alone
    finally:
        for process in neighbours:
            process.kill()
            process.wait()


def test_the_children_of_a_killed_call_die_with_it(child, tmp_path: Path) -> None:
    note = tmp_path / "pids"
    with pytest.raises(DeadlineExceeded):
        child("child_pids_then_hang").call(str(note), deadline_s=1.0)
    assert all(dies(int(pid)) for pid in note.read_text().split())


def test_start_up_time_does_not_count_against_the_deadline(child) -> None:
    assert child("slow_factory", init=[]).call(1, deadline_s=0.3) == [1]


def test_a_start_up_that_never_ends_is_an_error_with_its_own_deadline(child) -> None:
    with pytest.raises(ChildDied, match=r"cannot start: not ready after 0.2 s"):
        child("slow_factory", init=[], startup_s=0.2).ready()


@pytest.mark.parametrize(
    ("name", "args", "reason"),
    [
        ("allocate", [3], "out of memory"),
        ("raise_error", ["no such row"], "raised LookupError: no such row"),
        ("leave", [], "raised SystemExit: 3"),
        ("vanish", [], "exited with code 7"),
        ("crash", [], "killed by SIGSEGV"),
    ],
)
def test_a_call_that_fails_says_why(child, name: str, args: list, reason: str) -> None:
    failing = child(name)
    for _ in range(2):  # the second time on a fresh child
        with pytest.raises(ChildDied) as caught:
            failing.call(*args, deadline_s=5)
        assert caught.value.reason == reason


def test_memory_within_the_cap_is_granted(child) -> None:
    assert child("allocate").call(0.5, deadline_s=5) == 1 << 29
    with pytest.raises(ChildDied, match="out of memory"):
        child("allocate", memory_bytes=1 << 28).call(0.5, deadline_s=5)


def test_a_target_that_does_not_exist_is_named(child) -> None:
    with pytest.raises(ChildDied, match=r"cannot start: AttributeError: .*no_such_function"):
        child("no_such_function").ready()
    with pytest.raises(ChildDied, match="cannot start: ValueError: start is negative"):
        child("Counter", init=[-1]).ready()


def test_what_a_target_prints_does_not_reach_the_answer_or_our_stdout(child, capfd) -> None:
    assert child("chatter").call("hello", deadline_s=2) == "hello"
    out, err = capfd.readouterr()
    assert (out, "hello" in err) == ("", True)


def test_state_lives_until_the_child_is_recycled(child) -> None:
    counter = child("Counter", init=[0], recycle_after=3)
    assert [counter.call(deadline_s=2) for _ in range(7)] == [1, 2, 3, 1, 2, 3, 1]


def test_threads_take_turns_and_waiting_costs_no_deadline(child) -> None:
    one = child("sleep")
    one.ready()
    with ThreadPoolExecutor(5) as threads:  # together 1 s, each alone 0.2 s
        assert list(threads.map(lambda s: one.call(s, deadline_s=0.6), [0.2] * 5)) == [0.2] * 5


def test_a_child_outlives_the_thread_that_caused_it(child) -> None:
    """The parent-death signal follows the thread that started a child, not the process: a pool's thread comes and
    goes."""
    one = child("pid")
    thread = threading.Thread(target=one.ready)
    thread.start()
    thread.join()
    before = one.call(deadline_s=1)
    time.sleep(0.1)
    assert one.call(deadline_s=1) == before


def test_close_kills_the_child_and_later_calls_are_refused(child) -> None:
    one = child("pid")
    pid = one.call(deadline_s=1)
    one.close()
    assert dies(pid)
    with pytest.raises(ChildDied, match="closed"):
        one.call(deadline_s=1)


def test_close_ends_a_call_in_progress_at_once(child) -> None:
    one = child("sleep")
    one.ready()
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(one.call, 600, deadline_s=600)
        time.sleep(0.1)
        one.close()
        with pytest.raises(ChildDied):
            waiting.result(timeout=5)


def test_replacing_children_leaks_no_file_and_no_process(child) -> None:
    one = child("pid", recycle_after=1)
    one.call(deadline_s=2)
    files = len(os.listdir("/proc/self/fd"))
    pids = [one.call(deadline_s=2) for _ in range(5)]
    assert len(set(pids)) == 5
    assert len(os.listdir("/proc/self/fd")) == files
    assert all(dies(pid) for pid in pids)


def test_a_forked_copy_gets_a_child_of_its_own(child) -> None:
    one = child("pid")
    ours = one.call(deadline_s=1)
    read, write = os.pipe()
    if (pid := os.fork()) == 0:
        try:
            os.write(write, str(one.call(deadline_s=5)).encode())
            one.close()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    theirs = int(os.read(read, 100))
    assert theirs != ours
    assert one.call(deadline_s=1) == ours
    assert dies(theirs)


@pytest.mark.parametrize("busy", ["sleep", "big_power", None])
def test_children_die_with_a_parent_that_is_killed(busy: str | None) -> None:
    calls = {"sleep": "k.call(600, deadline_s=600)", "big_power": "k.call(deadline_s=600)", None: "time.sleep(600)"}
    script = f"""
import threading, time
from sailrl.killable import Killable
k = Killable("{T}:{busy or "pid"}")
k.ready()
print(k._child._process.pid, flush=True)
{calls[busy]}
"""
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    time.sleep(0.2)
    assert alive(pid)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    assert dies(pid)
