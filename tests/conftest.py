"""Settings for the whole suite, made before anything loads torch."""

import os

import pytest

# As the command line does: OpenMP threads that wait must sleep, or processes that share the cores starve one another.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("MKL_CBWR", "AUTO")  # as there, too: the same sums in the same order

EXPENSIVE = ("tiny_run", "vllm_bench")
"""Fixtures of integration tests that take a minute, and serve several files."""


@pytest.hookimpl(tryfirst=True)  # xdist reads the marks in its own
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Two processes share the suite (pytest -n 2): what shares an engine or a run stays together in one of them."""
    for item in items:
        names = getattr(item, "fixturenames", ())
        shared = next((fixture for fixture in EXPENSIVE if fixture in names), item.nodeid.split("::")[0])
        item.add_marker(pytest.mark.xdist_group(shared))
