"""Names that other trainers use for our keys, so that the error about such a name can suggest our key."""

from __future__ import annotations

from collections.abc import Collection

_RATE = ("learner.learning_rate", "training.learning_rate")
_LENGTH = ("batch.episodes", "training.epochs")
_STEPS = ("training.steps", "batch.episodes")
_UPDATE = ("batch.rollouts_per_update", "training.rows_per_step")
_EPISODE = ("batch.rollouts_per_episode", "training.rows_per_step")
_MICRO = ("learner.max_tokens_per_microbatch", "training.max_tokens_per_microbatch")
_RESPONSE = ("rollout.max_response_tokens", "data.max_tokens")
_SAMPLES = ("batch.group_size", "samples")
_SAVES = ("checkpoint.every_episodes", "checkpoint.every_steps")
_CLIP = ("learner.grad_clip", "training.grad_clip")
_WARM_UP = ("learner.warmup_updates", "training.warmup_steps")
_SOURCE = ("data.train.path", "data.problems.path")

ALIASES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("lr", "learning_rate", "peak_lr", "actor_lr"), _RATE),
    **dict.fromkeys(("epochs", "num_epochs", "num_train_epochs", "total_epochs", "n_epochs"), _LENGTH),
    **dict.fromkeys(("max_steps", "num_steps", "total_steps", "total_training_steps", "num_iterations"), _STEPS),
    **dict.fromkeys(("batch_size", "mini_batch_size", "ppo_mini_batch_size", "global_batch_size"), _UPDATE),
    **dict.fromkeys(("train_batch_size", "rollout_batch_size", "num_rollouts"), _EPISODE),
    **dict.fromkeys(("micro_batch_size", "per_device_train_batch_size", "gradient_accumulation_steps"), _MICRO),
    **dict.fromkeys(("max_tokens", "max_new_tokens", "max_completion_length", "max_response_length"), _RESPONSE),
    **dict.fromkeys(("max_length", "max_seq_len", "max_seq_length", "cutoff_len"), ("data.max_tokens", *_RESPONSE)),
    **dict.fromkeys(("max_prompt_length", "max_prompt_len"), ("data.max_prompt_tokens",)),
    **dict.fromkeys(("num_generations", "num_samples", "n_samples", "rollout_n", "rollouts_per_prompt"), _SAMPLES),
    **dict.fromkeys(("save_steps", "save_freq", "save_interval", "save_every"), _SAVES),
    **dict.fromkeys(("eval_steps", "test_freq", "eval_interval", "eval_every"), ("eval.every_episodes",)),
    "save_total_limit": ("checkpoint.keep",),
    **dict.fromkeys(("max_grad_norm", "clip_grad", "clip_grad_norm", "gradient_clipping"), _CLIP),
    **dict.fromkeys(("warmup_steps", "lr_warmup_steps", "warmup_ratio"), _WARM_UP),
    **dict.fromkeys(("lr_scheduler_type", "lr_scheduler", "scheduler"), ("training.schedule",)),
    **dict.fromkeys(("temperature", "temp"), ("temperature", "rollout.temperature")),
    **dict.fromkeys(("clip_ratio_high", "epsilon_high"), ("algorithm.clip.high",)),
    **dict.fromkeys(("clip_ratio", "clip_ratio_low", "epsilon", "cliprange"), ("algorithm.clip.low",)),
    **dict.fromkeys(("adv_estimator", "loss_type", "algo"), ("algorithm.name",)),
    **dict.fromkeys(("model_name", "model_name_or_path", "pretrain", "base_model"), ("model.path",)),
    **dict.fromkeys(("torch_dtype", "bf16", "fp16", "mixed_precision"), ("model.dtype",)),
    **dict.fromkeys(("lora_rank", "lora_r"), ("model.lora.rank",)),
    "lora_alpha": ("model.lora.alpha",),
    **dict.fromkeys(("output_dir", "save_dir", "save_path", "ckpt_path", "default_local_dir"), ("run.dir",)),
    "random_seed": ("run.seed",),
    **dict.fromkeys(("train_files", "train_file", "train_data", "dataset", "dataset_name", "prompt_data"), _SOURCE),
    **dict.fromkeys(("val_files", "val_file", "val_data", "eval_dataset"), ("data.eval.path",)),
    **dict.fromkeys(("prompt_key", "input_key", "prompt_column"), ("data.train.prompt_field",)),
    **dict.fromkeys(("answer_key", "label_key", "answer_column", "solution_column"), ("data.train.answer_field",)),
    **dict.fromkeys(("reward_funcs", "reward_fn", "reward_function"), ("rewards.parts",)),
    **dict.fromkeys(("gradient_checkpointing", "enable_gradient_checkpointing"), ("learner.activation_checkpointing",)),
    **dict.fromkeys(("tensor_parallel_size", "tp_size", "tp"), ("rollout.engine.tensor_parallel",)),
    "max_num_seqs": ("rollout.engine.max_concurrent",),
    **dict.fromkeys(("num_gpus", "n_gpus", "n_gpus_per_node"), ("learner.ranks",)),
}
"""By the name elsewhere, our keys that do the same, the likeliest first; each kind of job has some of them."""


def meant(name: str, known: Collection[str]) -> str | None:
    """The dotted key, one of ``known``, that is elsewhere called ``name``; None for an unknown name."""
    return next((key for key in ALIASES.get(name.lower().replace("-", "_"), ()) if key in known), None)
