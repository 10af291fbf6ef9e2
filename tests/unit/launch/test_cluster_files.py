"""The files under ``launch/``: Slurm's script is run with stand-ins for Slurm and Ray, the others are checked."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from sailrl.config.load import load_config

ROOT = Path(__file__).parents[3]
LAUNCH = ROOT / "launch"

STAND_INS = {
    "scontrol": "printf 'node-a\\nnode-b\\n'",
    # One process per node, with the environment of the job and the number of the node.
    "srun": 'trap "kill \\$(jobs -p)" TERM\nwhile [ "${1#--}" != "$1" ]; do shift; done\n'
    'for id in $(seq 0 $((SLURM_NNODES - 1))); do SLURM_NODEID=$id "$@" & done; wait',
    # Ray lists a node for each start; before the first it fails.
    "ray": 'echo "ray $* mode=$RAY_AUTH_MODE token=$RAY_AUTH_TOKEN" >> "$CALLS"\n'
    'if [ "$1" = status ]; then grep "^ray start" "$CALLS" | sed "s/.*/ 1 node_x/" | grep .; else exec sleep 30; fi',
    "sailrl": 'echo "sailrl $* at=$RAY_ADDRESS token=$RAY_AUTH_TOKEN" >> "$CALLS"; exit 3',
}


@pytest.mark.parametrize("nodes", [1, 2])
def test_slurms_script_starts_one_cluster_with_one_token_and_one_run(tmp_path: Path, nodes: int) -> None:
    for name, source in STAND_INS.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{source}\n")
        (tmp_path / name).chmod(0o755)
    calls = tmp_path / "calls"
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "CALLS": str(calls),
        "SLURM_NNODES": str(nodes),
        "SLURM_JOB_NODELIST": "node-[a-b]",
    }
    command = ["bash", str(LAUNCH / "slurm.sbatch"), "configs/rlvr_8b.yaml", "run.dir=/shared/a b"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    lines = calls.read_text().splitlines()
    (run,) = [line for line in lines if line.startswith("sailrl")]
    assert run.startswith("sailrl run configs/rlvr_8b.yaml run.dir=/shared/a b at=node-a:6379 token=")
    heads = [line for line in lines if line.startswith("ray start --block --head --port=6379 mode=token")]
    others = [line for line in lines if line.startswith("ray start --block --address=node-a:6379 mode=token")]
    assert (len(heads), len(others)) == (1, nodes - 1)
    tokens = {line.rpartition("token=")[2] for line in lines}
    assert len(tokens) == 1
    assert len(tokens.pop()) == 64
    assert done.returncode == 3, done.stderr  # the run's own


@pytest.mark.parametrize("name", ["kuberay.yaml", "skypilot.yaml"])
def test_a_cluster_file_is_yaml_with_a_token_and_a_run_on_a_shared_disk(name: str) -> None:
    text = (LAUNCH / name).read_text()
    data = yaml.safe_load(text)
    command = data["spec"]["entrypoint"] if name == "kuberay.yaml" else data["run"].splitlines()[-1]
    config, run_dir = command.partition("sailrl run ")[2].split()
    load_config(ROOT / config, [run_dir])
    assert run_dir.startswith("run.dir=/shared/")
    assert "/shared" in text.replace(run_dir, "")  # where it is mounted
    assert "token" in text
    if name == "kuberay.yaml":
        assert data["spec"]["rayClusterSpec"]["authOptions"] == {"mode": "token"}
    else:
        assert subprocess.run(["bash", "-n", "-c", data["run"]], timeout=10).returncode == 0
        assert data["secrets"] == {"RAY_AUTH_TOKEN": None}  # given on the command line, never in a file


@pytest.mark.parametrize("name", ["Dockerfile.cpu", "Dockerfile.gpu"])
def test_an_image_installs_extras_that_exist_and_copies_no_secret(name: str) -> None:
    text = (LAUNCH / name).read_text()
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (found,) = re.findall(r"-e '\.\[([\w,]+)\]'", text)
    assert set(found.split(",")) <= extras.keys()
    instructions = {line.split()[0] for line in text.splitlines() if re.match(r"[A-Z]+ ", line)}
    assert instructions <= {"FROM", "RUN", "ENV", "WORKDIR", "COPY", "CMD", "ENTRYPOINT"}
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert {".git", ".venv", "runs"} <= set(ignored)


def test_the_page_names_every_file_and_each_command_names_files_that_exist() -> None:
    page = (LAUNCH / "README.md").read_text()
    named = set(re.findall(r"^\| `([\w.]+)` \|", page, re.M))
    assert named == {path.name for path in LAUNCH.iterdir()} - {"README.md"}
    for command in re.findall(r"\| `([^`|]+ [^`|]+)`", page):
        files = [word for word in shlex.split(command) if word.startswith(("launch/", "configs/"))]
        assert files
        assert all((ROOT / file).is_file() for file in files)
