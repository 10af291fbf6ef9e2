"""Settings are refused early, by name, with a fix, and never with a secret in the message."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from rewards.judge_api.settings import JudgeSettings
from sailrl.errors import ConfigError

URL = "http://127.0.0.1:8000/v1"


def settings(**values: Any) -> JudgeSettings:
    return JudgeSettings.of(**{"base_url": URL, "model": "m", **values})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"timeout": 3}, "timeout_s"),
        ({"api_key": "sk-1"}, "api_key_env"),
        ({"base_url": "localhost:8000"}, "http or https"),
        ({"base_url": "http://host:99999/v1"}, "http or https"),
        ({"base_url": "http:///v1"}, "http or https"),
        ({"model": ""}, "model is empty"),
        ({"max_concurrency": 0}, "max_concurrency is 0"),
        ({"max_retries": -1}, "max_retries is -1"),
        ({"deadline_s": 0}, "deadline_s is 0"),
        ({"max_response_chars": 5}, "max_response_chars is 5"),
        ({"api_key_env": "NO_SUCH_VARIABLE_HERE"}, "NO_SUCH_VARIABLE_HERE"),
    ],
)
def test_a_setting_that_cannot_work_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        settings(**values)


def test_a_missing_endpoint_or_model_is_named() -> None:
    with pytest.raises(ConfigError, match="base_url is missing"):
        JudgeSettings.of(model="m")
    with pytest.raises(ConfigError, match="model is missing"):
        JudgeSettings.of(base_url=URL)


@pytest.mark.parametrize("url", ["https://me:s3cret@host/v1", "https://s3cret@host/v1", "https://host/v1?key=s3cret"])
def test_a_key_in_the_address_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ConfigError, match="api_key_env") as error:
        settings(base_url=url)
    assert "s3cret" not in str(error.value)


def test_equal_settings_have_equal_keys() -> None:
    assert settings(extra_body={"a": 1, "b": 2}).key() == settings(extra_body={"b": 2, "a": 1}).key()
    assert settings().key() != settings(temperature=0.1).key()


def test_importing_and_building_the_judging_rewards_loads_no_http_library_and_no_imaging() -> None:
    program = (
        "import sys, rewards.judge, rewards.thinking, rewards.judging; "
        f"rewards.judge.Judge({URL!r}, 'm'); "
        "print([m for m in ('httpx', 'PIL', 'torch', 'pydantic') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
