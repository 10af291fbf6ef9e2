"""Rules that no field can check alone: ``validate`` checks the configuration itself, ``preflight`` the machine.

Each rule is one small function in the file of its subject. All complaints are reported together.
"""

from __future__ import annotations

from sailrl.config.algorithm_checks import ALGORITHM_RULES, ALGORITHM_WARNINGS
from sailrl.config.base import Section
from sailrl.config.batch_checks import BATCH_RULES
from sailrl.config.complaint import Rule, Rules, ask
from sailrl.config.data_checks import DATA_RULES
from sailrl.config.evaluation import EVALUATION_RULES
from sailrl.config.load import join
from sailrl.config.needs import NEEDS
from sailrl.config.placement_checks import PLACEMENT_RULES, PLACEMENT_WARNINGS
from sailrl.config.recipe import RECIPE_RULES
from sailrl.config.references import refers
from sailrl.config.sft import SFT_RULES
from sailrl.config.yaml_text import Where
from sailrl.errors import ConfigError

RULES: Rules = [
    *BATCH_RULES,
    *ALGORITHM_RULES,
    *PLACEMENT_RULES,
    *DATA_RULES,
    *SFT_RULES,
    *EVALUATION_RULES,
    *RECIPE_RULES,
]
WARNINGS = [*ALGORITHM_WARNINGS, *PLACEMENT_WARNINGS]
"""Rules that may be broken, with a warning."""


def validate(config: Section, where: Where | None = None) -> None:
    """Checks the rules across sections.

    Raises:
        ConfigError: every rule that is broken, one paragraph each, with its line when ``where`` is given.
    """
    _raise(ask(RULES, config, where or Where()))


def preflight(config: Section, where: Where | None = None) -> None:
    """Checks what the configuration needs of this machine: files, model folders, plug-ins.

    Raises:
        ConfigError: everything that is missing, one paragraph each.
    """
    _raise(preflight_problems(config, where or Where()))


def preflight_problems(config: Section, where: Where, rules: Rules = NEEDS) -> list[str]:
    """The complaints of ``preflight``, as paragraphs. Sections that refer to an earlier stage of a recipe are checked
    when that stage has run."""
    return ask([(kind, _when_known(rule)) for kind, rule in rules], config, where)


def _when_known(rule: Rule) -> Rule:
    return lambda section: iter(()) if refers(section) else rule(section)


def warnings(config: Section, where: Where | None = None) -> list[str]:
    """Settings that are allowed but most likely wrong, as paragraphs."""
    return ask(WARNINGS, config, where or Where())


def _raise(problems: list[str]) -> None:
    if problems:
        raise ConfigError(join(problems))
