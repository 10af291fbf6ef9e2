"""Two Ray nodes on this machine, each started in a folder of its own, as two machines of a cluster are."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import psutil
import pytest

from sailrl.demo import tiny_vlm
from tests.integration.conftest import ROOT, wait_until

pytestmark = pytest.mark.slow
BIN = Path(sys.executable).parent
PORT = 6399
CONFIG = """
kind: rlvr
run: {dir: run}
model: {path: model, dtype: float32}
data:
  train: {generate: {use: "sailrl.demo.pictures:rows", args: {count: 16, seed: 2}}}
  max_prompt_tokens: 256
  instruction: ""
  chat_template: template.jinja
rewards: {parts: {boxed: {use: "rewards.boxed:BoxedAnswer", weight: 1.0}}}
batch: {group_size: 2, rollouts_per_episode: 8, rollouts_per_update: 8, passes_per_episode: 1, episodes: 1}
rollout: {max_response_tokens: 16, dynamic_sampling: {enabled: false}, engine: {enforce_eager: true, kv_cache_gib: 1.0}}
learner: {max_tokens_per_microbatch: 1024}
"""


def _started(log: Path) -> bool:
    return "Ray runtime started" in log.read_text()


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Two nodes that ask for a token; the environment of a user who has it."""
    token = tmp_path / "token"
    token.write_text("0123456789abcdef" * 4)
    common = {name: value for name, value in os.environ.items() if name not in ("RAY_AUTH_MODE", "RAY_ADDRESS")}
    common |= {"RAY_AUTH_TOKEN_PATH": str(token), "PYTHONPATH": str(ROOT)}
    ray = [str(BIN / "ray"), "start", "--block", "--num-cpus=1", "--num-gpus=0", "--disable-usage-stats"]
    running: list[subprocess.Popen[bytes]] = []
    try:
        for name, how in (
            ("first", ["--head", f"--port={PORT}", "--include-dashboard=false"]),
            ("second", [f"--address=127.0.0.1:{PORT}"]),
        ):
            (tmp_path / name).mkdir()
            log = tmp_path / f"{name}.log"
            with log.open("wb") as out:
                running.append(
                    subprocess.Popen(
                        [*ray, *how],
                        cwd=tmp_path / name,
                        env=common | {"RAY_AUTH_MODE": "token"},
                        stdout=out,
                        stderr=out,
                        start_new_session=True,
                    )
                )
            wait_until(f"{name} node runs", partial(_started, log), 120)
        yield common | {"RAY_ADDRESS": f"127.0.0.1:{PORT}"}
    finally:
        for process in running:
            started = psutil.Process(process.pid).children(recursive=True)
            for each in (*started, process):
                with suppress(psutil.NoSuchProcess, ProcessLookupError):
                    each.kill()
            process.wait()


def test_relative_paths_hold_on_nodes_that_were_started_elsewhere_and_ask_for_a_token(
    environment: dict[str, str], tmp_path: Path
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    tiny_vlm.build(work / "model")
    (work / "template.jinja").write_text((work / "model" / "chat_template.jinja").read_text())
    (work / "run.yaml").write_text(CONFIG)

    done = subprocess.run(
        [str(BIN / "sailrl"), "run", "run.yaml"], cwd=work, env=environment, capture_output=True, text=True, timeout=300
    )

    assert done.returncode == 0, done.stdout + done.stderr
    checkpoint = work / "run" / "checkpoints" / "episode-000001"
    assert (checkpoint / "model" / "model.safetensors").is_file()
    left_elsewhere = [path for name in ("first", "second") for path in (tmp_path / name).iterdir()]
    assert left_elsewhere == []
