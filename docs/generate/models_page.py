"""``docs/models.md``: the families of models, from their rooms and from the suite that each passes."""

from __future__ import annotations

import ast
from pathlib import Path

from docs.generate.markdown import code, table
from sailrl.families import FAMILIES, UNSUPPORTED
from sailrl.families.packing import PACKABLE
from tests.fakes.family_toys import TOYS

SUITE = Path(__file__).resolve().parents[2] / "tests" / "contract" / "test_families.py"
INTRODUCTION = """\
# Models

A model is recognised by its config.json. Each family has one module in `sailrl/families/` with all that is special
about it. A toy of each kind, built from its configuration with random weights, passes one suite in float32 on a CPU.
No real checkpoint of SAIL-VL2 was loaded so far: names and bytes of its weights are compared with the published index,
tiles with a plain search.
"""
VIDEOS = """\
Videos are shown as frames, one picture each, to every family. SAIL-VL2's AnyRes is not built: neither its code nor its
weights are public.

A language model of text that no row names is trained, too, one sample at a time, if transformers and vLLM both know it
and its logits are its last hidden states times its output layer.
"""


def models_page() -> str:
    """The page."""
    rows = []
    for family in FAMILIES:
        toys = {name: toy for name, toy in TOYS.items() if toy.family == family.title}
        kinds = ", ".join(f"**{name}**" if toy.in_ci else name for name, toy in toys.items())
        rows.append((family.title, "yes" if family.sees else "no", kinds))
    return "\n".join(
        [
            INTRODUCTION,
            table(("family", "pictures", "kinds that pass the suite (bold: with every change)"), rows),
            "## What each of them passes\n",
            *(f"- {sentence}" for sentence in _sentences()),
            "",
            "## Several samples in a row\n",
            "Language models of these kinds compute several samples in one row, where no layer attends to a window. "
            "Others compute one at a time.\n",
            ", ".join(map(code, PACKABLE)) + "\n",
            VIDEOS,
            "## Not supported, and why\n",
            table(("kind", "reason"), ((code(kind), why) for kind, why in UNSUPPORTED.items())),
        ]
    )


def _sentences() -> list[str]:
    """The names of the suite's tests as sentences, but for those that check the suite itself."""
    tree = ast.parse(SUITE.read_text(encoding="utf-8"))
    tests = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]
    about = [test for test in tests if test.args.args and "Negative control" not in (ast.get_docstring(test) or "")]
    return [test.name.removeprefix("test_").replace("_", " ").capitalize() + "." for test in about]
