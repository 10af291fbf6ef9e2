"""Bytes that a run takes, from the shape of its model: one small formula per part, no torch.

They follow what the learner does: FSDP2 over all ranks with float32 master weights, gradients and AdamW moments;
compute copies in ``model.dtype`` gathered a layer at a time; packed micro-batches; the tiled head of
``algos.logprobs``. Counts are upper bounds: a micro-batch at its budget, prompts at their limit and full of images.
``c`` is bytes per number in ``model.dtype``, P the number of parameters, N that of ranks that share a copy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from sailrl.config.learner import LearnerConfig
from sailrl.config.schema import LoraConfig, ModelConfig, PromptConfig, RlvrConfig
from sailrl.config.sft import SftConfig
from sailrl.families.base import VisionShape

Device = Literal["cuda", "cpu"]

GIB = 1 << 30
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
TILE: dict[Device, tuple[int, int]] = {"cuda": (4096, 16384), "cpu": (1024, 4096)}
"""Tokens and vocabulary entries in a tile of the head."""
RUNTIME = int(1.5 * GIB)
"""GPU memory of CUDA, NCCL and the libraries' workspaces per process. Assumed, not measured."""
PROBE_TOKENS = 512
"""Most tokens of all probe prompts together (``sync.probe``)."""


@dataclass(frozen=True, slots=True)
class ModelShape:
    """Everything about a model that memory depends on. Parameters are counted once, tied ones with the embedding."""

    name: str
    decoder: int
    """Parameters of all decoder layers and of the last norm."""
    embedding: int
    head: int
    """0 when it is tied to the embedding."""
    tower: int
    """Parameters of the vision tower without projections into the language model; 0 without one."""
    projector: int
    largest_layer: int
    """Parameters of the largest decoder layer."""
    layers: int
    hidden: int
    inner: int
    """MLP width that one token goes through: of all its experts together."""
    experts: int
    experts_per_token: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    vision: VisionShape | None

    @property
    def parameters(self) -> int:
        """Of the whole model."""
        return self.decoder + self.embedding + self.head + self.tower + self.projector

    def trainable(self, model: ModelConfig) -> int:
        """Parameters with a gradient: an adapter's, or those that ``model.freeze`` leaves."""
        if model.lora is not None:
            return self._adapter(model.lora)
        parts = {
            "vision": self.tower,
            "projector": self.projector,
            "language_model": self.decoder + self.embedding + self.head,
        }
        return sum(count for name, count in parts.items() if name not in model.freeze)

    def _adapter(self, lora: LoraConfig) -> int:
        """rank (inputs + outputs) of every matrix with an addition; those of experts are not linear layers."""
        h, q, kv = self.hidden, self.heads * self.head_dim, self.kv_heads * self.head_dim
        sides = {"q_proj": h + q, "k_proj": h + kv, "v_proj": h + kv, "o_proj": q + h}
        if not self.experts:
            sides |= dict.fromkeys(("gate_proj", "up_proj", "down_proj"), h + self.inner)
        return self.layers * lora.rank * sum(sides.get(name, 0) for name in lora.target_modules)


class Trained(Protocol):
    """What the formulas of a learner rank read: ``RlvrConfig`` has it, and ``SupervisedStage`` too."""

    @property
    def model(self) -> ModelConfig: ...

    @property
    def data(self) -> PromptConfig: ...

    @property
    def learner(self) -> LearnerConfig: ...

    @property
    def longest(self) -> int:
        """Tokens of the longest prompt and response together."""

    @property
    def images_per_prompt(self) -> int | None:
        """Most images of one prompt; None where there is no limit."""


@dataclass(frozen=True, slots=True)
class SupervisedStage:
    """A supervised stage; see ``Trained``."""

    model: ModelConfig
    data: PromptConfig
    learner: LearnerConfig
    longest: int
    images_per_prompt: None = None

    @classmethod
    def of(cls, config: SftConfig) -> SupervisedStage:
        """That of a configuration."""
        return cls(config.model, config.data, config.training.learner(config.learner), config.data.max_tokens)


def master_weights(shape: ModelShape, ranks: int) -> int:
    """float32, sharded: 4 P / N."""
    return 4 * shape.parameters // ranks


def sharing(learner: LearnerConfig) -> int:
    """N."""
    return learner.shard_ranks or learner.ranks


def gradients(shape: ModelShape, config: Trained) -> int:
    """float32, sharded: 4 P / N of what is trained."""
    return 4 * shape.trainable(config.model) // sharing(config.learner)


def moments(shape: ModelShape, config: Trained) -> int:
    """AdamW's two float32 moments, sharded: 8 P / N of what is trained."""
    return 8 * shape.trainable(config.model) // sharing(config.learner)


def step_scratch(shape: ModelShape, config: Trained, device: Device = "cuda") -> int:
    """The root of the second moment: of all parameters at once on GPUs (torch's multi-tensor AdamW), 4 P / N; on a CPU
    of one after the other."""
    if device == "cpu":
        return 4 * max(shape.embedding, shape.head) // sharing(config.learner)
    return gradients(shape, config)


def gathered(shape: ModelShape, config: Trained) -> int:
    """Whole compute copies. Sharded: what belongs to no layer stays, two layers are there (one is fetched ahead), and
    the gradient of one in ``c`` and, to be reduced, in float32. On one rank autocast keeps a copy of everything, which
    float32 does without."""
    c = BYTES[config.model.dtype]
    if config.learner.ranks == 1 and config.learner.offload == "none":
        return 0 if c == 4 else c * shape.parameters
    return c * _root(shape) + (3 * c + 4) * shape.largest_layer


def layer_activations(shape: ModelShape, c: int) -> int:
    """Bytes per token that the backward pass of one decoder layer needs.

    Two norms of the residual (input in float32, normalised, scaled: 4 + 2c each), norms and rotation of queries and
    keys, values, the attention's output twice (as the kernel leaves it, and in the order of the projection), and four
    widths of the MLP: gate, up, activated gate, product. Experts also keep each token's input and output once per
    expert, and scores of all.
    """
    h, q, kv = shape.hidden, shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    attention = (4 + 2 * c) * (q + kv) + c * kv + 2 * c * q + 4 * shape.heads
    experts = 2 * c * h * shape.experts_per_token + 12 * shape.experts
    return 2 * (4 + 2 * c) * h + attention + 4 * c * shape.inner + experts


def kept_activations(shape: ModelShape, config: Trained) -> int:
    """What the forward pass leaves for the backward pass: everything, or with activation checkpointing the input of
    each layer; of the tower likewise, for the images of one micro-batch."""
    c, tokens = BYTES[config.model.dtype], config.learner.max_tokens_per_microbatch
    recomputed = config.learner.activation_checkpointing
    per_token = c * shape.hidden if recomputed else layer_activations(shape, c)
    kept = tokens * (shape.layers * per_token + (4 + 2 * c) * shape.hidden)  # and the last norm
    if shape.vision is not None:
        per_patch = c * shape.vision.hidden if recomputed else _block_activations(shape.vision, c)
        kept += patches(shape, config) * shape.vision.layers * per_patch
        merged = 2 * shape.vision.hidden * shape.vision.patches_per_token + shape.hidden
        kept += image_tokens(shape, config) * shape.vision.outputs * c * merged
    return kept


def layer_work(shape: ModelShape, config: Trained) -> int:
    """While one layer's backward pass runs: what is recomputed of it, and gradients of three MLP widths and of two
    residuals. The tower's layer where that is larger."""
    c, tokens = BYTES[config.model.dtype], config.learner.max_tokens_per_microbatch
    recomputed = config.learner.activation_checkpointing
    here = c * (3 * shape.inner + 2 * shape.hidden) + (layer_activations(shape, c) if recomputed else 0)
    there = 0
    if (vision := shape.vision) is not None:
        there = c * (2 * vision.inner + 2 * vision.hidden) + (_block_activations(vision, c) if recomputed else 0)
    return max(tokens * here, patches(shape, config) * there)


def head_work(shape: ModelShape, config: Trained, device: Device = "cuda") -> int:
    """While the head's backward pass runs over a micro-batch of response tokens: hidden states and their gradient
    (float32, then ``c``), the head's gradient likewise, and two tiles of float32 (``algos.logprobs``)."""
    c, tokens = BYTES[config.model.dtype], config.learner.max_tokens_per_microbatch
    copies = c + 4 + (c if c < 4 else 0)
    weights = 4 + (c if c < 4 else 0)
    tile = min(TILE[device][0], tokens) * min(TILE[device][1], shape.vocabulary)
    return copies * tokens * shape.hidden + weights * shape.vocabulary * shape.hidden + 2 * 4 * tile


def probe_work(shape: ModelShape, config: RlvrConfig, device: Device = "cuda") -> int:
    """While a rank computes log-probabilities of the probe prompts beside an engine that is awake: whole copies of what
    belongs to no layer and of two layers, one layer's activations, and two tiles."""
    c, tile = BYTES[config.model.dtype], TILE[device]
    copies = gathered(shape, config) if config.learner.ranks == 1 else c * (_root(shape) + 2 * shape.largest_layer)
    return copies + PROBE_TOKENS * layer_activations(shape, c) + 2 * 4 * min(tile[0], PROBE_TOKENS) * tile[1]


def image_tokens(shape: ModelShape, config: Trained) -> int:
    """Most image tokens of a micro-batch: prompts at their limit, or as many images of ``max_pixels`` as allowed."""
    if shape.vision is None:
        return 0
    longest = min(config.data.max_prompt_tokens, config.longest)
    if config.data.max_pixels is not None and config.images_per_prompt is not None:
        each = -(-config.data.max_pixels // shape.vision.pixels_per_token) + shape.vision.thumbnail_tokens
        longest = min(longest, config.images_per_prompt * each)
    samples = config.learner.max_tokens_per_microbatch // config.longest
    return max(1, samples) * longest


def patches(shape: ModelShape, config: Trained) -> int:
    """Patches behind ``image_tokens``."""
    return image_tokens(shape, config) * shape.vision.patches_per_token if shape.vision is not None else 0


def pixels(shape: ModelShape, config: Trained) -> int:
    """float32 patches of a micro-batch's images."""
    return 4 * patches(shape, config) * shape.vision.values_per_patch if shape.vision is not None else 0


def engine_weights(shape: ModelShape, config: RlvrConfig) -> int:
    """In ``c``, over the GPUs of one engine: c P / tensor_parallel."""
    return BYTES[config.model.dtype] * shape.parameters // config.rollout.engine.tensor_parallel


def engine_work(shape: ModelShape, config: RlvrConfig, device: Device = "cuda") -> int:
    """Memory of vLLM without weights and cache: activations of a step, float32 logits twice, of all sequences or of a
    probe prompt, and on GPUs 1 GiB of CUDA graphs unless ``enforce_eager``."""
    engine, c = config.rollout.engine, BYTES[config.model.dtype]
    activations = engine.max_num_batched_tokens * c * (4 * shape.inner + 4 * shape.hidden)
    logits = 2 * 4 * max(engine.max_concurrent, PROBE_TOKENS) * shape.vocabulary
    graphs = 0 if engine.enforce_eager or device == "cpu" else GIB
    return (activations + logits) // engine.tensor_parallel + graphs


def cache_per_token(shape: ModelShape, config: RlvrConfig) -> int:
    """Keys and values of one token on one GPU: 2 layers kv_heads head_dim c / tensor_parallel (a head is not split)."""
    heads = max(1, shape.kv_heads // config.rollout.engine.tensor_parallel)
    return 2 * shape.layers * heads * shape.head_dim * BYTES[config.model.dtype]


def sync_buffers(shape: ModelShape, config: RlvrConfig) -> int:
    """One layer whole in float32 and, sent directly, vLLM's two buffers: of 1 GiB, or of the largest tensor."""
    largest = BYTES[config.model.dtype] * max(shape.embedding, shape.head)
    return 4 * shape.largest_layer + (0 if config.sync.method == "disk" else 2 * max(GIB, largest))


def published(shape: ModelShape, config: RlvrConfig) -> int:
    """One version of the weights on its way to the engines: c P."""
    return BYTES[config.model.dtype] * shape.parameters


def checkpoint_disk(shape: ModelShape, config: RlvrConfig | SftConfig) -> int:
    """``keep`` checkpoints and the one being written: float32 weights and moments, 4 P and 8 P of what is trained. Of a
    supervised stage also the model that it makes, 4 P."""
    one = 4 * shape.parameters + 8 * shape.trainable(config.model)
    result = 4 * shape.parameters if isinstance(config, SftConfig) else 0
    return (config.checkpoint.keep + 1) * one + result


def _root(shape: ModelShape) -> int:
    """Parameters outside of layers, which are gathered for the whole pass."""
    return shape.embedding + shape.head + shape.projector


def _block_activations(vision: VisionShape, c: int) -> int:
    """Bytes per patch for the backward pass of one layer of the tower: two layer norms (input, output), queries, keys
    and values before and after rotation, the attention's output twice, and two widths of the MLP."""
    return c * (11 * vision.hidden + 2 * vision.inner)
