"""Starts or joins Ray."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

from sailrl.errors import RolloutError


@contextmanager
def cluster() -> Iterator[None]:
    """A Ray cluster for the time of a run: the one named by RAY_ADDRESS, or one of our own on this machine."""
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Without an address Ray would join whatever cluster somebody else started on this machine.
    address = os.environ.get("RAY_ADDRESS") or "local"
    if address == "local":  # when the driver is killed, Ray's agents wait this long (60 s) for it before they end
        os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", "5")
    import ray

    try:
        ray.init(address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:
        raise RolloutError(
            f"Ray does not start: {error}. With RAY_ADDRESS set it must name a running cluster; "
            "without, look at /tmp/ray/session_latest/logs."
        ) from error
    try:
        yield
    finally:
        ray.shutdown()
