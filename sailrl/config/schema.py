"""The configuration of a run, one frozen section per room. Units stand in the names; the text under a field is its
documentation. Numbers without a remark are SAIL-VL2's (arXiv 2509.14033, section 4.2.3). A default that follows from
other values has its rule there, too; ``RlvrConfig`` applies them all."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

from pydantic import ConfigDict, Field, ModelWrapValidatorHandler, model_validator

from sailrl.config.base import Plugin, Section
from sailrl.config.learner import LearnerConfig
from sailrl.config.losses import Algorithm, Dapo, IcePop, MismatchConfig, ScheduleClip, SequenceAlgorithm
from sailrl.config.rewards import RewardsConfig
from sailrl.config.sources import SourceConfig

SAIL_INSTRUCTION = (
    "You FIRST think about the reasoning process as an internal monologue and then provide the final answer. "
    "The reasoning process MUST BE enclosed within <think> </think> tags. "
    "The final answer MUST BE put in \\boxed{}."
)
"""The public prompt of the SAIL-VL2 Thinking models."""


class RunConfig(Section):
    """The run folder, the seed and restarts."""

    dir: str | None = None
    """The run folder; default `runs/<config name>`. A folder with a checkpoint is resumed."""
    seed: int = Field(default=0, ge=0)
    """Seeds the sampler, the engine and the learner."""
    max_restarts: int = Field(default=3, ge=0)
    """How many times the run restarts from its last checkpoint when a learner rank dies, before it stops."""
    deterministic: bool = False
    """Seeded waves, so that a resumed run equals an uninterrupted one bit for bit. Needs `rollout.max_staleness: 0`."""


class TrainingRunConfig(RunConfig):
    """What a run that trains has besides."""

    trackers: tuple[Literal["tensorboard", "wandb", "trackio", "mlflow", "swanlab"], ...] = Field(
        default=("tensorboard",), strict=False
    )
    """Where metrics go besides `metrics.jsonl`. Keys, addresses and offline modes come from each library's own
    environment variables. A tracker that fails is named, and the run goes on."""


class LoraConfig(Section):
    """Trains a low-rank addition to chosen weights, not the model. Engines get the merged weights."""

    rank: int = Field(default=16, ge=1)
    """Rank of the addition to each weight."""
    alpha: int = Field(default=32, ge=1)
    """The addition is multiplied by alpha / rank. There is no dropout: the engine has none."""
    target_modules: tuple[str, ...] = Field(
        default=("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"), strict=False
    )
    """Last names of the linear layers that get an addition. The default names those of a dense language model
    and none of a vision tower; a mixture of experts has the first four."""


class ModelConfig(Section):
    """The policy."""

    path: str | None = None
    """A folder in Hugging Face format, or the name of a model on the hub."""
    build: Plugin | None = None
    """Instead of a path: code that writes a small model into a folder (the tiny demos)."""
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    """Precision of the forward pass in learner and engine; master weights are float32. `float16` has an eighth of the
    rounding error of `bfloat16` and a largest number of 65,504; the loss is scaled, by a factor that adapts."""
    freeze: tuple[Literal["vision", "projector", "language_model"], ...] = Field(default=(), strict=False)
    """Parts that are not trained (the recipe trains all)."""
    lora: LoraConfig | None = None
    """Train an adapter instead of the model; null trains the model."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model. Say true only for a model you trust."""


PLAIN = "plain"  # the chat template that needs no file


class PromptConfig(Section):
    """How a problem becomes a prompt."""

    instruction: str = SAIL_INSTRUCTION
    """Appended to the user's turn after a line break; empty for none."""
    system_prompt: str | None = None
    """A system message put before the chat."""
    chat_template: str | None = None
    """A Jinja file in place of the model's template, or `plain`: the messages' texts alone. Saved models have it."""
    template_args: dict[str, Any] = Field(default_factory=dict)
    """What the chat template gets besides the messages (`enable_thinking: false`, for one)."""
    max_prompt_tokens: int = Field(default=16384, ge=1)
    """Longest prompt, image tokens included."""
    min_pixels: int | None = Field(default=None, ge=1)
    """Smaller images are enlarged to this many pixels; null keeps the model's own limit."""
    max_pixels: int | None = Field(default=None, ge=1)
    """Larger images are shrunk to this many pixels; null keeps the model's own limit. A model that cuts images into
    tiles takes as many as fit (and no `min_pixels`)."""
    frames_per_video: int = Field(default=16, ge=1)
    """Most frames of a video that the model sees, evenly spread. Each is an image and counts towards
    `rollout.engine.images_per_prompt`."""
    write_choices: bool = False
    """Adds the options of a multiple-choice question, `A. ...` on a line each, to a prompt that lacks them."""
    on_long_prompt: Literal["drop", "error"] = "drop"
    """What happens to a problem with a longer prompt. `drop`: it is left out and counted. `error`: the run stops before
    it starts."""
    on_bad_row: Literal["error", "skip"] = "error"
    """What happens to a row that breaks a rule. `error`: the run stops before it starts. `skip`: the row is listed and
    left out."""


class DataConfig(PromptConfig):
    """The problems, and how they become prompts."""

    train: SourceConfig
    """Problems to learn from."""
    more: tuple[SourceConfig, ...] = Field(default=(), strict=False)
    """Further problems to learn from, for example general ones besides hard STEM problems in mixed-reward RL."""
    eval: SourceConfig | None = None
    """Held-out problems; null evaluates nothing, or what `held_out` says."""
    held_out: float | None = Field(default=None, gt=0, lt=1)
    """Share of the problems in `train` that are evaluated on and not learned from, where there is no `eval`. Problems
    with the same question stay together, and the same ones are chosen every time."""


class BatchConfig(Section):
    """How much is collected and learned. Prompts per episode, updates and micro-batches are derived from it."""

    group_size: int = Field(default=8, ge=2)
    """Responses per prompt; at least 2, since advantages compare them (paper silent; 8 gives 256 prompts)."""
    rollouts_per_episode: int = Field(default=2048, ge=2)
    """Responses collected before learning. Default: 256 groups."""
    rollouts_per_update: int = Field(default=512, ge=1)
    """Responses in one optimizer step. Default: a quarter of the episode, or all of it where a quarter is not a whole
    number of groups."""
    passes_per_episode: int = Field(default=2, ge=1)
    """How many times each response of an episode is learned from (2048 / 512 x 2 = the paper's 8 updates)."""
    episodes: int = Field(default=100, ge=1)
    """Length of the run."""


class DynamicSampling(Section):
    """DAPO's dynamic sampling: a group whose responses all have the same score in the accuracy part teaches
    nothing and is replaced."""

    enabled: bool = True
    """False keeps every fully scored group."""
    oversample: float = Field(default=1.0, ge=1.0, le=8.0)
    """The first wave takes this many times the prompts that an episode needs (verl's recipe: 3). With
    `rollout.max_staleness` above 0 there are no waves; it then sets how many prompts are in progress."""
    max_waves: int = Field(default=10, ge=1)
    """Waves of prompts (or as many one by one) tried before the episode is given up (verl: 10)."""


class EngineConfig(Section):
    """vLLM, one engine per rollout worker. Any other option of vLLM's `AsyncEngineArgs` is passed on by its name."""

    model_config = ConfigDict(extra="allow")

    max_concurrent: int = Field(default=256, ge=1)
    """Sequences that one engine decodes at the same time. vLLM delays some of them while its KV cache is full."""
    max_num_batched_tokens: int = Field(default=8192, ge=1)
    """Most tokens that one step of the engine computes: a long prompt is read in pieces of this size."""
    gpu_memory_utilization: float = Field(default=0.85, gt=0, lt=1)
    """Share of the GPU's memory that the engine takes. Default with `placement: colocated`: 0.65, which leaves room for
    the learner rank's state."""
    images_per_prompt: int = Field(default=16, ge=1)
    """Most images one prompt may have. Each frame of a video is one (`data.frames_per_video`)."""
    kv_cache_gib: float = Field(default=1.0, ge=1, multiple_of=1)
    """On CPU: memory for the KV cache, in whole GiB (vLLM's own default is half of the machine)."""
    tensor_parallel: int = Field(default=1, ge=1)
    """GPUs that share one engine."""
    enforce_eager: bool = False
    """Compile nothing (no CUDA graphs, no inductor). An engine then starts sooner (on CPU in half the time) and
    computes more slowly on GPUs."""
    start_timeout_s: float = Field(default=900.0, gt=0)
    """Deadline for an engine to start."""


class SamplingConfig(Section):
    """How responses are sampled."""

    workers: int = Field(default=1, ge=1)
    """Ray actors, each with its own engine."""
    max_response_tokens: int = Field(default=4096, ge=1)
    """Longest response."""
    temperature: float = Field(default=1.0, gt=0)
    """Sampling temperature; the learner applies it too."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Nucleus sampling; below 1 the engine's probabilities are not the learner's, which a correction refuses."""
    top_k: int | None = Field(default=None, ge=1)
    """Sample among the most likely tokens only; refused with a correction for the same reason."""
    engine: EngineConfig = EngineConfig()
    """The engine's own settings."""
    timeout_s: float = Field(default=1800.0, gt=0)
    """Deadline of a worker for one group, or for its share of a wave with `run.deterministic`. A worker that misses it
    is replaced."""
    max_restarts: int = Field(default=3, ge=0)
    """How many times each worker is replaced between two publishes, before the run stops."""


class RolloutConfig(SamplingConfig):
    """How the responses of an episode are sampled."""

    workers: int = Field(default=1, ge=1)
    """Ray actors, each with its own engine. Default with `placement: colocated`: as many as `learner.ranks`."""
    max_staleness: int = Field(default=0, ge=0)
    """Largest number of versions between the weights that sampled a response's first token and those that learn from
    it. 0: generate, then learn. More: generation goes on while the learner learns, new weights are used within a
    response, and groups that are too old are dropped."""
    dynamic_sampling: DynamicSampling = DynamicSampling()
    """Which groups are admitted to an episode."""


class SyncConfig(Section):
    """How new weights get to the engines, and how that is checked."""

    method: Literal["disk", "nccl", "ipc"] = "disk"
    """`disk`: through a folder in shared memory, on one machine. `nccl`: vLLM's broadcast, for `placement: split`.
    `ipc`: vLLM's transfer within a GPU, for `placement: colocated`."""
    probe_tolerance: float | None = Field(default=None, gt=0)
    """Largest difference in nats between the log-probabilities that engine and learner give to fixed prompts after each
    publish, in float32. Null: 4 times what rounding does to this model, which the learner measures at the start. In
    half precision the mean and the 99th percentile have such limits, and this key has no effect."""
    folder: str | None = None
    """Where `disk` keeps two versions of the weights; null is shared memory. Other machines' engines must see it."""
    timeout_s: float = Field(default=300.0, gt=0)
    """Deadline for each part of a publish."""


class CheckpointConfig(Section):
    """When state is saved."""

    every_episodes: int = Field(default=10, ge=1)
    """Episodes between checkpoints; the last episode always gets one."""
    keep: int = Field(default=2, ge=1)
    """Checkpoints that are kept; older ones are removed."""


class EvalConfig(Section):
    """Accuracy on held-out problems, before the first update, in between, and after the last."""

    every_episodes: int = Field(default=10, ge=1)
    """Episodes between evaluations."""
    samples: int = Field(default=1, ge=1)
    """Responses per problem; accuracy is the share of all responses that are right."""
    temperature: float = Field(default=0.0, ge=0)
    """0 is greedy decoding."""


class WarmStartConfig(Section):
    """A short supervised stage before RL (the tiny demos), cached in the run folder."""

    data: SourceConfig
    """Problems with the text to imitate in `meta.response`."""
    steps: int = Field(ge=1)
    """Optimizer steps."""
    rows_per_step: int = Field(default=64, ge=1)
    """Rows in one optimizer step."""
    learning_rate: float = Field(default=2e-3, gt=0)
    """Constant learning rate."""


class JobConfig(Section):
    """The keys that every kind of job has. Its class declares a kind; ``config.kinds`` finds it in ``recipe.Stage``."""

    runs: ClassVar[str]
    """What runs a job of this kind, as ``module:function``; loaded when it is needed, since most of them load torch."""
    loads: ClassVar[str] = ""
    """The libraries that take seconds to load with it."""

    kind: str
    """The job."""
    run: RunConfig = RunConfig()
    """The run folder, the seed and restarts."""

    def outputs(self) -> dict[str, str]:
        """What it leaves for later stages of a recipe: by name, the path in its run folder."""
        return {}


class RlvrConfig(JobConfig):
    """Reinforcement learning with verifiable rewards."""

    runs = "sailrl.rl.start:start_rlvr"
    loads = "torch and Ray"

    kind: Literal["rlvr"]
    """The job."""
    run: TrainingRunConfig = TrainingRunConfig()
    """The run folder, the seed, restarts and trackers."""
    placement: Literal["split", "colocated"] = "split"
    """`split`: engines and learner ranks have GPUs of their own. `colocated`: rank i and engine i share a GPU and take
    turns. The engine frees its memory while the rank learns; `rollout.engine.gpu_memory_utilization` must leave room
    for the state that the rank keeps."""
    model: ModelConfig
    """The policy."""
    warm_start: WarmStartConfig | None = None
    """A short supervised stage before the first episode; null does without."""
    data: DataConfig
    """The problems."""
    rewards: RewardsConfig
    """What scores the responses."""
    batch: BatchConfig = BatchConfig()
    """How much is collected per episode and learned per update."""
    rollout: RolloutConfig = RolloutConfig()
    """How responses are sampled."""
    algorithm: Algorithm = Dapo()
    """The loss and its clip range."""
    mismatch: MismatchConfig = MismatchConfig()
    """What happens where engine and learner give a token different probabilities."""
    learner: LearnerConfig = LearnerConfig()
    """Optimizer, memory and processes of the learner."""
    sync: SyncConfig = SyncConfig()
    """How new weights get to the engines."""
    checkpoint: CheckpointConfig = CheckpointConfig()
    """When state is saved."""
    eval: EvalConfig = EvalConfig()
    """When and how held-out problems are evaluated."""

    @model_validator(mode="wrap")
    @classmethod
    def _defaults_fit_together(cls, data: Any, validate: ModelWrapValidatorHandler[Self]) -> Self:
        config = validate(data)
        config = config.unless_written("batch.rollouts_per_episode", 256 * config.batch.group_size)
        group, episode = config.batch.group_size, config.batch.rollouts_per_episode
        quarter = episode // 4
        whole = episode % 4 == 0 and quarter % group == 0
        config = config.unless_written("batch.rollouts_per_update", quarter if whole else episode)
        config = config.unless_written("learner.max_tokens_per_microbatch", max(20480, config.longest))
        if isinstance(config.algorithm, SequenceAlgorithm):
            config = config.unless_written("mismatch.correction", IcePop())
        if isinstance(getattr(config.algorithm, "clip", None), ScheduleClip):
            config = config.unless_written("algorithm.clip.schedule_episodes", config.batch.episodes)
        if config.placement == "colocated":
            config = config.unless_written("rollout.workers", config.learner.ranks)
            config = config.unless_written("rollout.engine.gpu_memory_utilization", 0.65)
        return config

    def outputs(self) -> dict[str, str]:
        """``model`` of the newest checkpoint, and the rollouts."""
        return {"model": "model", "rollouts": "rollouts.jsonl"}

    @property
    def longest(self) -> int:
        """Tokens of the longest prompt and the longest response together."""
        return self.data.max_prompt_tokens + self.rollout.max_response_tokens

    @property
    def images_per_prompt(self) -> int:
        """Most images of one prompt."""
        return self.rollout.engine.images_per_prompt

    @property
    def direct_method(self) -> Literal["nccl", "ipc"]:
        """The ``sync.method`` that passes no folder and fits the placement."""
        return "ipc" if self.placement == "colocated" else "nccl"
