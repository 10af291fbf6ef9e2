"""An OpenAI-compatible chat endpoint on a real socket that answers by script and notes what it was asked."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Say:
    """A normal reply with this text; ``None`` stands for a message without content."""

    text: str | None
    after_s: float = 0.0


@dataclass(frozen=True)
class Refuse:
    """An HTTP error."""

    code: int
    body: str = "no"
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class HalfSent:
    """Promises a whole body and closes the connection in its middle."""


@dataclass(frozen=True)
class Hang:
    """Answers only after the client has lost patience."""

    seconds: float = 30.0


@dataclass(frozen=True)
class Drip:
    """Sends a byte now and then, so that the connection never falls silent."""

    every_s: float = 0.02


@dataclass(frozen=True)
class Raw:
    """Status 200 with this body, whatever it is."""

    body: str


Action = Say | Refuse | HalfSent | Hang | Drip | Raw
Script = Callable[[dict[str, Any], int], Action]
"""From the request body and the number of the request (0, 1, ...) to what the server does."""


@dataclass(frozen=True)
class Asked:
    """One request as it arrived."""

    body: dict[str, Any]
    headers: dict[str, str]
    path: str

    @property
    def system(self) -> str:
        return str(self.body["messages"][0]["content"])

    @property
    def content(self) -> Any:
        return self.body["messages"][-1]["content"]

    @property
    def text(self) -> str:
        """The text of the user message, without its images."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part["text"] for part in self.content if part["type"] == "text")

    @property
    def image_urls(self) -> list[str]:
        if isinstance(self.content, str):
            return []
        return [part["image_url"]["url"] for part in self.content if part["type"] == "image_url"]

    @property
    def schema(self) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self.body.get("response_format", {}).get("json_schema", {}).get("schema")
        return found

    def fields(self) -> dict[str, str]:
        """The fenced fields, read as the judge is told to: from a BEGIN line to the END line with the same tag."""
        found = {}
        rest = self.text
        while (begin := re.search(r"^\[BEGIN ([A-Z ]+) (\w+)\]\n", rest, re.MULTILINE)) is not None:
            name, tag = begin.groups()
            inside, closing, rest = rest[begin.end() :].partition(f"\n[END {name} {tag}]")
            assert closing, f"the field {name} never closes"
            assert name not in found, f"there are two fields {name}"
            found[name] = inside
        return found


class JudgeServer:
    """See the module. ``url`` goes into ``base_url``."""

    def __init__(self, script: Script | Action) -> None:
        self.script: Script = script if callable(script) else lambda body, n: script
        self.asked: list[Asked] = []
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()
        self._closing = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with outer._lock:
                    number = len(outer.asked)
                    outer.asked.append(Asked(body, dict(self.headers), self.path))
                    outer._at_once += 1
                    outer.most_at_once = max(outer.most_at_once, outer._at_once)
                try:
                    outer._act(self, outer.script(body, number))
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True  # the client gave up, as it may
                finally:
                    with outer._lock:
                        outer._at_once -= 1

            def log_message(self, format: str, *args: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            request_queue_size = 512  # the default of 5 turns a wave of connections away

        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def close(self) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()

    def _act(self, handler: BaseHTTPRequestHandler, action: Action) -> None:
        match action:
            case Say(text, after_s):
                time.sleep(after_s)
                usage = {"prompt_tokens": 100, "completion_tokens": 7}
                message = {"role": "assistant", "content": text}
                _send(handler, 200, json.dumps({"choices": [{"message": message}], "usage": usage}))
            case Raw(body):
                _send(handler, 200, body)
            case Refuse(code, body, headers):
                _send(handler, code, body, headers)
            case HalfSent():
                _head(handler, 200, {"Content-Length": "1000"})
                handler.wfile.write(b'{"choices": [{"mess')
                handler.close_connection = True
            case Hang(seconds):
                self._closing.wait(seconds)
                handler.close_connection = True
            case Drip(every_s):
                _head(handler, 200, {"Content-Length": "1000000"})
                while not self._closing.wait(every_s):
                    handler.wfile.write(b" ")


def _head(handler: BaseHTTPRequestHandler, code: int, headers: dict[str, str]) -> None:
    handler.send_response(code)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.end_headers()


def _send(handler: BaseHTTPRequestHandler, code: int, body: str, headers: dict[str, str] | None = None) -> None:
    data = body.encode()
    _head(handler, code, {"Content-Type": "application/json", "Content-Length": str(len(data)), **(headers or {})})
    handler.wfile.write(data)


@contextmanager
def judge_server(script: Script | Action) -> Iterator[JudgeServer]:
    """A running server that is closed at the end of the block."""
    server = JudgeServer(script)
    try:
        yield server
    finally:
        server.close()
