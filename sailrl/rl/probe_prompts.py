"""The prompts on which engines and learner are compared: few tokens, through every part of the model.

An engine that is asked for the log-probabilities of a prompt holds float32 logits of all its tokens, several times:
4 GiB for 1,100 tokens and a vocabulary of 262,144.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

from sailrl.data.processor import Processor
from sailrl.data.template import Template
from sailrl.plan.memory import PROBE_TOKENS
from sailrl.types import Problem, Prompt

EACH = 96
"""Most tokens of a prompt without an image."""
MOST = 8
SHORTEST = 4
PICTURE = (96, 64)
"""Width and height in pixels; the model's own limit may enlarge it."""


def probe_prompts(prompts: Sequence[Prompt], template: Template, processor: Processor) -> list[Prompt]:
    """Beginnings of the run's own texts, and a small picture where there are images: at most ``PROBE_TOKENS`` tokens
    together, unless the picture alone has more.

    Args:
        template: with which the run's prompts were rendered.
    """
    chosen = [_with_picture(template)] if any(prompt.images for prompt in prompts) else []
    left = PROBE_TOKENS - sum(len(prompt.token_ids) for prompt in chosen)
    for prompt in prompts:
        text = _behind_images(prompt, processor.image_id)[: min(EACH, max(0, left))]
        if len(text) >= SHORTEST and len(chosen) < MOST:
            chosen.append(Prompt(prompt.problem, text, text))
            left -= len(text)
    return chosen


def _behind_images(prompt: Prompt, image_id: int | None) -> list[int]:
    """The ids of a prompt, or those behind its last image, which are the same for engine and learner."""
    ids = list(prompt.engine_ids)
    last = max((place for place, i in enumerate(ids) if i == image_id), default=-1)
    return ids[last + 1 :]


def _with_picture(template: Template) -> Prompt:
    from PIL import Image

    across, down = Image.linear_gradient("L"), Image.linear_gradient("L").rotate(90)
    picture = Image.merge("RGB", (across, down, Image.radial_gradient("L"))).resize(PICTURE)
    file = io.BytesIO()
    picture.save(file, "PNG")
    return template.render(Problem(prompt="<image>What is this?", images=(file.getvalue(),), id="probe"))
