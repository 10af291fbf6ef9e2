"""One request to an OpenAI-compatible chat endpoint: what came back, or in which of a few ways it failed."""

from __future__ import annotations

import asyncio
import email.utils
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:  # httpx takes 100 ms to import, which scoring without a judge need not wait for
    import httpx


@dataclass(frozen=True, slots=True)
class Reply:
    """The text of the first choice, and the tokens that the server counted."""

    text: str
    prompt_tokens: int
    completion_tokens: int


class RequestFailed(Exception):
    """A request without a usable reply. ``reason`` is one of a few fixed words, never text from the server, which may
    quote the request and with it the key."""

    def __init__(
        self,
        reason: str,
        *,
        status: Literal["failed", "timed_out"] = "failed",
        retryable: bool = True,
        server_down: bool = True,
        retry_after_s: float = 0.0,
        schema_refused: Literal["yes", "perhaps", "no"] = "no",
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status
        self.retryable = retryable
        self.server_down = server_down
        """Whether the endpoint as a whole seems to be down; False when it refused only this request."""
        self.retry_after_s = retry_after_s
        self.schema_refused = schema_refused


async def post_chat(client: httpx.AsyncClient, body: Mapping[str, Any], key: str | None, timeout_s: float) -> Reply:
    """Sends one chat request and waits at most ``timeout_s`` for the whole of its reply.

    Raises:
        RequestFailed: whatever went wrong, in words that fit a metric's name.
    """
    import httpx

    headers = {"Content-Type": "application/json"}
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    # ASCII escapes carry any string that Python can hold, which httpx's own encoding does not.
    content = json.dumps(body).encode("ascii")
    try:
        # One limit for everything: httpx's own timeouts restart with every byte, so a server that sends byte by byte
        # would never time out.
        async with asyncio.timeout(timeout_s):
            response = await client.post("chat/completions", content=content, headers=headers, timeout=None)
    except TimeoutError:
        raise RequestFailed("timeout", status="timed_out") from None
    except (httpx.ConnectError, httpx.ProxyError, httpx.UnsupportedProtocol):
        raise RequestFailed("unreachable") from None
    except httpx.HTTPError:  # the connection broke while sending or receiving
        raise RequestFailed("cut_off") from None
    if response.status_code != 200:
        raise _refusal(response)
    try:
        return _reply(response.json())
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        raise RequestFailed("not_a_reply") from None


def _reply(body: Any) -> Reply:
    content = body["choices"][0]["message"]["content"]
    usage = body.get("usage") or {}
    return Reply(
        text=content if isinstance(content, str) else "",  # None: a refusal, or nothing but reasoning
        prompt_tokens=int(usage.get("prompt_tokens") or 0),
        completion_tokens=int(usage.get("completion_tokens") or 0),
    )


def _refusal(response: httpx.Response) -> RequestFailed:
    code = response.status_code
    if code == 429:
        return RequestFailed("rate_limited", server_down=False, retry_after_s=_retry_after_s(response))
    if code >= 500 or code in (408, 425):
        return RequestFailed(f"http_{code}", retry_after_s=_retry_after_s(response))
    if code in (400, 422):
        about = response.text.lower()
        named = any(word in about for word in ("response_format", "json_schema", "guided", "structured"))
        return RequestFailed(
            f"http_{code}", retryable=False, server_down=False, schema_refused="yes" if named else "perhaps"
        )
    # 401, 403, 404, redirects: the next request would fail the same way
    return RequestFailed(f"http_{code}", retryable=False)


def _retry_after_s(response: httpx.Response) -> float:
    """Seconds, or a date as HTTP allows; 0 when it cannot be read."""
    value = response.headers.get("Retry-After", "").strip()
    try:
        if value and not value[0].isalpha():
            return min(max(0.0, float(value)), 1e9)
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError):
        return 0.0
