"""``docs/algorithms.md``: every loss with its paper, its formula and when to use it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

from docs.generate.markdown import code, one_line, table
from sailrl.algos.advantages import decoupled_advantages
from sailrl.algos.cispo import cispo_loss
from sailrl.algos.dapo import dapo_loss
from sailrl.algos.dr_grpo import dr_grpo_loss
from sailrl.algos.grpo import grpo_loss
from sailrl.algos.gspo import gspo_loss, gspo_token_loss
from sailrl.algos.regularise import kl_loss, mean_entropy
from sailrl.algos.sapo import sapo_loss
from sailrl.algos.vespo import vespo_loss
from sailrl.config.losses import Algorithm

Row = tuple[Callable[..., Any], str]
USE: dict[str, Row] = {
    "dapo": (dapo_loss, "The default, for dense models: long and short responses count by their tokens."),
    "gspo": (gspo_loss, "Mixtures of experts, whose token ratios are noisy."),
    "gspo_token": (gspo_token_loss, "GSPO with corrections per token."),
    "grpo": (grpo_loss, "To compare with papers that use it: a token of a short response weighs more."),
    "dr_grpo": (dr_grpo_loss, "When responses grow longer without being better."),
    "cispo": (cispo_loss, "When rare tokens that start a reflection lose their gradient to the clip."),
    "sapo": (sapo_loss, "When clipping makes training jump, and with stale responses."),
    "vespo": (vespo_loss, "With stale responses, where a response is to be trusted as a whole."),
}
ADDED: dict[str, Row] = {
    "kl_coef": (kl_loss, "When the policy must stay near its start: small data, judges that can be cheated."),
    "entropy_coef": (mean_entropy, "When entropy falls to 0 early, after a higher clip bound did not help."),
    "normalize_each": (decoupled_advantages, "Several rewards, one of them rare or small (GDPO)."),
}
TOP = """\
# Losses

`algorithm.name` selects the loss, and three keys of `algorithm` add to it. In the formulas r is the ratio of the new to
the old policy, A the advantage, w the correction between engine and learner (`mismatch`), N the tokens and G the
responses of an update. [config.md](config.md) has all keys, [python.md](python.md) the functions. Each is tested
against the formula written out by hand and, where TRL has it, against TRL to 1e-6.

```sh
sailrl check configs/rlvr_tiny_text.yaml algorithm.name=grpo algorithm.kl_coef=0.01 algorithm.entropy_coef=0.001
```

"""


def algorithms_page() -> str:
    """The page."""
    classes = get_args(get_args(Algorithm)[0])
    names = {str(cls.model_fields["name"].default): cls for cls in classes}
    losses = [
        (code(name), one_line(names[name].__doc__ or ""), _formula(loss), when) for name, (loss, when) in USE.items()
    ]
    missing = names.keys() - USE.keys()
    assert not missing, f"docs/generate/algorithms_page.py has no row for {missing}"
    added = [(code(key), _source(term), _formula(term), when) for key, (term, when) in ADDED.items()]
    return (
        TOP
        + table(("`algorithm.name`", "what it is", "loss", "when to use it"), losses)
        + "\n## What can be added\n\n"
        + table(("`algorithm.`", "source", "what it is", "when to use it"), added)
        + "\nThe reference of the KL is the model that the run started with: a second copy that is not trained, or the "
        "base\nmodel without its adapter (`model.lora`). Responses without an advantage are then learned from, too.\n"
    )


def _formula(function: Callable[..., Any]) -> str:
    return one_line((function.__doc__ or "").partition("\n\n")[0])


def _source(function: Callable[..., Any]) -> str:
    return one_line((function.__doc__ or "").rpartition("Source: ")[2]).rstrip(".")
