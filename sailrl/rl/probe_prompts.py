"""The prompts on which engines and learner are compared: few tokens, through every part of the model.

An engine that is asked for the log-probabilities of a prompt holds float32 logits of all its tokens, several times:
4 GiB for 1,100 tokens and a vocabulary of 262,144.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Sequence

from sailrl.data.processor import Processor
from sailrl.data.template import Template
from sailrl.plan.memory import PROBE_TOKENS
from sailrl.types import Problem, Prompt

EACH = 96
"""Most tokens of a prompt without an image."""
PICTURE = (96, 64)
"""Width and height in pixels; the model's own limit may enlarge it."""


def probe_prompts(prompts: Sequence[Prompt], template: Template, processor: Processor) -> list[Prompt]:
    """The run's first texts in pieces, and a small picture where there are images: at most ``PROBE_TOKENS`` tokens
    together, unless the picture alone has more. No piece is longer than the longest prompt, so that engines take it.

    Args:
        template: with which the run's prompts were rendered.
    """
    chosen = [_with_picture(template)] if any(prompt.images for prompt in prompts) else []
    left = PROBE_TOKENS - sum(len(prompt.token_ids) for prompt in chosen)
    # One after another, since prompts of a few tokens are possible, and prompts that all begin alike.
    texts = itertools.chain.from_iterable(_behind_images(prompt, processor.image_id) for prompt in prompts)
    ids = list(itertools.islice(texts, max(0, left)))
    size = max(2, min(EACH, max(len(prompt.token_ids) for prompt in prompts)))
    pieces = [ids[first : first + size] for first in range(0, len(ids), size)]
    return chosen + [Prompt(prompts[0].problem, piece, piece) for piece in pieces if len(piece) > 1]


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
