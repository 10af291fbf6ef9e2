"""The page about a run: complete, self-contained, and deaf to what a model wrote."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from sailrl.errors import DataError
from sailrl.report.html import write_report
from sailrl.report.rollout_index import load_rollouts, spread

HOSTILE = '</pre><script>alert("x")</script><img src=x onerror=alert(1)>\x1b[31m\u202e half \ud83d'


class Elements(HTMLParser):
    """Collects what a browser would act on."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs


def test_a_script_in_a_response_is_text_on_the_page(tmp_path: Path, make_run: Callable[..., Path]) -> None:
    page = write_report(make_run(tmp_path / "run", response=HOSTILE)).read_text(encoding="utf-8")
    assert "&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt;" in page
    elements = Elements(page)
    assert "script" not in elements.tags
    assert not [name for name, _ in elements.attributes if name.startswith("on")]
    assert "\x1b" not in page
    assert "\\u202e" in page
    assert "script" in Elements(HOSTILE).tags  # what the parser says of the bare response


def test_hostile_names_and_configs_are_escaped_too(tmp_path: Path, make_run: Callable[..., Path]) -> None:
    run = make_run(tmp_path / "<script>$x_{$")  # the dollars would be a broken formula in the picture's title
    (run / "resolved.yaml").write_text("a: </pre><script>1</script>")
    elements = Elements(write_report(run).read_text(encoding="utf-8"))
    assert "script" not in elements.tags


def test_the_page_loads_nothing_from_outside(tmp_path: Path, make_run: Callable[..., Path]) -> None:
    elements = Elements(write_report(make_run(tmp_path / "run")).read_text(encoding="utf-8"))
    sources = [value or "" for name, value in elements.attributes if name in ("src", "href")]
    assert sources
    assert all(source.startswith("data:image/png;base64,") for source in sources)


def test_the_page_tells_the_climb_the_drops_and_both_episodes_of_a_prompt(
    tmp_path: Path, make_run: Callable[..., Path]
) -> None:
    page = write_report(make_run(tmp_path / "run")).read_text(encoding="utf-8")
    assert "8.0% → 50.0% (+42.0 points), 2 updates in 1 min 20 s, 4 rollouts" in page
    assert "episode 1, 50.0% correct" in page
    assert "episode 2, 50.0% correct" in page
    assert page.count("What is 1+1?") == 1  # side by side, the prompt once
    assert re.search(r"<td>all_wrong</td><td>1</td><td>50.0%</td>", page)
    assert "Accuracy per problem" in page


def test_problems_that_came_up_once_are_shown_without_a_heat_map(tmp_path: Path, make_run: Callable[..., Path]) -> None:
    page = write_report(make_run(tmp_path / "run", same_problem=False)).read_text(encoding="utf-8")
    assert "Every prompt came up once" in page
    assert "Accuracy per problem" not in page


@pytest.mark.parametrize("missing", ["metrics.jsonl", "rollouts.jsonl"])
def test_half_a_run_folder_is_enough(tmp_path: Path, make_run: Callable[..., Path], missing: str) -> None:
    run = make_run(tmp_path / "run")
    (run / missing).unlink()
    assert write_report(run, tmp_path / "page.html").is_file()


def test_a_run_killed_in_the_middle_of_a_line_can_be_reported(tmp_path: Path, make_run: Callable[..., Path]) -> None:
    run = make_run(tmp_path / "run")
    for name in ("metrics.jsonl", "rollouts.jsonl"):
        path = run / name
        path.write_bytes(path.read_bytes()[:-20])
    assert "3 rollouts" in write_report(run).read_text(encoding="utf-8")


def test_a_folder_with_nothing_in_it_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing to report"):
        write_report(tmp_path)
    with pytest.raises(DataError, match="there is no run folder"):
        write_report(tmp_path / "absent")


def test_a_log_line_without_its_fields_is_named(tmp_path: Path) -> None:
    (tmp_path / "rollouts.jsonl").write_text(json.dumps({"response": "2"}) + "\n")
    with pytest.raises(DataError, match=r"rollouts\.jsonl.*lacks 'episode'"):
        load_rollouts(tmp_path)


def test_the_command_prints_the_page_s_path_and_a_user_s_mistake_is_exit_code_2(
    tmp_path: Path, make_run: Callable[..., Path]
) -> None:
    run = make_run(tmp_path / "run")
    sailrl = [sys.executable, "-c", "from sailrl.cli import main; main()", "report"]
    done = subprocess.run([*sailrl, str(run)], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, str(run / "report.html"))
    wrong = subprocess.run([*sailrl, str(tmp_path / "absent")], capture_output=True, text=True)
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("error: there is no run folder")
    assert "Traceback" not in wrong.stderr


def test_spread_takes_the_ends_and_what_lies_evenly_between() -> None:
    assert spread(range(10), 4) == [0, 3, 6, 9]
    assert spread([1, 2], 4) == [1, 2]
