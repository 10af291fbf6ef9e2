"""Every public function says in a docstring what it does, and which errors of sailrl it raises itself."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from sailrl import errors

ROOT = Path(__file__).parents[3]
CODE = sorted(path for room in ("sailrl", "rewards", "data_filters") for path in (ROOT / room).rglob("*.py"))
OURS = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)}
FORWARD = {"RolloutWorker", "RemoteWorker"}  # their methods pass on a call, which sailrl.rollout.engine describes
NO_METHODS = {"ABC", "BaseModel", "Enum", "Exception", "NamedTuple", "Protocol", "StrEnum", "TypedDict"}
"""Bases from outside of which no method is overridden here."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def _name(base: ast.expr) -> str:
    """``Base`` of ``Base``, ``module.Base`` and ``Base[T]``."""
    if isinstance(base, ast.Subscript):
        base = base.value
    return base.attr if isinstance(base, ast.Attribute) else base.id if isinstance(base, ast.Name) else ""


def _classes(trees: dict[Path, ast.Module]) -> dict[str, ast.ClassDef]:
    return {node.name: node for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}


def _described_by_a_base(method: str, cls: ast.ClassDef, classes: dict[str, ast.ClassDef]) -> bool:
    """Whether a base has the method with a docstring, or is a class of another library."""
    for name in map(_name, cls.bases):
        base = classes.get(name)
        if base is None:
            if name not in NO_METHODS:
                return True
            continue
        own = [node for node in base.body if isinstance(node, Function) and node.name == method]
        if any(map(ast.get_docstring, own)) or _described_by_a_base(method, base, classes):
            return True
    return False


def _functions(body: list[ast.stmt], cls: ast.ClassDef | None = None) -> Iterator[tuple[Function, ast.ClassDef | None]]:
    """The public functions and methods of a module."""
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from _functions(node.body, node)
        elif isinstance(node, Function) and not node.name.startswith("_"):
            yield node, cls


def _raised(function: Function) -> set[str]:
    """The errors of sailrl that the function itself raises, not a function within it."""
    found: set[str] = set()
    open_nodes: list[ast.AST] = list(function.body)
    while open_nodes:
        node = open_nodes.pop()
        if isinstance(node, Function | ast.Lambda | ast.ClassDef):
            continue
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            found |= {_name(node.exc.func)} & OURS
        open_nodes.extend(ast.iter_child_nodes(node))
    return found


def _gaps(tree: ast.Module, classes: dict[str, ast.ClassDef]) -> list[str]:
    gaps = []
    for function, cls in _functions(tree.body):
        text = ast.get_docstring(function) or ""
        place = f"line {function.lineno}: {function.name}"
        if not text:
            described = cls is not None and (
                cls.name in FORWARD
                or f"`{function.name}`" in (ast.get_docstring(cls) or "")
                or _described_by_a_base(function.name, cls, classes)
            )
            bare = isinstance(function.body[0], ast.Expr) and isinstance(function.body[0].value, ast.Constant)
            if not described and not (cls is not None and bare):  # "...": an overload, or a part of a protocol
                gaps.append(f"{place} has no docstring")
            continue
        unnamed = sorted(error for error in _raised(function) if error not in text and "SailError" not in text)
        gaps += [f"{place} raises {error}, which its docstring does not say" for error in unnamed]
    return gaps


TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in CODE}
CLASSES = _classes(TREES)


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_public_functions_say_what_they_do_and_raise(path: Path) -> None:
    assert not _gaps(TREES[path], CLASSES)


def test_a_gap_is_found() -> None:
    source = (
        "class Shape:\n"
        "    def area(self): return 0\n"
        "class Square(Shape):\n"
        "    def area(self): return 1\n"
        "def load(path):\n"
        "    '''Reads a file.'''\n"
        "    raise DataError('no')\n"
    )
    tree = ast.parse(source)
    assert _gaps(tree, _classes({ROOT: tree})) == [
        "line 2: area has no docstring",
        "line 4: area has no docstring",
        "line 5: load raises DataError, which its docstring does not say",
    ]
