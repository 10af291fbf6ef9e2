"""Draws docs/staleness.svg: when the engines and the learner work, synchronously and with max_staleness 1.

python docs/staleness.py
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

WIDTH, LEFT, ROW, UNIT = 760, 92, 26, 26
INK, MUTED = "#1f2933", "#6b7785"
VERSIONS = ("#9ec5e8", "#f3c98b", "#a9d8b8", "#d9b8e3", "#e9a9a9")
GENERATE, LEARN, PUBLISH = 5.0, 3.0, 0.4
EPISODES = 4


def box(x: float, y: float, span: float, version: int, text: str) -> str:
    """One piece of work, in the colour of the weights it works with."""
    middle, height = LEFT + (x + span / 2) * UNIT, ROW - 5
    return (
        f'<rect x="{LEFT + x * UNIT:.1f}" y="{y}" width="{span * UNIT:.1f}" height="{height}" rx="2" '
        f'fill="{VERSIONS[version % len(VERSIONS)]}" stroke="#fff"/>'
        f'<text x="{middle:.1f}" y="{y + 15}" text-anchor="middle" fill="{INK}">{text}</text>'
    )


def row(y: float, name: str) -> str:
    """A row's name."""
    return f'<text x="{LEFT - 8}" y="{y + 15}" text-anchor="end" fill="{MUTED}">{name}</text>'


def mark(x: float, top: float, version: int) -> str:
    """A publish."""
    at = LEFT + x * UNIT
    return (
        f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{top - 4}" y2="{top + 2 * ROW}" stroke="{INK}" stroke-dasharray="2 3"/>'
        f'<text x="{at:.1f}" y="{top - 7}" text-anchor="middle" fill="{INK}">v{version}</text>'
    )


def synchronous(top: float) -> list[str]:
    """Engines and learner take turns."""
    parts, now = [row(top, "engines"), row(top + ROW, "learner")], 0.0
    for episode in range(3):
        parts.append(box(now, top, GENERATE, episode, f"episode {episode + 1}"))
        now += GENERATE
        parts.append(box(now, top + ROW, LEARN, episode, f"{episode + 1}"))
        now += LEARN + PUBLISH
        parts.append(mark(now, top, episode + 1))
    return parts


def asynchronous(top: float) -> list[str]:
    """Engines go on; a publish changes the weights (and the colour) under the responses that are being written."""
    parts, learned = [row(top, "engines"), row(top + ROW, "learner")], 0.0
    publishes: list[float] = []
    for episode in range(EPISODES):
        begin = max(learned, GENERATE * (episode + 1))
        learned = begin + LEARN + PUBLISH
        parts.append(box(begin, top + ROW, LEARN, episode, f"{episode + 1}"))
        parts.append(mark(learned, top, episode + 1))
        publishes.append(learned)
    for episode in range(EPISODES + 1):
        begin, end = GENERATE * episode, GENERATE * (episode + 1)
        cuts = [begin, *(p for p in publishes if begin < p < end), end]
        for number, (a, b) in enumerate(pairwise(cuts)):
            version = sum(p <= a for p in publishes)
            parts.append(box(a, top, b - a, version, f"episode {episode + 1}" if number == 0 else ""))
    return parts


def main() -> None:
    tops = (44, 150)
    captions = ("max_staleness: 0. Engines and learner take turns.", "max_staleness: 1. Neither waits for the other.")
    parts = [
        f'<text x="10" y="{top - 26}" fill="{INK}" font-weight="bold">{text}</text>'
        for top, text in zip(tops, captions, strict=True)
    ]
    parts += synchronous(tops[0]) + asynchronous(tops[1])
    parts.append(
        f'<text x="10" y="{tops[1] + 2 * ROW + 22}" fill="{MUTED}">Colours are versions of the weights. '
        "Episode 2 was begun by v0 and goes on with v1: it is one version old when it is learned from.</text>"
    )
    height = tops[1] + 2 * ROW + 34
    picture = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" '
        f'font-size="12"><rect width="{WIDTH}" height="{height}" fill="#fff"/>{"".join(parts)}</svg>\n'
    )
    Path(__file__).with_suffix(".svg").write_text(picture, encoding="utf-8")


if __name__ == "__main__":
    main()
