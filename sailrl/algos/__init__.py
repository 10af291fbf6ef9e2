"""The mathematics of the recipe: torch only, no configuration objects, no I/O, no processes.

Three rules hold for every loss here, so that a caller can split an update as it likes:

1. **Shapes.** Tensors come first and are ``[B, T]`` (one row per response); the token-wise losses (DAPO, Dr.GRPO,
   CISPO, NLL) take packed ``[N]`` as well. ``mask`` is bool or 0/1. Values at masked positions have no effect,
   not even NaN or -inf. ``adv`` may also be ``[B]`` or ``[B, 1]`` next to ``[B, T]`` tensors.
2. **Denominator.** A loss is ``sum / denominator``, and the denominator belongs to the whole update: over all
   micro-batches **and** all ranks. The sum of the losses over micro-batches and ranks is then the
   loss of the update, and so is the sum of the gradients. A wrapper that *averages* gradients over ranks (DDP, FSDP)
   needs the loss multiplied by the number of ranks.
3. **Metrics.** Every function returns a dict of detached 0-dim tensors (no device synchronisation). They **add up**:
   each is a sum already divided by its update-wide count, so adding over micro-batches and ranks gives the value to
   log. The one exception shows in the name: where the part after the last ``/`` is ``max`` or starts with ``max_``,
   parts are joined by maximum. ``reduce.merge_metrics`` and ``reduce.is_max_metric`` know this rule.
"""
