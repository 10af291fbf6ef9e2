"""Memory and time of the tiled output head beside the plain way and TRL's chunked one, on CPU in float32.

    python benchmarks/head_memory.py                # 16,384 tokens x 151,936 vocabulary, hidden 64: a few minutes
    python benchmarks/head_memory.py --tokens 2048 --vocab 20000 --common 1024      # seconds

Memory: every variant runs forward and backward in a process of its own. Its peak extra memory is how far the process's
resident high-water mark (VmHWM) rises above what was resident before, with inputs, parameters and thread pools in
place; gradients count as extra. The plain way does not fit at the full size on an ordinary machine, so it is measured
at ``--common`` tokens and scaled to the full size by the number of logits.

Time and error: at ``--common`` tokens, in one process, the variants in turn, each one's best round. Time is processor
seconds on one thread: on a shared machine wall time measures the neighbours, too (it is shown for the memory runs).

Goals: at most 0.6 GB extra at the full size; at most 1.3 times the plain way's time; error below 1e-5. The last line is
the ratio of peak extra memory, ours over plain, at the full size. Exit code 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

Head = Callable[[Tensor, Tensor, Tensor], Tensor]

MEMORY_GOAL_GB = 0.6
TIME_GOAL = 1.3
ERROR_GOAL = 1e-5


def ours() -> Head:
    from sailrl.algos.logprobs import token_logprobs

    return lambda hidden, weight, targets: token_logprobs(hidden, weight, targets)[0]


def plain() -> Head:
    def head(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        # No entropy here, which the other two compute as well: the comparison favours the plain way.
        return (hidden @ weight.t()).log_softmax(dim=-1).gather(1, targets[:, None]).squeeze(1)

    return head


def trl() -> Head:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from trl.kernels.chunked_logprob import ChunkedLogProbFunction

    def head(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        # 1,024 vocabulary entries per tile was its best of 1,024, 4,096 and 8,192.
        return ChunkedLogProbFunction.apply(hidden, weight, None, targets, 1.0, 1024, None, 1.0, ("entropy",))[0]

    return head


VARIANTS: dict[str, Callable[[], Head]] = {"ours": ours, "plain": plain, "trl": trl}


def status_bytes(field: str) -> int:
    """``VmRSS`` (resident now) or ``VmHWM`` (its high-water mark; the kernel keeps it, so sampling misses no peak)."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"no {field} in /proc/self/status: this benchmark needs Linux")


class Task:
    """One batch and its forward and backward through a head."""

    def __init__(self, tokens: int, vocab: int, hidden_size: int) -> None:
        draw = torch.Generator().manual_seed(0)
        self.hidden = torch.randn(tokens, hidden_size, generator=draw).requires_grad_()
        self.weight = torch.randn(vocab, hidden_size, generator=draw).mul_(2 / hidden_size**0.5).requires_grad_()
        self.targets = torch.randint(0, vocab, (tokens,), generator=draw)
        self.slope = torch.randn(tokens, generator=draw)

    def run(self, head: Head) -> tuple[Tensor, Tensor, Tensor]:
        """``(logp, gradient of hidden, gradient of weight)``."""
        logp = head(self.hidden, self.weight, self.targets)
        d_hidden, d_weight = torch.autograd.grad((logp * self.slope).sum(), (self.hidden, self.weight))
        return logp.detach(), d_hidden, d_weight


def child(variant: str, tokens: int, vocab: int, hidden_size: int) -> None:
    """Runs one variant once and prints ``{"extra": bytes, "seconds": wall time}``."""
    head = VARIANTS[variant]()
    task = Task(tokens, vocab, hidden_size)
    Task(8, 64, hidden_size).run(head)  # thread pools and lazy imports are not the head's memory
    before, start = status_bytes("VmRSS"), time.perf_counter()
    task.run(head)
    print(json.dumps({"extra": status_bytes("VmHWM") - before, "seconds": time.perf_counter() - start}))


def measure(variant: str, tokens: int, args: argparse.Namespace) -> dict[str, float]:
    command = [sys.executable, __file__, "--child", variant, "--tokens", str(tokens), "--vocab", str(args.vocab)]
    done = subprocess.run([*command, "--hidden", str(args.hidden)], stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, float] = json.loads(done.stdout)
    return result


def compare(names: list[str], args: argparse.Namespace) -> tuple[dict[str, float], dict[str, float]]:
    """Best processor time (s, one thread) of each variant at the common size, and its error against the plain way."""
    torch.set_num_threads(1)
    heads, task = {name: VARIANTS[name]() for name in names}, Task(args.common, args.vocab, args.hidden)
    seconds = {name: float("inf") for name in names}
    for _ in range(args.repeats):
        for name in names:
            start = time.process_time()
            task.run(heads[name])
            seconds[name] = min(seconds[name], time.process_time() - start)
    expected = task.run(heads["plain"])
    return seconds, {name: largest_error(task.run(heads[name]), expected) for name in names}


def largest_error(found: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> float:
    """Largest difference of log-probabilities (nats) and of gradients (relative to their largest entry)."""
    errors = [float((found[0] - expected[0]).abs().max())]
    errors += [float((f - e).abs().max() / e.abs().max()) for f, e in zip(found[1:], expected[1:], strict=True)]
    return max(errors)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=16384)
    parser.add_argument("--vocab", type=int, default=151936)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--common", type=int, default=2048, help="tokens at which the plain way fits")
    parser.add_argument("--repeats", type=int, default=3, help="rounds at the common size")
    parser.add_argument("--child", choices=sorted(VARIANTS), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(args.child, args.tokens, args.vocab, args.hidden)
        return 0
    names = ["ours", "plain"]
    try:
        trl()
        names.append("trl")
    except ImportError:
        print("trl is not installed; its head is left out")
    print(f"vocabulary {args.vocab:,}, hidden {args.hidden}, float32, {torch.get_num_threads()} threads")

    alone = {name: measure(name, args.common, args) for name in names}
    seconds, errors = compare(names, args)
    print(f"\n{args.common:,} tokens (one matrix of logits: {args.common * args.vocab * 4 / 1e9:.2f} GB)")
    for name in names:
        wall, gb = alone[name]["seconds"], alone[name]["extra"] / 1e9
        print(f"  {name:6} {seconds[name]:7.2f} s cpu {wall:7.2f} s wall {gb:8.3f} GB extra   error {errors[name]:.1e}")

    full = measure("ours", args.tokens, args)
    full_gb, plain_gb = full["extra"] / 1e9, alone["plain"]["extra"] / 1e9 * args.tokens / args.common
    print(f"\n{args.tokens:,} tokens (one matrix of logits: {args.tokens * args.vocab * 4 / 1e9:.2f} GB)")
    print(f"  ours   {full['seconds']:7.2f} s wall {full_gb:8.3f} GB extra")
    print(f"  plain  {'':14} {plain_gb:8.3f} GB extra, scaled from {args.common:,} tokens\n")

    time_ratio = seconds["ours"] / seconds["plain"]
    goals = [
        (f"extra memory {full_gb:.3f} GB, goal {MEMORY_GOAL_GB}", full_gb <= MEMORY_GOAL_GB),
        (f"time ours / plain {time_ratio:.2f}, goal {TIME_GOAL}", time_ratio <= TIME_GOAL),
        (f"error {errors['ours']:.1e}, goal {ERROR_GOAL}", errors["ours"] < ERROR_GOAL),
    ]
    for text, met in goals:
        print(f"{'met   ' if met else 'MISSED'} {text}")
    print(f"memory ratio ours / plain: {full_gb / plain_gb:.4f}")
    return 0 if all(met for _, met in goals) else 1


if __name__ == "__main__":
    sys.exit(main())
