"""Trackers get every number, a resumed run joins them, and whatever they do wrong stops nothing."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from sailrl.config.complaint import ask
from sailrl.config.load import load
from sailrl.config.needs import NEEDS
from sailrl.errors import ConfigError
from sailrl.report.metrics import MetricsLog
from sailrl.report.trackers import JOINED, OPEN, Trackers

LIBRARY = """
import json, pathlib, os
place = pathlib.Path(__file__).with_name("calls.jsonl")

def note(*what):
    with place.open("a") as file:
        file.write(json.dumps(what) + "\\n")

def init(**arguments):
    note("init", arguments["id"], arguments["resume"], arguments["config"], str(arguments["experiment_name"]))

def log(values, step):
    if values.get("loss") == 13:
        raise RuntimeError("unlucky")
    note("log", step, values)

def finish():
    note("finish")
"""


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A library with SwanLab's functions, which writes down how it is called."""
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "swanlab.py").write_text(LIBRARY)
    monkeypatch.syspath_prepend(tmp_path / "lib")
    yield tmp_path / "lib"
    sys.modules.pop("swanlab", None)


def calls(library: Path) -> list[Any]:
    path = library / "calls.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def opened(folder: Path, said: list[str], *names: str) -> Trackers:
    return Trackers(names, folder, purge_step=0, settings={"kind": "rlvr"}, say=said.append)


def test_a_tracker_gets_the_settings_every_number_and_its_end(library: Path, tmp_path: Path) -> None:
    log = MetricsLog(tmp_path, required=(), trackers=("swanlab",), settings={"kind": "rlvr"})
    log.log(1, {"loss": 0.5, "entropy": float("nan")})
    log.close()
    log.close()
    known = json.loads((tmp_path / JOINED).read_text())["swanlab"]
    assert calls(library) == [
        ["init", known, "allow", {"kind": "rlvr"}, tmp_path.name],
        ["log", 1, {"loss": 0.5}],  # what was not finite is in metrics.jsonl
        ["finish"],
    ]
    assert not (tmp_path / "tensorboard").exists()  # it was not asked for


def test_a_resumed_run_joins_the_same_run(library: Path, tmp_path: Path) -> None:
    for _ in range(2):
        opened(tmp_path, [], "swanlab").close()
    first, second = [call[1] for call in calls(library) if call[0] == "init"]
    assert first == second


def test_a_call_that_fails_is_said_once_and_counted(library: Path, tmp_path: Path) -> None:
    said: list[str] = []
    trackers = opened(tmp_path, said, "swanlab")
    for step, loss in enumerate((13.0, 1.0, 13.0, 13.0)):
        trackers.log(step, {"loss": loss})
    trackers.close()
    assert [call[1] for call in calls(library) if call[0] == "log"] == [1]
    assert said == [
        "the tracker swanlab failed (RuntimeError: unlucky); the run goes on, and metrics.jsonl has all numbers",
        "swanlab: 3 calls failed; metrics.jsonl has all numbers",
    ]


@pytest.mark.parametrize("source", ["import gone_for_ever", "raise SystemExit(1)", "def init(**_): 1 / 0"])
def test_a_library_that_does_not_start_stops_nothing(library: Path, tmp_path: Path, source: str) -> None:
    (library / "swanlab.py").write_text(source)
    said: list[str] = []
    trackers = opened(tmp_path, said, "swanlab", "tensorboard")
    trackers.log(1, {"loss": 1.0})
    trackers.close()
    assert len(said) == 1
    assert "the tracker swanlab failed" in said[0]
    assert list((tmp_path / "tensorboard").iterdir())


def test_a_tracker_that_does_not_come_back_holds_nothing_up(library: Path, tmp_path: Path) -> None:
    (library / "swanlab.py").write_text(
        "import threading\ngate = threading.Event()\n"
        "def init(**_): pass\ndef log(values, step): gate.wait()\ndef finish(): pass\n"
    )
    said: list[str] = []
    trackers = opened(tmp_path, said, "swanlab")
    for step in range(1003):  # one is being sent, 1,000 wait
        trackers.log(step, {"loss": 1.0})
    assert "1,000 lines wait for it" in said[0]
    sys.modules["swanlab"].gate.set()
    trackers.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "tracker-swanlab"]


def test_a_library_that_is_not_installed_names_the_extra(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("kind: sft\nmodel: {path: org/model}\ndata: {train: {path: rows.jsonl}}\n")
    name = next((name for name in OPEN if find_spec(name) is None), None)
    if name is None:
        pytest.skip("all libraries are installed")
    loaded = load(path, [f"run.trackers=[tensorboard, {name}]"])
    (text,) = [text for text in ask(NEEDS, loaded.config, loaded.where) if "trackers" in text]
    assert f"run.trackers.1 is {name}, but the library {name} is not installed" in text
    assert f"pip install 'sailrl[{name}]'" in text
    with pytest.raises(ConfigError, match=r"run\.trackers.*comet"):
        load(path, ["run.trackers=[comet]"])
    path.write_text("kind: fuse\nrun: {trackers: [wandb]}\n")
    with pytest.raises(ConfigError, match="no key `trackers`"):
        load(path)


@pytest.mark.parametrize("name", ["wandb", "mlflow", "trackio", "swanlab"])
def test_the_real_library_takes_a_run_and_its_resume_offline(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(name)
    for variable, value in (
        ("WANDB_MODE", "offline"),
        ("SWANLAB_MODE", "offline"),
        ("TRACKIO_DIR", str(tmp_path / "trackio")),
    ):
        monkeypatch.setenv(variable, value)
    monkeypatch.chdir(tmp_path)
    said: list[str] = []
    for start in range(2):
        trackers = Trackers((name,), tmp_path, purge_step=start, settings={"kind": "rlvr"}, say=said.append)
        trackers.log(start + 1, {"loss": 0.5, "reward/boxed": 0.25})
        trackers.close()
    assert said == []
    assert name in json.loads((tmp_path / JOINED).read_text())
