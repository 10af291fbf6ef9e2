"""Which options of vLLM a configuration may pass on under ``rollout.engine``: read from the source of vLLM."""

from __future__ import annotations

import ast
import difflib
import functools
import importlib.util
from collections.abc import Iterator
from pathlib import Path

from sailrl.config.complaint import Complaint
from sailrl.config.schema import EngineConfig

OURS = {
    "model": "model.path",
    "tokenizer": "model.path",
    "dtype": "model.dtype",
    "trust_remote_code": "model.trust_remote_code",
    "seed": "run.seed",
    "max_model_len": "data.max_prompt_tokens and rollout.max_response_tokens",
    "max_num_seqs": "rollout.engine.max_concurrent",
    "tensor_parallel_size": "rollout.engine.tensor_parallel",
    "weight_transfer_config": "sync.method",
    "enable_sleep_mode": "placement",
    "enable_return_routed_experts": "learner.routing_replay",
    "limit_mm_per_prompt": "rollout.engine.images_per_prompt",
    "mm_processor_kwargs": "data.min_pixels and data.max_pixels",
    "logprobs_mode": "",
    "worker_extension_cls": "",
    "enable_log_requests": "",
    "disable_log_stats": "",
}
"""Options that sailrl sets itself, and the key that decides on each; empty where nothing else would be right."""


def engine_options_are_known(engine: EngineConfig) -> Iterator[Complaint]:
    """Complains of further keys that are no options of vLLM, or that sailrl sets from other keys."""
    known = vllm_options()
    for name in engine.model_extra or {}:
        if name in OURS:
            key = OURS[name]
            fix = f"Write {key} instead." if key else "Leave it out: no other value works."
            yield Complaint((name,), f"is an option of vLLM that sailrl sets itself. {fix}")
        elif known is not None and name not in known:
            near = difflib.get_close_matches(name, [*known, *EngineConfig.model_fields], n=1)
            fix = f"Did you mean {near[0]}?" if near else "`vllm serve --help=all` lists them."
            yield Complaint((name,), f"is no option of vLLM's AsyncEngineArgs and no key of this section. {fix}")


@functools.cache
def vllm_options() -> frozenset[str] | None:
    """The fields of vLLM's ``AsyncEngineArgs``; None where vLLM is not installed."""
    found = importlib.util.find_spec("vllm")
    if found is None or not found.submodule_search_locations:
        return None
    source = Path(found.submodule_search_locations[0]) / "engine" / "arg_utils.py"
    names = {"EngineArgs", "AsyncEngineArgs"}
    classes = [
        node
        for node in ast.parse(source.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef) and node.name in names
    ]
    fields = (line.target for part in classes for line in part.body if isinstance(line, ast.AnnAssign))
    return frozenset(target.id for target in fields if isinstance(target, ast.Name))
