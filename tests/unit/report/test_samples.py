"""Images beside the curve and on the page: what was seen, what was said, and nothing that can act."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from sailrl.data.images import FOLDER, ImageStore
from sailrl.report.html import write_report
from sailrl.report.picture import curve_png
from sailrl.report.samples import THUMBNAIL, ShownGroup, load_samples
from sailrl.report.traces import ROLLOUTS_FILE, RolloutLog
from sailrl.types import Completion, Group, Problem, Prompt, Rollout, Score

HOSTILE = "</pre><script>alert(1)</script> $\\frac{ \x1b[31m 漢字"


def _png(colour: str, size: tuple[int, int] = (84, 84)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def _log(
    run: Path,
    *asked: tuple[str, str],
    episode: int = 1,
    rewards: tuple[float | None, ...] = (0.0, 1.0, 0.5),
    response: str = "\\boxed{1}",
    digest: str | None = None,
) -> None:
    """Appends a group for each ``(question, colour of its image)``."""
    store, log = ImageStore(run / FOLDER), RolloutLog(run, accuracy="boxed", resume_at=_end(run))
    for index, (question, colour) in enumerate(asked):
        name = store.add(_png(colour)) if digest is None else digest
        rollouts = [
            Rollout(Completion([5], [-0.5], response, "stop", 0), {"boxed": Score(0.0, reason="exact")}, reward=reward)
            for reward in rewards
        ]
        problem = Problem(prompt=question, answer="1", id=f"p{episode}-{index}")
        group = Group(Prompt(problem, [1], [1], (name,)), rollouts)
        log.log(group, episode=episode, step=0, version=0, index=index)
    log.close()


def _end(run: Path) -> dict[str, int] | None:
    path = run / ROLLOUTS_FILE
    return {"bytes": path.stat().st_size} if path.is_file() else None


def _shown(samples: list[ShownGroup]) -> list[tuple[str, tuple[int, ...]]]:
    return [(sample.prompt, sample.image.getpixel((0, 0))) for sample in samples]


def test_samples_are_of_the_last_episode_and_of_different_questions(tmp_path: Path) -> None:
    _log(tmp_path, ("old?", "black"), episode=1)
    _log(tmp_path, ("count?", "red"), ("count?", "blue"), ("read?", "lime"), episode=2)
    red, lime, blue = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    assert _shown(load_samples(tmp_path, 2)) == [("count?", red), ("read?", lime)]
    assert _shown(load_samples(tmp_path, 3)) == [("count?", red), ("read?", lime), ("count?", blue)]


def test_a_sample_shows_the_best_and_the_worst_rollout(tmp_path: Path) -> None:
    _log(tmp_path, ("?", "red"), rewards=(0.5, None, 1.0, 0.0))
    (sample,) = load_samples(tmp_path, 3)
    assert [line["reward"] for line in sample.rollouts] == [1.0, 0.0]


@pytest.mark.parametrize(("rewards", "shown"), [((1.0, 1.0), [1.0]), ((None, None), [None])])
def test_rollouts_that_are_alike_are_shown_once(
    tmp_path: Path, rewards: tuple[float | None, ...], shown: list[float | None]
) -> None:
    _log(tmp_path, ("?", "red"), rewards=rewards)
    (sample,) = load_samples(tmp_path, 3)
    assert [line["reward"] for line in sample.rollouts] == shown


def test_a_run_without_images_has_no_samples(tmp_path: Path, make_run: Callable[..., Path]) -> None:
    run = make_run(tmp_path / "run")
    assert load_samples(run, 3) == []
    assert not (run / FOLDER).exists()


def test_the_picture_grows_by_the_samples(tmp_path: Path, make_run: Callable[..., Path]) -> None:
    run = make_run(tmp_path / "run")
    plain = Image.open(curve_png(run)).size
    _log(run, ("count?", "red"), episode=3)
    wide = Image.open(curve_png(run))
    assert wide.size[1] == plain[1]
    assert wide.size[0] > plain[0]
    pixels = wide.convert("RGB").crop((plain[0], 0, *wide.size)).getcolors(1 << 20)
    assert pixels is not None
    assert (255, 0, 0) in {colour for _, colour in pixels}


@pytest.mark.filterwarnings("error")
def test_what_a_model_wrote_cannot_break_the_picture(tmp_path: Path, make_run: Callable[..., Path]) -> None:
    run = make_run(tmp_path / "run")
    _log(run, (HOSTILE * 20, "red"), episode=3, response=HOSTILE * 200)
    assert curve_png(run).is_file()


def test_the_page_holds_the_images_of_its_samples(tmp_path: Path, make_run: Callable[..., Path]) -> None:
    run = make_run(tmp_path / "run", same_problem=False)
    _log(run, (HOSTILE, "red"), episode=3, response=HOSTILE)
    page = write_report(run).read_text(encoding="utf-8")
    assert "<script" not in page
    found = re.findall(r'<img alt="image 1" src="data:image/png;base64,([^"]+)">', page)
    assert [Image.open(io.BytesIO(base64.b64decode(png))).getpixel((0, 0)) for png in found] == [(255, 0, 0)]


def test_large_images_are_made_small_for_the_page(tmp_path: Path) -> None:
    ImageStore(tmp_path / FOLDER).add(_png("red", (2000, 500)))
    (digest,) = [path.name for path in (tmp_path / FOLDER / "encoded").iterdir()]
    _log(tmp_path, ("?", "red"), digest=digest)
    (sample,) = load_samples(tmp_path, 1)
    assert sample.image.size == (THUMBNAIL, THUMBNAIL // 4)


@pytest.mark.parametrize("digest", ["../../../etc/passwd", "f" * 64, "", "x" * 64])
def test_a_name_that_is_no_hash_or_not_there_is_no_image(
    tmp_path: Path, make_run: Callable[..., Path], digest: str
) -> None:
    run = make_run(tmp_path / "run", same_problem=False)
    _log(run, ("?", "red"), episode=3, digest=digest)
    assert load_samples(run, 3) == []
    assert "image 1" not in write_report(run).read_text(encoding="utf-8")


def test_a_broken_or_half_written_line_spoils_nothing(tmp_path: Path) -> None:
    _log(tmp_path, ("count?", "red"))
    with (tmp_path / ROLLOUTS_FILE).open("ab") as file:
        file.write(b'{"episode": 7, "group"')
    assert len(load_samples(tmp_path, 3)) == 1
