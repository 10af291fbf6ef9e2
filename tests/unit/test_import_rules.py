"""The rules of the house about who may import whom, checked by walking every import, also those inside functions."""

import ast
import resource
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("sailrl", "rewards", "data_filters")
HEAVY = {"torch", "ray", "vllm", "transformers"}
ROOMS = {f"sailrl.{room}" for room in ("rollout", "learner", "sync", "scoring")}
FLOORS = (
    {"types", "errors", "foreign", "killable", "killable_child", "paths", "plugins"},
    {"families"},
    {"algos", "config", "sync"},
    {"plan", "data"},
    {"scoring", "rollout", "learner", "report"},
    {"launch"},
    {"demo", "curate", "sft"},
    {"rl"},
    {"commands"},
    {"cli"},
)
"""The rooms of ``sailrl`` from the ground up: a room imports rooms of lower floors, and never upwards."""
RAY_SHELLS = {"worker", "actor", "pool", "group"}


def imports_of(source: str, module: str, is_package: bool) -> set[str]:
    """Absolute names of all that ``module`` imports; ``from a import b`` counts as ``a`` and ``a.b``.

    Under ``if TYPE_CHECKING`` only our own packages count: nothing is loaded there, yet rooms must not know each other.
    """
    tree = ast.parse(source)
    guarded = [n for n in ast.walk(tree) if isinstance(n, ast.If) and ast.unparse(n.test).endswith("TYPE_CHECKING")]
    unloaded = {id(n) for block in guarded for statement in block.body for n in ast.walk(statement)}
    names: set[str] = set()
    for node in ast.walk(tree):
        found: set[str] = set()
        if isinstance(node, ast.Import):
            found = {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                here = parts[: len(parts) - node.level + is_package]
                base = ".".join([*here, base] if base else here)
            found = {base, *(f"{base}.{alias.name}" for alias in node.names)}
        names |= {name for name in found if id(node) not in unloaded or name.split(".")[0] in PACKAGES}
    return names


def within(name: str, packages: set[str]) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def violations(module: str, names: set[str]) -> list[str]:
    """What ``module`` imports against the rules, one line each."""
    top = module.split(".")[0]
    room = ".".join(module.split(".")[:2])
    ours = {n for n in names if n.split(".")[0] in PACKAGES}
    heavy = {n.split(".")[0] for n in names} & HEAVY
    found: list[str] = []

    def refuse(what: set[str], rule: str) -> None:
        found.extend(f"{module} imports {name}: {rule}" for name in sorted(what))

    if module in ("sailrl.types", "sailrl.errors", "sailrl.killable"):
        refuse(
            {n for n in names if n.split(".")[0] not in sys.stdlib_module_names}, "it imports the standard library only"
        )
    if room == "sailrl.algos":
        outside = {n for n in names if n.split(".")[0] not in sys.stdlib_module_names | {"torch"}}
        refuse({n for n in outside if not within(n, {"sailrl.algos"})} - {"sailrl"}, "algos import torch only")
    if top in ("rewards", "data_filters"):
        allowed = {"sailrl.types", "sailrl.errors", "rewards", "data_filters"}
        allowed |= {"sailrl.killable"} if top == "rewards" else set()
        refuse({n for n in ours if not within(n, allowed)} - {"sailrl"}, f"{top} import types, errors and each other")
        refuse(heavy, f"{top} work without an engine")
    if room in ROOMS:
        refuse({n for n in ours if within(n, ROOMS - {room})}, "rooms never import one another; rl joins them")
    if room == "sailrl.config":
        refuse(heavy, "the configuration is read without torch")
    if top == "sailrl":
        refuse({n for n in ours if within(n, {"rewards"})}, "the YAML names rewards; plugins.py resolves them")
        if room not in ("sailrl.curate", "sailrl.sft"):
            refuse(
                {n for n in ours if within(n, {"data_filters"})}, "filters are plug-ins; only curate and sft build them"
            )
    theirs = room in ("sailrl.rollout", "sailrl.families") and module.split(".")[-1].startswith("vllm_")
    if "vllm" in heavy and not theirs and room != "sailrl.sync":
        refuse({"vllm"}, "vllm lives in rollout/vllm_*.py, sync/ and a family's vllm_*.py")
    if "ray" in heavy and module.split(".")[-1] not in RAY_SHELLS and module != "sailrl.launch.placement":
        refuse({"ray"}, "ray lives in the shells (worker, actor, pool, group) and launch/placement.py")
    return found


def modules() -> list[tuple[str, Path]]:
    files = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    return [(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"), path) for path in files]


@pytest.mark.parametrize(("module", "path"), [pytest.param(m, p, id=m) for m, p in modules()])
def test_every_module_keeps_the_import_rules(module, path):
    found = violations(module, imports_of(path.read_text(), module, path.name == "__init__.py"))
    assert not found, "\n".join(found)


def inner_imports() -> dict[str, set[str]]:
    """The modules of ours that each module imports."""
    everything = dict(modules())
    found = {m: imports_of(path.read_text(), m, path.name == "__init__.py") for m, path in everything.items()}
    return {module: (names & everything.keys()) - {module} for module, names in found.items()}


def room_of(module: str) -> str:
    """``rl`` for ``sailrl.rl.loop``, and nothing for what is not in ``sailrl``."""
    return module.split(".")[1] if module.startswith("sailrl.") else ""


def upwards(module: str, names: set[str]) -> list[str]:
    """The rooms that ``module`` imports from a higher floor, or from its own floor above the ground."""
    floor = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
    room = room_of(module)
    others = {room_of(name) for name in names} - {room, ""}
    return sorted(other for other in others if room and floor[other] >= max(floor[room], 1))


def circle(arrows: dict[str, set[str]]) -> list[str]:
    """Modules that import one another in a circle; empty without one."""
    left = {module: set(names) for module, names in arrows.items()}
    while free := [module for module, names in left.items() if not names & left.keys()]:
        for module in free:
            del left[module]
    return sorted(left)


def test_no_module_imports_upwards_and_none_in_a_circle():
    arrows = inner_imports()
    found = {module: upwards(module, names) for module, names in arrows.items()}
    assert not {module: rooms for module, rooms in found.items() if rooms}
    assert circle(arrows) == []


def test_an_import_upwards_and_a_circle_would_be_seen():
    assert upwards("sailrl.launch.placement", {"sailrl.rl.loop"}) == ["rl"]
    assert upwards("sailrl.rollout.pool", {"sailrl.learner.group"}) == ["learner"]
    assert upwards("sailrl.rl.loop", {"sailrl.launch.placement", "sailrl.rl.session"}) == []
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("sailrl.types", "from sailrl import errors"),
        ("sailrl.killable", "import numpy"),
        ("sailrl.algos.dapo", "from sailrl.config import losses"),
        ("sailrl.algos.dapo", "import transformers"),
        ("sailrl.sync.nccl", "import typing\nif typing.TYPE_CHECKING:\n    import sailrl.rollout.pool"),
        ("rewards.boxed", "def f():\n    import torch"),
        ("rewards.boxed", "from sailrl.scoring import pool"),
        ("data_filters.fusion", "from sailrl.killable import run"),
        ("data_filters.fusion", "import transformers.utils"),
        ("sailrl.rollout.pool", "from ..learner import group"),
        ("sailrl.scoring.run", "import sailrl.rollout.engine"),
        ("sailrl.config.schema", "import torch"),
        ("sailrl.commands.score", "from rewards.boxed import BoxedAnswer"),
        ("sailrl.data.problems", "from data_filters import dedup"),
        ("sailrl.rl.loop", "import ray"),
        ("sailrl.rollout.worker", "import vllm"),
        ("sailrl.families.base", "import vllm"),
        ("sailrl.learner.learner", "from ray import remote"),
    ],
)
def test_the_walk_sees_each_kind_of_violation(module, source):
    assert violations(module, imports_of(source, module, is_package=False))


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("rewards.boxed", "from sailrl.types import Score\nfrom sailrl.killable import run\nfrom . import extract"),
        ("sailrl.types", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import numpy as np"),
        ("sailrl.algos.gspo", "import torch\nfrom sailrl.algos.reduce import masked_sum"),
        ("sailrl.rollout.vllm_engine", "import vllm, torch"),
        ("sailrl.families.sail_vl2.vllm_model", "import vllm"),
        ("sailrl.rollout.worker", "import ray\nfrom .vllm_engine import Engine"),
        ("sailrl.curate.fuse", "from data_filters.fusion import Fusion"),
    ],
)
def test_the_walk_lets_the_permitted_through(module, source):
    assert not violations(module, imports_of(source, module, is_package=False))


def test_the_light_half_loads_no_torch_ray_vllm_or_transformers():
    light = ["sailrl", "sailrl.config", *(m for m, _ in modules() if m.split(".")[0] in ("rewards", "data_filters"))]
    light += [m for m, _ in modules() if m.startswith("sailrl.config")]
    code = f"import sys, {', '.join(sorted(set(light)))}\nprint(*sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_sailrl_help_takes_less_than_half_a_second_of_processor_time():
    def busy_s() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([Path(sys.executable).with_name("sailrl"), "--help"], capture_output=True, timeout=60)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert done.returncode == 0, done.stderr
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(busy_s() for _ in range(3)) < 0.5
