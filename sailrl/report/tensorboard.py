"""Scalars as TensorBoard events, without torch and without a background thread."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path


class EventFile:
    """One event file of a run. ``purge_step`` makes TensorBoard forget earlier files' points from that step on."""

    def __init__(self, folder: Path, *, purge_step: int | None = None) -> None:
        # Imported here: reading reports needs no tensorboard, and its protobufs take a quarter of a second.
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._event, self._summary = Event, Summary
        folder.mkdir(parents=True, exist_ok=True)
        # TensorBoard reads a folder's files in the order of their names: numbers keep resumed runs in order.
        number = len(list(folder.glob("events.out.tfevents.*")))
        self._path = folder / f"events.out.tfevents.{number:05d}"
        self._file = self._path.open("xb")
        self._records = RecordWriter(self._file)
        self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))
        if purge_step is not None:
            start = SessionLog(status=SessionLog.START)
            self._write(Event(wall_time=time.time(), step=purge_step, session_log=start))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Writes all values as points at ``step``."""
        points = [self._summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        self._write(self._event(wall_time=time.time(), step=step, summary=self._summary(value=points)))

    def close(self) -> None:
        """A second call does nothing."""
        self._file.close()

    def _write(self, event: object) -> None:
        self._records.write(event.SerializeToString())  # type: ignore[attr-defined]
        self._records.flush()
