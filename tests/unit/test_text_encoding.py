"""Files are UTF-8 wherever sailrl runs, and every console takes every text."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("sailrl", "rewards", "data_filters", "benchmarks", "docs", "scripts")
OPENS = {"open": 1, "fdopen": 1, "NamedTemporaryFile": 0}
"""Calls that open text, and where their mode stands among the arguments of the plain function."""


def without_encoding(source: str) -> list[str]:
    """The calls that would read or write text in the encoding of the machine."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or any(keyword.arg == "encoding" for keyword in node.keywords):
            continue
        method = isinstance(node.func, ast.Attribute)
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name in ("read_text", "write_text"):
            found.append(f"line {node.lineno}: {name}")
        elif name in OPENS and ast.unparse(node.func) not in ("os.open", "Image.open"):
            place = 0 if method and name == "open" else OPENS[name]  # path.open(mode)
            modes = [keyword.value for keyword in node.keywords if keyword.arg == "mode"] + node.args[place : place + 1]
            default = "w+b" if name == "NamedTemporaryFile" else "r"
            if "b" not in (ast.unparse(modes[0]) if modes else default):
                found.append(f"line {node.lineno}: {name}")
    return found


def test_every_file_is_opened_as_utf_8() -> None:
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    assert len(files) > 150
    faults = {str(path.relative_to(ROOT)): without_encoding(path.read_text(encoding="utf-8")) for path in files}
    assert {name: found for name, found in faults.items() if found} == {}


@pytest.mark.parametrize(
    ("source", "faults"),
    [
        ("path.read_text()", 1),
        ("path.write_text(text, errors='replace')", 1),
        ("open(path)", 1),
        ("open(path, 'w')", 1),
        ("path.open(mode='a')", 1),
        ("os.fdopen(handle, 'w')", 1),
        ("tempfile.NamedTemporaryFile('w')", 1),
        ("open(path, 'rb'); path.open('wb'); os.fdopen(handle, 'wb'); os.open(path, flags)", 0),
        ("path.open('r+b' if resume else 'wb'); tempfile.NamedTemporaryFile()", 0),
        ("path.read_text(encoding='utf-8'); open(path, 'w', encoding='utf-8')", 0),
    ],
)
def test_the_rule_finds_text_files_and_leaves_bytes_alone(source: str, faults: int) -> None:
    assert len(without_encoding(source)) == faults


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_a_console_that_lacks_a_letter_gets_its_code(encoding: str) -> None:
    program = """
import sys
from rich.console import Console
from sailrl import cli

@cli.app.command("say")
def say() -> None:
    print("8.0% \\u2192 50.0% \\udce9 \\u7b54", flush=True)
    print("\\u2192", file=sys.stderr, flush=True)
    Console().print("rich \\u2192")

sys.argv = ["sailrl", "say"]
cli.main()
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, timeout=60, env={"PYTHONIOENCODING": encoding})
    assert done.returncode == 0, done.stderr
    arrow = "→" if encoding == "utf-8" else "\\u2192"
    assert f"8.0% {arrow} 50.0% \\udce9".encode() in done.stdout
    assert f"rich {arrow}".encode() in done.stdout
    assert arrow.encode() in done.stderr
