"""Host memory over 200 updates with new images in each: does it stay where it is?

    python benchmarks/vision_memory.py                      # 200 updates, 800 images of 280 x 280: two minutes
    python benchmarks/vision_memory.py --cached-mb 4000     # negative control: a cache larger than the data only grows

Two processes, as in a run, joined by an image store in a folder: one decodes images, renders prompts and hands out
hashes, the other is the learner, which maps the pixels, processes them and makes an update. No engine is started.

Resident memory is read after every update. It may grow while caches fill, in the first quarter, and must be flat from
then on: goal, at most 5% more at the end than after a quarter. The last line is that ratio, the larger of the two
processes'. Exit code 1 when the goal is missed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

GOAL = 1.05
SIDE, IMAGES_PER_UPDATE, ROLLOUTS_PER_IMAGE = 280, 4, 4


def status_mb(field: str) -> float:
    """``VmRSS`` (resident now) or ``VmHWM`` (its high-water mark) of this process."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"the kernel does not report {field}")


def png(seed: int) -> bytes:
    """A picture that no other seed gives."""
    import io

    from PIL import Image

    coarse = np.random.default_rng(seed).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize((SIDE, SIDE)).save(buffer, "PNG")
    return buffer.getvalue()


def prepare(model: Path, root: Path, updates: int, out: Connection) -> None:
    """Process 1: images into the store, prompts out."""
    from sailrl.config.schema import DataConfig
    from sailrl.data.images import ImageStore
    from sailrl.data.processor import Processor
    from sailrl.data.template import Template
    from sailrl.types import Problem

    data = DataConfig.model_validate({"train": {"path": "unused"}, "instruction": ""})
    store = ImageStore(root)
    template = Template(Processor(model), store, data)
    resident = []
    for update in range(updates):
        numbers = range(update * IMAGES_PER_UPDATE, (update + 1) * IMAGES_PER_UPDATE)
        # A source by its path, as in a data file: bytes are kept by the problems themselves.
        paths = [root.parent / f"{number}.png" for number in numbers]
        for path, number in zip(paths, numbers, strict=True):
            path.write_bytes(png(number))
        prompts = [template.render(Problem(prompt="red discs?", images=[str(path)])) for path in paths]
        out.send([(list(prompt.token_ids), tuple(prompt.images)) for prompt in prompts])
        resident.append(status_mb("VmRSS"))
    out.send(("done", resident, status_mb("VmHWM"), store.decoded))


def learn(model: Path, root: Path, updates: int, cached_mb: int, prompts: Connection, out: Connection) -> None:
    """Process 2: an update on every set of prompts."""
    import torch

    from sailrl.config.losses import Dapo, MismatchConfig
    from sailrl.config.schema import LearnerConfig
    from sailrl.data.batch import Sample
    from sailrl.data.images import ImageStore
    from sailrl.data.processor import Processor
    from sailrl.learner.learner import Learner
    from sailrl.learner.model import Policy
    from sailrl.learner.objective import Objective, UpdateScope
    from sailrl.learner.vision import Vision

    torch.set_num_threads(1)
    processor, store = Processor(model), ImageStore(root)
    vision = Vision(processor, store, cached_bytes=cached_mb << 20)
    policy = Policy(str(model), vision=vision, banned_ids=processor.banned_ids)
    objective = Objective(Dapo(), MismatchConfig(), max_response_tokens=16)
    learner = Learner(policy, objective, LearnerConfig(learning_rate=1e-4, max_tokens_per_microbatch=1024))
    draw = np.random.default_rng(0)
    resident = []
    for _ in range(updates):
        samples = [
            Sample(
                np.asarray(ids, np.int32),
                draw.integers(20, 250, 16).astype(np.int32),
                np.full(16, -5.7, np.float32),
                float(draw.choice([-1.0, 1.0])),
                images,
            )
            for ids, images in prompts.recv()
            for _ in range(ROLLOUTS_PER_IMAGE)
        ]
        learner.set_episode(samples)
        learner.update(range(len(samples)), UpdateScope(16 * len(samples), len(samples), 0.2, 0.28))
        resident.append(status_mb("VmRSS"))
    out.send(("done", resident, status_mb("VmHWM"), store.decoded))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, default=200)
    parser.add_argument("--cached-mb", type=int, default=64, help="the learner's memory for processed images")
    args = parser.parse_args()
    from sailrl.demo import tiny_vlm

    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as scratch:
        model, root = Path(scratch) / "model", Path(scratch) / "images"
        tiny_vlm.build(model)
        prompts_in, prompts_out = spawn.Pipe(duplex=False)
        learned, learned_out = spawn.Pipe(duplex=False)
        relayed, relay = spawn.Pipe(duplex=False)
        started = time.monotonic()
        processes = [
            spawn.Process(target=prepare, args=(model, root, args.updates, prompts_out)),
            spawn.Process(target=learn, args=(model, root, args.updates, args.cached_mb, relayed, learned_out)),
        ]
        for process in processes:
            process.start()
        ends: dict[str, Any] = {}
        for _ in range(args.updates):
            relay.send(prompts_in.recv())
        ends["data"] = prompts_in.recv()
        ends["learner"] = learned.recv()
        for process in processes:
            process.join()
        took = time.monotonic() - started
    images = args.updates * IMAGES_PER_UPDATE
    processed = images * (SIDE // 14) ** 2 * 1176 * 4 / 1e6
    print(f"{args.updates} updates, {images} distinct images ({processed:,.0f} MB once processed) in {took:.0f} s")
    ratios = []
    for name, (_, resident, peak, decoded) in ends.items():
        quarter = resident[len(resident) // 4]
        ratios.append(resident[-1] / quarter)
        print(
            f"{name:8} resident after 1/4: {quarter:,.0f} MB, 1/2: {resident[len(resident) // 2]:,.0f} MB, "
            f"end: {resident[-1]:,.0f} MB; peak {peak:,.0f} MB; images decoded {decoded}"
        )
    print(f"ratio {max(ratios):.3f} (goal at most {GOAL})")
    return 0 if max(ratios) <= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
