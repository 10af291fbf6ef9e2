"""A judge for the additions of the demo: a real HTTP server with the API of any other judge, and rules for a mind."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_EQUATION = re.compile(r"(\d+(?:\+\d+)+)=(\d+)")
_QUESTION = re.compile(r"(\d\d)\+(\d\d)=\?")
_BOX = re.compile(r"\\boxed\{(\d+)\}")


@contextmanager
def serve() -> Iterator[str]:
    """Runs the server for as long as the block lasts and gives its address, for a reward's ``base_url``."""

    class Server(ThreadingHTTPServer):
        request_queue_size = 512  # a wave of responses asks at once
        daemon_threads = True

    server = Server(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        wanted = body["response_format"]["json_schema"]["schema"]["required"]
        found = fields(body["messages"][-1]["content"])
        message = {"role": "assistant", "content": json.dumps({name: VERDICTS[name](found) for name in wanted})}
        reply = json.dumps({"choices": [{"message": message}], "usage": {}}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


def fields(text: str) -> dict[str, str]:
    """The material of an inquiry, each field between its BEGIN and END line."""
    found = re.findall(r"^\[BEGIN ([A-Z ]+) (\w+)\]\n(.*?)\n\[END \1 \2\]", text, re.DOTALL | re.MULTILINE)
    return {name: inside for name, _, inside in found}


def _logical(found: dict[str, str]) -> bool:
    """Both columns are added, and each addition is right."""
    steps = _EQUATION.findall(found["THINKING"])
    return len(steps) == 2 and all(sum(map(int, left.split("+"))) == int(right) for left, right in steps)


def _grounded(found: dict[str, str]) -> bool:
    """The digits that are added are those of the question."""
    asked, steps = _QUESTION.search(found["QUESTION"]), _EQUATION.findall(found["THINKING"])
    if asked is None or len(steps) != 2:
        return False
    a, b = asked.groups()
    return [left.split("+")[:2] for left, _ in steps] == [[a[1], b[1]], [a[0], b[0]]]


def _consistent(found: dict[str, str]) -> bool:
    """The answer is the second sum followed by the last digit of the first."""
    steps, box = _EQUATION.findall(found["THINKING"]), _BOX.search(found["ANSWER"])
    return box is not None and len(steps) == 2 and box[1] == steps[1][1] + steps[0][1][-1]


def _correct(found: dict[str, str]) -> bool:
    """The last box holds the reference answer."""
    boxes = _BOX.findall(found["RESPONSE"])
    return bool(boxes) and boxes[-1] == found["REFERENCE ANSWER"].strip()


VERDICTS = {
    "is_logically_sound": _logical,
    "is_hallucination_free": _grounded,
    "is_consistent": _consistent,
    "is_correct": _correct,
}
"""What is asked, and who answers."""
