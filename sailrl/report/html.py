"""The page about a run: one file without external parts. Text of models is escaped and cannot run as code."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from sailrl.errors import DataError
from sailrl.report.picture import curve_png
from sailrl.report.rollout_index import RolloutIndex, Visit, load_rollouts, spread
from sailrl.report.run_data import RunData, load_run
from sailrl.report.safe_text import safe, safe_lines
from sailrl.report.samples import thumbnails
from sailrl.report.shown import counted, metric, percent
from sailrl.report.traces import prompt_text

REPORT_FILE = "report.html"
SAMPLE_PROBLEMS = 4
SAMPLE_EPISODES = 4
SHOWN_CHARACTERS = 4000
"""Longest piece of a prompt or response on the page."""
SHOWN_IMAGES = 8
HEAT_PROBLEMS = 30
HEAT_EPISODES = 24

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#1f2933;max-width:1180px;margin:2rem auto;padding:0 1rem}
h1{margin-bottom:0}h2{margin-top:2.2rem;border-bottom:1px solid #e4e8ec}img{max-width:100%}
table{border-collapse:collapse;font-size:13px}th,td{padding:.25rem .7rem;text-align:left;vertical-align:top}
th{color:#6b7785;font-weight:600}tr+tr td{border-top:1px solid #eef1f4}
pre{white-space:pre-wrap;overflow-wrap:anywhere;font-size:12.5px;margin:.3rem 0;background:#f6f8fa;padding:.5rem}
.muted{color:#6b7785}.scroll{overflow-x:auto}.samples{table-layout:fixed;width:100%}.good{color:#2c7a4b}.bad{color:#b23a48}
.images img{margin:0 .4rem .2rem 0;border:1px solid #cfd6dd}
.heat td{text-align:center;padding:.15rem .35rem;border:1px solid #fff}
"""
# Even if escaping failed somewhere, the browser may run no script and load nothing.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def write_report(run_dir: Path, out: Path | None = None) -> Path:
    """Writes the page to ``<run_dir>/report.html`` (or ``out``) and returns the path.

    Raises:
        DataError: the folder has neither metrics nor rollouts, or the page cannot be written.
    """
    run, rollouts = load_run(run_dir), load_rollouts(run_dir)
    if not (run.updates or run.evals or rollouts.rollouts):
        raise DataError(
            f"{run_dir} has nothing to report: no metrics.jsonl and no rollouts.jsonl with a whole line. "
            "Give the folder that `sailrl run` printed, once its first update is done."
        )
    return write_page(out or run_dir / REPORT_FILE, page(run, rollouts))


def write_page(path: Path, text: str) -> Path:
    """Writes a page and returns its path. Raises DataError when the disk refuses."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror}. Choose another file with --out.") from error
    return path


def page(run: RunData, rollouts: RolloutIndex) -> str:
    """The whole document."""
    sections = (
        _curves(run),
        "" if run.supervised else _samples(rollouts),
        _rewards(rollouts),
        _groups(rollouts),
        _heat(rollouts),
        _metrics(run),
        _config(run.run_dir),
    )
    return document(run.name, _headline(run, rollouts), sections)


def document(name: str, subtitle: str, sections: Iterable[str]) -> str:
    """A whole page of finished sections under an escaped title."""
    title = _text(name, line=True)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f"<title>{title}</title><style>{STYLE}</style></head><body>"
        f'<h1>{title}</h1><p class="muted">{_text(subtitle, line=True)}</p>{"".join(sections)}</body></html>\n'
    )


def _headline(run: RunData, rollouts: RolloutIndex) -> str:
    return run.headline + (f", {counted(rollouts.rollouts, 'rollout')}" if rollouts.rollouts else "")


def _curves(run: RunData) -> str:
    if not (run.updates or run.evals):
        return section("Curves", remark("No update has finished yet."))
    try:
        picture = curve_png(run.run_dir).read_bytes()
    except ImportError:
        return section("Curves", remark("No picture: matplotlib is not installed (pip install matplotlib)."))
    except OSError as error:
        return section("Curves", remark(f"No picture: {error}"))
    return section("Curves", f'<img alt="curves" src="data:image/png;base64,{base64.b64encode(picture).decode()}">')


def _samples(rollouts: RolloutIndex) -> str:
    if not rollouts.rollouts:
        return section("Sample rollouts", remark("No rollouts were logged."))
    often = [problem for problem in rollouts.most_visited(SAMPLE_PROBLEMS) if len(rollouts.visits[problem]) > 1]
    if often:
        intro = "The same prompts in different episodes: the best and the worst response of each group."
        strips = [
            [
                (episode, rollouts.visits[problem][episode])
                for episode in spread(sorted(rollouts.visits[problem]), SAMPLE_EPISODES)
            ]
            for problem in often
        ]
    else:
        intro = "Every prompt came up once; one from each of several episodes, its best and its worst response."
        first_visits: dict[int, Visit] = {}
        for visits in rollouts.visits.values():
            for episode, visit in visits.items():
                first_visits.setdefault(episode, visit)
        strips = [[(episode, first_visits[episode]) for episode in spread(rollouts.episodes, SAMPLE_EPISODES)]]
    return section("Sample rollouts", remark(intro) + "".join(_strip(rollouts, strip) for strip in strips))


def _strip(rollouts: RolloutIndex, strip: Sequence[tuple[int, Visit]]) -> str:
    heads, cells = [], []
    shown_prompt = None
    for episode, visit in strip:
        group = rollouts.group_at(visit)
        first = group[0]
        outcome = "learned from" if first["kept"] else f"dropped: {first['dropped_reason']}"
        heads.append(
            f"<th>episode {episode}, {percent(visit.accuracy)} correct<br>"
            f'<span class="muted">{_text(outcome, line=True)}</span></th>'
        )
        asked = prompt_text(first["prompt"])
        prompt = "" if asked == shown_prompt else f"{_pre(asked)}{_images(rollouts, first)}{_problem_line(first)}"
        shown_prompt = asked
        ranked = sorted(group, key=lambda line: -1e9 if line["reward"] is None else -line["reward"])
        cells.append(f"<td>{prompt}{''.join(map(_response, spread(ranked, 2)))}</td>")
    return (
        f'<div class="scroll"><table class="samples"><tr>{"".join(heads)}</tr><tr>{"".join(cells)}</tr></table></div>'
    )


def _images(rollouts: RolloutIndex, line: Mapping[str, Any]) -> str:
    shown = thumbnails(rollouts.path.parent, line["image_hashes"][:SHOWN_IMAGES])
    return f'<p class="images">{shown}</p>' if shown else ""


def _problem_line(line: Mapping[str, Any]) -> str:
    images = f", {counted(len(line['image_hashes']), 'image')}" if line["image_hashes"] else ""
    return remark(f"{line['id']}, answer {line['answer']}{images}")


def _response(line: Mapping[str, Any]) -> str:
    accuracy = line["accuracy"]
    kind = "muted" if accuracy is None else "good" if accuracy >= 0.5 else "bad"
    scores = ", ".join(
        f"{name} {metric(score['value']) if score['status'] == 'scored' else score['status']}"
        + (f" ({score['reason']})" if score["reason"] else "")
        for name, score in line["scores"].items()
    )
    facts = f"{line['response_tokens']} tokens, {line['finish_reason']}, advantage {metric(line['advantage'])}"
    return (
        f'<p class="{kind}"><b>reward {metric(line["reward"])}</b> = {_text(scores, line=True)}<br>'
        f'<span class="muted">{_text(facts, line=True)}</span></p>{_pre(line["response"])}'
    )


def _rewards(rollouts: RolloutIndex) -> str:
    if not rollouts.rewards:
        return ""
    first, last = rollouts.episodes[0], rollouts.episodes[-1]
    rows = [
        (
            name,
            metric(tally.mean(first)),
            metric(tally.mean(last)),
            _counts(tally.statuses.most_common()),
            _counts(tally.reasons.most_common(6)),
        )
        for name, tally in rollouts.rewards.items()
    ]
    heads = ("reward", f"mean, episode {first}", f"mean, episode {last}", "status", "most frequent reasons")
    return section("Rewards", table(heads, rows))


def _groups(rollouts: RolloutIndex) -> str:
    total = sum(rollouts.group_fates.values())
    if not total:
        return ""
    rows = [(outcome, f"{count:,}", percent(count / total)) for outcome, count in rollouts.group_fates.most_common()]
    return section("Groups: kept, or why they were dropped", table(("outcome", "groups", "share"), rows))


def _heat(rollouts: RolloutIndex) -> str:
    problems = [problem for problem in rollouts.most_visited(HEAT_PROBLEMS) if len(rollouts.visits[problem]) > 1]
    if not problems:
        return ""
    seen = sorted({episode for problem in problems for episode in rollouts.visits[problem]})
    width = -(-len(seen) // HEAT_EPISODES)
    columns = [seen[start : start + width] for start in range(0, len(seen), width)]
    heads = "".join(f"<th>{column[0]}</th>" for column in columns)
    rows = "".join(
        f"<tr><td style='text-align:left'>{_text(problem[-40:], line=True)}</td>"
        + "".join(
            _heat_cell([rollouts.visits[problem][e] for e in column if e in rollouts.visits[problem]])
            for column in columns
        )
        + "</tr>"
        for problem in sorted(problems)
    )
    intro = remark(
        f"Accuracy in percent of the problems that came up most often; a column is {counted(width, 'episode')}."
    )
    return section(
        "Accuracy per problem",
        f'{intro}<div class="scroll"><table class="heat"><tr><th>problem</th>{heads}</tr>{rows}</table></div>',
    )


def _heat_cell(visits: Sequence[Visit]) -> str:
    scored = sum(visit.scored for visit in visits)
    if not scored:
        return "<td></td>"
    accuracy = sum(visit.correct for visit in visits) / scored
    # Red at 0, nearly white in the middle, green at 1; the number stays readable on all of them.
    hue = 0 if accuracy < 0.5 else 140
    lightness = 97 - 50 * abs(accuracy - 0.5)
    return f'<td style="background:hsl({hue},55%,{lightness:.0f}%)">{100 * accuracy:.0f}</td>'


def _metrics(run: RunData) -> str:
    if not run.updates:
        return ""
    first, last = run.updates[0], run.updates[-1]
    rows = [(key, metric(first.get(key)), metric(value)) for key, value in last.items() if not isinstance(value, dict)]
    return section("Metrics", table(("metric", f"update {first['step']}", f"update {last['step']}"), rows))


def _config(run_dir: Path) -> str:
    path = run_dir / "resolved.yaml"
    if not path.is_file():
        return ""
    text = path.read_text(encoding="utf-8", errors="replace")
    return section("Configuration", f"<details><summary>resolved.yaml</summary>{_pre(text)}</details>")


def section(title: str, content: str) -> str:
    """A section with a heading; ``content`` is HTML."""
    return f"<section><h2>{escape(title)}</h2>{content}</section>"


def remark(text: str) -> str:
    """A line of small text."""
    return f'<p class="muted">{_text(text, line=True)}</p>'


def _pre(text: str) -> str:
    cut = len(text) - SHOWN_CHARACTERS
    rest = f"\n… {cut:,} more characters" if cut > 0 else ""
    return f"<pre>{_text(text[:SHOWN_CHARACTERS])}{rest}</pre>"


def _text(text: str, *, line: bool = False) -> str:
    return escape(safe(text) if line else safe_lines(text))


def _counts(counts: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of texts."""
    head = "".join(f"<th>{_text(text, line=True)}</th>" for text in heads)
    body = "".join("<tr>" + "".join(f"<td>{_text(cell, line=True)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'
