"""Loading a configuration: overrides, kinds, files, the resolved copy, and no secrets."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sailrl.config.load import load, load_config, resolved_yaml, run_dir
from sailrl.config.messages import all_keys
from sailrl.config.schema import RlvrConfig
from sailrl.errors import ConfigError

MINIMAL = """\
kind: rlvr
model: {path: org/model}
data:
  train: {path: train.jsonl}
rewards:
  parts:
    boxed: {use: "rewards.boxed:BoxedAnswer", weight: 1.0}
"""


@pytest.fixture
def minimal(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(MINIMAL)
    return path


def rlvr(path: Path, *overrides: str) -> RlvrConfig:
    config = load_config(path, overrides)
    assert isinstance(config, RlvrConfig)
    return config


def error_of(path: Path | str, *overrides: str) -> str:
    with pytest.raises(ConfigError) as error:
        load_config(path, overrides)
    return str(error.value)


def test_a_minimal_file_gets_the_recipes_defaults(minimal: Path) -> None:
    config = rlvr(minimal)
    assert (config.batch.rollouts_per_episode, config.batch.rollouts_per_update) == (2048, 512)
    assert config.learner.learning_rate == 1e-6


# --- overrides -----------------------------------------------------------------------------------------------------


def test_overrides_are_values_in_yaml_and_make_missing_sections(minimal: Path) -> None:
    config = rlvr(
        minimal, "batch.group_size=4", "learner.learning_rate=1e-5", "run.deterministic=true", "rollout.top_k=null"
    )
    assert config.batch.group_size == 4
    assert config.learner.learning_rate == 1e-5
    assert config.run.deterministic is True
    assert config.rollout.top_k is None


def test_an_override_reaches_into_plug_ins_and_whole_sections(minimal: Path) -> None:
    config = rlvr(
        minimal,
        "rewards.parts.boxed.args.tolerance=0.1",
        "data.eval={path: held_out.jsonl}",
        "learner.betas=[0.8, 0.9]",
    )
    assert config.rewards.parts["boxed"].args == {"tolerance": 0.1}
    assert config.data.eval is not None
    assert config.data.eval.path == "held_out.jsonl"
    assert config.learner.betas == (0.8, 0.9)


def test_an_override_may_hold_equals_signs_and_be_empty_text(minimal: Path) -> None:
    config = rlvr(minimal, "data.system_prompt=x = 1", "data.instruction=")
    assert config.data.system_prompt == "x = 1"
    assert config.data.instruction == ""


def test_the_last_override_of_a_key_wins(minimal: Path) -> None:
    assert rlvr(minimal, "run.seed=1", "run.seed=2").run.seed == 2


def test_an_unknown_override_names_the_nearest_key(minimal: Path) -> None:
    assert error_of(minimal, "batch.group_sise=4") == (
        "command line, batch.group_sise=...: the section batch has no key `group_sise`. Did you mean `group_size`?"
    )


def test_an_unknown_section_in_an_override_names_the_nearest_section(minimal: Path) -> None:
    assert error_of(minimal, "rolout.top_p=1.0") == (
        "command line, rolout.top_p=...: the configuration has no key `rolout`. Did you mean `rollout`?"
    )


def test_a_wrong_value_in_an_override_is_blamed_on_the_command_line(minimal: Path) -> None:
    assert error_of(minimal, "batch.group_size=1").startswith(
        "command line, batch.group_size=...: batch.group_size is 1, but it must be at least 2."
    )


def test_an_override_that_replaces_a_section_takes_the_blame_from_the_file(minimal: Path) -> None:
    assert error_of(minimal, "data.train={path: 3}").startswith("command line, data.train=...: data.train.path is 3")


def test_an_override_cannot_reach_into_a_number(minimal: Path) -> None:
    assert error_of(minimal, "run.seed=0", "run.seed.x=1") == (
        "command line, run.seed.x=...: run.seed is 0, which has no keys in it. Set it as a whole: run.seed=..."
    )


@pytest.mark.parametrize("override", ["batch.group_size", "=4", "batch..x=1", ""])
def test_an_argument_that_is_no_override_says_what_one_looks_like(minimal: Path, override: str) -> None:
    assert error_of(minimal, override) == (
        f"command line: {override!r} is not of the form section.key=value. Write for example batch.group_size=8."
    )


def test_an_override_whose_value_is_no_yaml_is_refused(minimal: Path) -> None:
    assert error_of(minimal, "learner.betas=[0.9").startswith(
        "command line, learner.betas=..., line 1: this is not YAML: "
    )


# --- files and kinds -----------------------------------------------------------------------------------------------


def test_a_missing_file_names_its_neighbour(minimal: Path) -> None:
    assert error_of(minimal.parent / "mime.yaml") == (
        f"there is no file {minimal.parent / 'mime.yaml'}. Did you mean {minimal}?"
    )


def test_a_missing_file_without_a_neighbour_explains_paths(tmp_path: Path) -> None:
    assert error_of(tmp_path / "nowhere" / "x.yaml").endswith("Paths are relative to the folder you run from.")


def test_a_folder_is_not_a_configuration(tmp_path: Path) -> None:
    assert error_of(tmp_path) == f"{tmp_path} is a folder, but a configuration is a YAML file. Name a file in it."


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty. A configuration starts with the job it describes: `kind: rlvr`."),
        ("# nothing\n", "the file is empty."),
        ("- a\n- b\n", "the file holds a list of 2, but a configuration is a mapping of `key: value` lines."),
        ("kind rlvr\n", "the file holds the text 'kind rlvr', but a configuration is a mapping"),
        (
            "model: {path: a/b}\n",
            "the key `kind` is missing. Write the job it describes: `kind: rlvr`. There are: rlvr",
        ),
        ("\nkind: rlrv\n", ", line 2: kind is the text 'rlrv', but the kinds of job are: rlvr"),
        ("kind: [rlvr]\n", ", line 1: kind is a list of 1, but the kinds of job are: rlvr"),
    ],
)
def test_a_file_that_is_no_configuration_says_so(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    assert error_of(path).startswith(str(path))
    assert message in error_of(path)


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(b"kind: \xff\n")
    assert error_of(path) == f"{path} is not UTF-8 text (byte 6). Save it as UTF-8."


# --- resolved copy, run folder, secrets ----------------------------------------------------------------------------


def test_the_resolved_copy_has_every_default_and_loads_back_equal(minimal: Path) -> None:
    config = rlvr(
        minimal, "data.system_prompt='1e-6'", "data.instruction=on", "run.dir='007'", "learner.learning_rate=1e-7"
    )
    copy = minimal.parent / "resolved.yaml"
    copy.write_text(resolved_yaml(config))
    assert "rollouts_per_update: 512" in copy.read_text()
    assert load_config(copy) == config


def test_the_run_folder_is_named_after_the_file_unless_it_is_given(minimal: Path) -> None:
    assert run_dir(rlvr(minimal), minimal) == Path("runs/mine")
    assert run_dir(rlvr(minimal, "run.dir=/tmp/here"), minimal) == Path("/tmp/here")


@pytest.mark.parametrize(
    "override",
    [
        "rewards.parts.boxed.args.api_key=sk-123",
        "rewards.parts.boxed.args={client: [{hf_token: sk-123}]}",
        "rewards.parts.boxed.args.OPENAI_API_KEY=sk-123",
        "rewards.parts.boxed.args.url=https://me:sk-123@host/v1",
    ],
)
def test_a_secret_is_refused_and_not_repeated(minimal: Path, override: str) -> None:
    message = error_of(minimal, override)
    assert "holds a secret" in message
    assert "environment variable" in message
    assert "sk-123" not in message


@pytest.mark.parametrize("key", ["api_key_env", "max_response_tokens", "pad_token", "sort_key", "keyboard"])
def test_ordinary_names_are_no_secrets(minimal: Path, key: str) -> None:
    assert rlvr(minimal, f"rewards.parts.boxed.args.{key}=abc").rewards.parts["boxed"].args == {key: "abc"}


def test_a_url_without_a_password_is_no_secret(minimal: Path) -> None:
    rlvr(minimal, "rewards.parts.boxed.args.url=http://localhost:8000/v1")


def test_places_of_values_are_kept_for_later_rules(minimal: Path) -> None:
    where = load(minimal, ["batch.group_size=4"]).where
    assert where.of(("data", "train", "path")) == f"{minimal}, line 4"
    assert where.of(("batch", "group_size")) == "command line, batch.group_size=..."


# --- nothing but readable errors -----------------------------------------------------------------------------------

scalars = st.none() | st.booleans() | st.integers(-2, 3) | st.floats(-1, 2) | st.sampled_from(["", "none", "dapo", "x"])
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["kind", "name", "x"]), inner)
)
PATHS = [path for path in all_keys(RlvrConfig) if path != ("kind",)]


@given(st.lists(st.tuples(st.sampled_from(PATHS), values), max_size=4))
def test_whatever_is_written_gives_a_configuration_or_one_readable_error(changes: list[tuple[Any, Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "c.yaml"
        path.write_text(MINIMAL)
        overrides = [f"{'.'.join(map(str, keys))}={yaml.safe_dump(value)}" for keys, value in changes]
        try:
            config = load_config(path, overrides)
        except ConfigError:
            return  # any other exception fails the test
        path.write_text(resolved_yaml(config))
        assert load_config(path) == config
