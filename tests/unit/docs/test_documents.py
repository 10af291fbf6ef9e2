"""What the documents show is true: commands parse, YAML loads, Python runs, links and paths lead somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from sailrl.cli import app
from sailrl.config.checks import validate
from sailrl.config.load import load
from sailrl.config.yaml_text import parse
from tests.fakes.documents import blocks

ROOT = Path(__file__).parents[3]
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md")),
    *(ROOT / "docs").glob("*.md"),
]
CLI: Any = typer.main.get_command(app)
PACKAGES = ("sailrl", "rewards", "data_filters")
PLACES = ("", "sailrl", "docs")
"""Folders that the paths in documents are relative to."""


def _in_code(document: Path) -> list[str]:
    """Inline code outside of code blocks."""
    text = re.sub(r"^```.*?^```$", "", document.read_text(encoding="utf-8"), flags=re.M | re.S)
    return re.findall(r"`([^`\n]+)`", text)


def _commands(document: Path) -> list[list[str]]:
    """The words of every ``sailrl`` and ``make`` command."""
    lines = [line for _, block in blocks(document, "sh") for line in block.splitlines()]
    words = [
        shlex.split(line, comments=True)
        for line in [*lines, *(c for c in _in_code(document) if " " in c)]
        if line.startswith(("sailrl ", "make "))
    ]
    return [command for command in words if not command[1].isupper()]  # `sailrl COMMAND --help`


def _cases(found: Any) -> list[Any]:
    return [pytest.param(d, item, id=f"{d.name}: {str(item)[:60]}") for d in DOCUMENTS for item in found(d)]


def _parsed(command: list[str]) -> Any:
    """A command's parameters, as the command line itself reads them; it is not run."""
    return CLI.commands[command[1]].make_context(command[1], command[2:]).params


@pytest.mark.parametrize(("document", "command"), _cases(_commands))
def test_a_command_is_one_that_the_program_takes(document: Path, command: list[str]) -> None:
    if command[0] == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)
        assert command[1] in targets
        return
    if len(command) == 2:  # a mention
        assert command[1] in CLI.commands
        return
    given = _parsed(command)
    config = given.get("config")
    if config and (ROOT / config).is_file():
        loaded = load(ROOT / config, given.get("overrides") or [])
        validate(loaded.config, loaded.where)
    elif config:
        assert not str(config).startswith("configs/"), f"there is no {config}"


MINIMAL: dict[str, Any] = {
    "kind": "rlvr",
    "model": {"path": "my/model"},
    "data": {"train": {"path": "problems.jsonl"}},
    "rewards": {"parts": {"boxed": {"use": "rewards.boxed:BoxedAnswer", "weight": 1.0}}},
}
"""What a block that shows one section is put into."""


@pytest.mark.parametrize(("document", "block"), _cases(lambda d: [block for _, block in blocks(d, "yaml")]))
def test_a_block_of_yaml_is_a_configuration_or_a_section_of_one(document: Path, block: str, tmp_path: Path) -> None:
    import yaml

    data, _ = parse(block, document.name)
    if data is None:  # a comment alone
        return
    file = tmp_path / "block.yaml"
    file.write_text(block if "kind" in data else yaml.safe_dump(MINIMAL | data))
    loaded = load(file)
    validate(loaded.config, loaded.where)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_blocks_of_python_run(document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for title, block in blocks(document, "python"):
        if title:
            Path(title).write_text(block)
        exec(compile(block, f"{document.name}: {title}", "exec"), {"__name__": "block"})


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_to_files_and_headings(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith("http"):
            continue
        path, _, anchor = link.partition("#")
        target = document.parent / path if path else document
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.M)
            assert anchor in {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}, link


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_paths_to_files_of_the_project_exist(document: Path) -> None:
    made = (
        "runs/",
        "dist/",
        "site/",
        "checkpoints/",
        "model/",
        "tensorboard/",
        "my",
    )  # by a run, a build or the reader
    names = {path.name for folder in PACKAGES for path in (ROOT / folder).rglob("*.py")}
    for path in _in_code(document):
        if re.fullmatch(r"[\w./-]+/(?:[\w.-]+\.(?:py|md|yaml))?|\w+\.py", path) and not path.startswith(made):
            assert path in names or any((ROOT / place / path).exists() for place in PLACES), path


def test_every_shipped_configuration_is_described() -> None:
    described = _in_code(ROOT / "docs" / "training.md")
    assert {f"configs/{path.name}" for path in (ROOT / "configs").glob("*.yaml")} <= set(described)


def test_a_command_with_an_unknown_option_and_a_section_with_an_unknown_key_are_seen(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="--dta"):
        _parsed(["sailrl", "check", "configs/rlvr_8b.yaml", "--dta"])
    with pytest.raises(Exception, match="batc"):
        test_a_block_of_yaml_is_a_configuration_or_a_section_of_one(ROOT / "README.md", "batc: {}", tmp_path)
