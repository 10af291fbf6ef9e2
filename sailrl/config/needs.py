"""What a configuration needs of the machine it runs on: files, model folders, plug-ins that import."""

from __future__ import annotations

import ctypes
import importlib.util
import inspect
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

from sailrl import plugins
from sailrl.config.base import Plugin, Section
from sailrl.config.benchmarks import BENCHMARKS, missing, place
from sailrl.config.complaint import Complaint, Rule, Rules
from sailrl.config.engine_options import engine_options_are_known
from sailrl.config.evaluation import EvaluateConfig
from sailrl.config.filtering import DecontaminateConfig, FilterConfig
from sailrl.config.fusing import FuseConfig
from sailrl.config.model_files import INDEX, SINGLE, holds_object, read_object, tensor_shapes, weight_files
from sailrl.config.rewards import RewardsConfig
from sailrl.config.schema import (
    PLAIN,
    EngineConfig,
    ModelConfig,
    PromptConfig,
    RlvrConfig,
    RunConfig,
    TrainingRunConfig,
)
from sailrl.config.sft import SftConfig
from sailrl.config.sources import DATASET_KEYS, SourceConfig, is_here, origin
from sailrl.config.yaml_text import Keys
from sailrl.errors import ConfigError, DataError
from sailrl.families import EXAMPLE, family_of, refusal

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_FROM_HERE = "Relative paths start at the folder you run from."


def _files_exist(key: str, *, built_in: str | None = None) -> Rule:
    """The file, or each of the files, that a section names under ``key``; ``built_in`` is no file."""

    def rule(section: Section) -> Iterator[Complaint]:
        given: str | tuple[str, ...] | None = getattr(section, key)
        names: dict[Keys, str] = {}
        if given == built_in:
            return
        if isinstance(given, str):
            names[key,] = given
        else:
            names |= {(key, number): name for number, name in enumerate(given or ())}
        for keys, name in names.items():
            path = Path(name).expanduser()
            if not path.exists():
                yield Complaint(keys, f"is {name!r}, but there is no file {path.absolute()}. {_FROM_HERE}")
            elif path.is_dir():
                yield Complaint(keys, f"is {name!r}, which is a folder. Name one file in it.")

    return rule


def _run_dir_is_a_folder(run: RunConfig) -> Iterator[Complaint]:
    given = Path(run.dir).expanduser() if run.dir else None
    taken = next((path for path in (given, *given.parents) if path.is_file()), None) if given else None
    if taken is not None:
        yield Complaint(("dir",), f"is {run.dir!r}, but {taken} is a file. Name a folder.")


def _source_is_there(source: SourceConfig) -> Iterator[Complaint]:
    """A file or folder is on this machine; what a name on the hub stands for is only known once it is loaded."""
    kind, of = (None, "generate") if source.path is None else (origin(source.path), source.path)
    if source.path == "":
        yield Complaint(("path",), "is empty. Name a file, a folder, or a dataset on the hub.")
    elif source.path is not None and not is_here(source.path):
        path = Path(source.path).expanduser().absolute()
        what = f"no file matches {path}" if kind == "pattern" else f"there is no file {path}"
        yield Complaint(("path",), f"is {source.path!r}, but {what}. {_FROM_HERE}")
    for key in DATASET_KEYS[kind]:
        if getattr(source, key) != SourceConfig.model_fields[key].default:
            yield Complaint((key,), f"is set, but has no meaning for {of}, which is no dataset on the hub. Remove it.")


def local_model(model: ModelConfig) -> Path | None:
    """The model's folder; None when it is built, or named on the hub. A path into a folder that is here is no name."""
    if model.path is None:
        return None
    path = Path(model.path).expanduser()
    parent, slash, _ = model.path.partition("/")
    named = _HUB_NAME.fullmatch(model.path) and not path.exists() and not (slash and Path(parent).is_dir())
    return None if named else path


def model_config(model: ModelConfig) -> dict[str, Any]:
    """What the model's config.json holds, in its folder or in the hub's cache; empty where it is not here."""
    folder = config_folder(model)
    return {} if folder is None else read_object(folder / "config.json")


def config_folder(model: ModelConfig) -> Path | None:
    """The folder with the model's config.json: its own, or one in the hub's cache; None where there is none yet."""
    if model.path is None:
        return None
    local = local_model(model)
    if local is not None:
        return local if (local / "config.json").is_file() else None
    if importlib.util.find_spec("huggingface_hub") is None:
        return None
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(model.path, "config.json")
    return Path(found).parent if isinstance(found, str) else None


Job: TypeAlias = RlvrConfig | SftConfig | FilterConfig | EvaluateConfig
"""The jobs that have a model."""


def models(config: Job) -> Iterator[tuple[Keys, ModelConfig]]:
    """The models of a job and where they are written."""
    if isinstance(config, EvaluateConfig):
        yield from ((("models", name), model) for name, model in config.models.items())
    elif config.model is not None:
        yield ("model",), config.model


def kind_is_supported(config: Job) -> Iterator[Complaint]:
    """Complains of models of a kind that the job cannot use, as far as their config.json is on this machine."""
    for keys, model in models(config):
        why = refusal(model_config(model), trained=isinstance(config, RlvrConfig | SftConfig))
        if why is not None:
            yield Complaint((*keys, "path"), f"is {model.path!r}, {why}")


def model_is_whole(model: ModelConfig) -> Iterator[Complaint]:
    """Complains of missing and truncated files of a local model folder."""
    folder = local_model(model)
    if folder is None:
        return
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        yield Complaint(
            ("path",),
            f"is {model.path!r}, but {folder.absolute()} {what}; a model is a folder in Hugging Face format, or the "
            f"name of one on the hub, like {EXAMPLE}. {_FROM_HERE}",
        )
        return
    base = read_object(folder / "adapter_config.json").get("base_model_name_or_path")
    if base is not None and not (folder / "config.json").is_file():
        out = f"{model.path.rstrip('/')}-merged" if model.path else "FOLDER"
        yield Complaint(
            ("path",),
            f"is {model.path!r}, an adapter of {base} and no model. Merge them: sailrl merge {model.path} --out {out}. "
            "Then name the merged folder here.",
        )
        return
    weights = weight_files(folder) or [f"{SINGLE} or {INDEX}" if any(folder.glob("*.safetensors")) else "*.safetensors"]
    missing = [name for name in ("config.json", *weights) if not (folder / name).is_file()]
    if missing:
        old = " It has *.bin weights: save them as safetensors first." if any(folder.glob("*.bin")) else ""
        yield Complaint(
            ("path",),
            f"is {model.path!r}, but that folder has no {' and no '.join(missing)}. "
            f"A model folder holds config.json and its weights as *.safetensors.{old}",
        )
        return
    if not holds_object(folder / "config.json"):
        yield Complaint(
            ("path",), f"is {model.path!r}, but its config.json holds no JSON object. Copy or download that file again."
        )
        return
    for name in weights:
        try:
            tensor_shapes(folder / name)
        except (DataError, OSError) as error:
            yield Complaint(("path",), f"is {model.path!r}, but {error}. Copy or download that file again.")


def _positions_suffice(config: RlvrConfig | FilterConfig | EvaluateConfig) -> Iterator[Complaint]:
    for _, model in models(config):
        limit = _positions(model_config(model))
        if config.data is None or limit is None:
            continue
        prompt, response = config.data.max_prompt_tokens, config.rollout.max_response_tokens
        if prompt + response > limit:
            yield Complaint(
                ("data", "max_prompt_tokens"),
                f"is {prompt} and rollout.max_response_tokens is {response}, together {prompt + response}, but "
                f"{model.path} has {limit} positions. Write max_prompt_tokens: {max(1, limit - response)}, "
                "or shorten the response.",
            )


def _positions(model: dict[str, Any]) -> int | None:
    """The longest sequence that a model's config.json allows."""
    family = family_of(model)
    text = family.text_config(model) if family else model
    limit = text.get("max_position_embeddings")
    scaling = text.get("rope_scaling") or text.get("rope_parameters")
    if isinstance(limit, int) and isinstance(scaling, dict) and isinstance(scaling.get("factor"), int | float):
        limit = max(limit, int(scaling.get("original_max_position_embeddings", limit) * scaling["factor"]))
    return limit if isinstance(limit, int) else None


def _plugin_loads(plugin: Plugin) -> Iterator[Complaint]:
    try:
        target = plugins.load(plugin.use)
    except ConfigError as error:
        yield Complaint(("use",), f"does not load: {error}")
        return
    try:
        parameters = inspect.signature(target).parameters
    except (TypeError, ValueError):
        return  # not callable, or written in C: building it raises the error
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    for unknown in (name for name in plugin.args if name not in parameters):
        known = ", ".join(parameters) or "no arguments"
        yield Complaint(("args", unknown), f"is no argument of {plugin.use}, which takes {known}.")


def _rewards_build(rewards: RewardsConfig) -> Iterator[Complaint]:
    named: list[tuple[Keys, Plugin, Callable[..., Any]]] = [
        (("parts", name), part, plugins.build_reward) for name, part in rewards.parts.items()
    ]
    for keys, plugin, build in [*named, (("combine",), rewards.combine, plugins.build_callable)]:
        if any(_plugin_loads(plugin)):
            continue  # has its own complaint
        try:
            build(plugin.use, plugin.args)
        except ConfigError as error:
            yield Complaint(keys, f"cannot be used: {error}")


def cuda_devices() -> int:
    """GPUs that CUDA programs may use on this machine, without loading torch."""
    try:
        driver, count = ctypes.CDLL("libcuda.so.1"), ctypes.c_int(0)
        found = driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0
    except (OSError, AttributeError):
        return 0
    return count.value if found else 0


def _direct_sync_has_gpus(config: RlvrConfig) -> Iterator[Complaint]:
    method = config.sync.method
    # With RAY_ADDRESS the GPUs may all be elsewhere; then this is checked when the run starts.
    if method != "disk" and not os.environ.get("RAY_ADDRESS") and not cuda_devices():
        yield Complaint(
            ("sync", "method"),
            f"is {method}, which sends weights from GPU to GPU, but this machine has no GPU that CUDA can use. "
            "Write sync.method=disk, which works everywhere.",
        )


def _engines_return_their_experts(config: RlvrConfig) -> Iterator[Complaint]:
    if config.learner.routing_replay == "r3" and not os.environ.get("RAY_ADDRESS") and not cuda_devices():
        yield Complaint(
            ("learner", "routing_replay"),
            "is r3, which replays the experts that the engine chose, but this machine has no GPU that CUDA can use and "
            "vLLM returns them on GPUs only (its Model Runner V2). Write routing_replay: r2, which replays the old "
            "policy's own choice, or none with GSPO, which needs no replay.",
        )


def _benchmarks_are_here(config: EvaluateConfig | DecontaminateConfig) -> Iterator[Complaint]:
    folder = Path(config.benchmarks_folder).expanduser()
    for number, name in enumerate(config.benchmarks):
        if name in BENCHMARKS and place(name, folder) is None:
            yield Complaint(("benchmarks", number), f"is {missing(name, folder)}")


def _trackers_are_installed(run: TrainingRunConfig) -> Iterator[Complaint]:
    for number, name in enumerate(run.trackers):
        if importlib.util.find_spec(name) is None:
            extra = "train" if name == "tensorboard" else name
            yield Complaint(
                ("trackers", number),
                f"is {name}, but the library {name} is not installed. Run pip install 'sailrl[{extra}]', or leave "
                "the tracker out.",
            )


FILES: Rules = [
    (EvaluateConfig, _benchmarks_are_here),
    (DecontaminateConfig, _benchmarks_are_here),
    (RunConfig, _run_dir_is_a_folder),
    (ModelConfig, model_is_whole),
    (SourceConfig, _source_is_there),
    (PromptConfig, _files_exist("chat_template", built_in=PLAIN)),
    (FilterConfig, _files_exist("scored")),
    (DecontaminateConfig, _files_exist("files")),
    (FuseConfig, _files_exist("cot")),
]
"""Files that must be on this machine."""
GPUS: Rules = [
    (RlvrConfig, _direct_sync_has_gpus),
    (RlvrConfig, _engines_return_their_experts),
]
"""What only a machine with GPUs can do."""
REST: Rules = [
    (RlvrConfig, kind_is_supported),
    (SftConfig, kind_is_supported),
    (FilterConfig, kind_is_supported),
    (EvaluateConfig, kind_is_supported),
    (Plugin, _plugin_loads),
    (RewardsConfig, _rewards_build),
    (RlvrConfig, _positions_suffice),
    (FilterConfig, _positions_suffice),
    (EvaluateConfig, _positions_suffice),
    (EngineConfig, engine_options_are_known),
    (TrainingRunConfig, _trackers_are_installed),
]
NEEDS: Rules = [*FILES, *REST, *GPUS]
