"""What the judge's client does with an endpoint that fails in every way they do. Real sockets, scripted server."""

from __future__ import annotations

import asyncio
import logging
import pickle
import socket
import time
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from rewards.judge import Judge
from rewards.judge_api.client import Inquiry, JudgeClient, Unanswered
from rewards.judge_api.settings import JudgeSettings
from sailrl.errors import ConfigError
from tests.fakes.judge_server import Action, Drip, HalfSent, Hang, JudgeServer, Raw, Refuse, Say, judge_server

YES = '{"is_correct": true}'
NO = '{"is_correct": false}'


class Clock:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def client(server: JudgeServer | str, *, clock: Callable[[], float] = time.monotonic, **settings: Any) -> JudgeClient:
    """A client of its own (not the shared one), with waits short enough for a test."""
    url = server if isinstance(server, str) else server.url
    defaults = {"backoff_s": 0.001, "timeout_s": 5.0, "deadline_s": 10.0, "max_retries": 2}
    return JudgeClient(JudgeSettings.of(base_url=url, model="m", **{**defaults, **settings}), clock)


def inquiry(text: str = "question") -> Inquiry:
    return Inquiry(system="judge", text=text, verdict=("is_correct",))


def run(judge: JudgeClient, work: Callable[[], Awaitable[Any]]) -> Any:
    async def whole() -> Any:
        try:
            return await work()
        finally:
            await judge.aclose()

    return asyncio.run(whole())


def ask(judge: JudgeClient, *texts: str) -> list[Any]:
    async def all_of_them() -> list[Any]:
        return list(await asyncio.gather(*(judge.ask(inquiry(text)) for text in texts)))

    return list(run(judge, all_of_them))


def in_turn(judge: JudgeClient, *texts: str) -> list[Any]:
    async def one_by_one() -> list[Any]:
        return [await judge.ask(inquiry(text)) for text in texts]

    return list(run(judge, one_by_one))


async def arrived(server: JudgeServer, requests: int) -> None:
    """Waits until the server has had so many requests."""
    async with asyncio.timeout(10):
        while len(server.asked) < requests:
            await asyncio.sleep(0.005)


async def give_up(judge: JudgeClient, server: JudgeServer, question: Inquiry, requests: int) -> None:
    """Asks, and stops waiting as soon as the server has its request number ``requests``."""
    asking = asyncio.create_task(judge.ask(question))
    await arrived(server, requests)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await asyncio.sleep(0.05)  # the connection needs a few turns of the loop to close


def sequence(*actions: Action) -> Callable[[dict[str, Any], int], Action]:
    """The actions in this order, the last one for ever."""
    return lambda body, n: actions[min(n, len(actions) - 1)]


# --- one call -------------------------------------------------------------------------------------------------------


def test_a_verdict_comes_back_and_is_asked_for_with_a_schema_at_temperature_zero() -> None:
    with judge_server(Say(YES)) as server:
        assert ask(client(server), "q") == [{"is_correct": True}]
    (asked,) = server.asked
    assert asked.path == "/v1/chat/completions"
    assert asked.body["model"] == "m"
    assert asked.body["temperature"] == 0.0
    assert asked.schema == {
        "type": "object",
        "properties": {"is_correct": {"type": "boolean"}},
        "required": ["is_correct"],
        "additionalProperties": False,
    }


def test_extra_fields_of_the_body_are_sent() -> None:
    with judge_server(Say(YES)) as server:
        ask(client(server, extra_body={"chat_template_kwargs": {"enable_thinking": False}}), "q")
    assert server.asked[0].body["chat_template_kwargs"] == {"enable_thinking": False}


# --- outages: each kind has its status, its reason and its number of requests ----------------------------------------


@pytest.mark.parametrize(
    ("outage", "status", "reason", "requests"),
    [
        (Refuse(429), "failed", "rate_limited", 3),
        (Refuse(500), "failed", "http_500", 3),
        (Refuse(503), "failed", "http_503", 3),
        (HalfSent(), "failed", "cut_off", 3),
        (Hang(), "timed_out", "timeout", 3),
        (Drip(), "timed_out", "timeout", 3),
        (Raw("<html>gateway</html>"), "failed", "not_a_reply", 3),
        (Raw('{"error": "overloaded"}'), "failed", "not_a_reply", 3),
        (Raw("[]"), "failed", "not_a_reply", 3),
        (Raw("[" * 100_000), "failed", "not_a_reply", 3),
        (Refuse(401), "failed", "http_401", 1),
        (Refuse(403), "failed", "http_403", 1),
        (Refuse(404), "failed", "http_404", 1),
        (Refuse(307, headers={"Location": "http://127.0.0.1:9/"}), "failed", "http_307", 1),
    ],
)
def test_an_outage_that_lasts_is_unanswered_and_never_a_verdict(
    outage: Action, status: str, reason: str, requests: int
) -> None:
    with judge_server(outage) as server:
        judge = client(server, timeout_s=0.15 if status == "timed_out" else 5.0)
        assert ask(judge, "q") == [Unanswered(reason, status)]  # type: ignore[arg-type]
        assert len(server.asked) == requests  # the first and max_retries more, where trying again can help
    assert judge.metrics()[f"failed/{reason}"] == 1
    assert judge.metrics()["retries"] == requests - 1


@pytest.mark.parametrize("outage", [Refuse(429), Refuse(502), HalfSent(), Hang(), Raw("{")])
def test_an_outage_that_ends_costs_a_retry_and_nothing_else(outage: Action) -> None:
    with judge_server(sequence(outage, Say(NO))) as server:
        judge = client(server, timeout_s=1.0)
        assert ask(judge, "q") == [{"is_correct": False}]
        assert len(server.asked) == 2
        assert judge.metrics()["retries"] == 1


def test_nobody_listening_is_unreachable() -> None:
    with socket.socket() as bound:  # taken, but not listening
        bound.bind(("127.0.0.1", 0))
        judge = client(f"http://127.0.0.1:{bound.getsockname()[1]}/v1")
        assert ask(judge, "q") == [Unanswered("unreachable")]


@pytest.mark.parametrize("wait", ["0.4", lambda: formatdate(time.time() + 2, usegmt=True)])
def test_retry_after_is_honoured_in_seconds_and_as_a_date(wait: Any) -> None:
    value = wait if isinstance(wait, str) else wait()
    with judge_server(sequence(Refuse(429, headers={"Retry-After": value}), Say(YES))) as server:
        start = time.monotonic()
        assert ask(client(server), "q") == [{"is_correct": True}]
        assert time.monotonic() - start >= 0.35  # the back-off alone would be 1 ms


def test_a_retry_after_beyond_the_deadline_gives_up_at_once() -> None:
    with judge_server(Refuse(429, headers={"Retry-After": "3600"})) as server:
        # An hour's deadline: had it waited for that, this test would not end.
        assert ask(client(server, deadline_s=3500.0), "q") == [Unanswered("rate_limited")]
        assert len(server.asked) == 1


@pytest.mark.parametrize("value", ["soon", "", "-5", "nan", "Wed, 99 Foo 2026"])
def test_a_retry_after_that_makes_no_sense_is_no_wish(value: str) -> None:
    with judge_server(sequence(Refuse(429, headers={"Retry-After": value}), Say(YES))) as server:
        assert ask(client(server), "q") == [{"is_correct": True}]


def test_the_deadline_ends_a_call_whatever_the_retries_left() -> None:
    with judge_server(Hang()) as server:
        assert ask(client(server, timeout_s=0.2, deadline_s=0.5, max_retries=100), "q") == [
            Unanswered("timeout", "timed_out")
        ]
        assert 1 <= len(server.asked) <= 4  # 0.5 s hold at most three calls of 0.2 s; 101 tries would be allowed


# --- replies that are no verdict -------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", ["Yes, it is correct.", f"{YES} {NO}", '{"is_correct": "true"}', None])
def test_an_unreadable_reply_is_asked_for_once_more_and_then_failed(bad: str | None) -> None:
    with judge_server(Say(bad)) as server:
        judge = client(server)
        assert ask(judge, "q") == [Unanswered("unreadable")]
        assert len(server.asked) == 2
        assert judge.metrics()["unreadable_replies"] == 2


def test_the_second_question_differs_from_the_first_and_does_not_quote_the_bad_reply() -> None:
    with judge_server(sequence(Say("the author says: answer 1"), Say(NO))) as server:
        assert ask(client(server), "q") == [{"is_correct": False}]
    first, second = server.asked
    assert second.text.startswith(first.text)
    assert second.text != first.text
    assert "the author says" not in str(second.body)


# --- servers without schemas -----------------------------------------------------------------------------------------


def without_schema(body: dict[str, Any], n: int) -> Action:
    return Refuse(400, "response_format is not supported") if "response_format" in body else Say(YES)


def test_a_server_that_refuses_the_schema_is_asked_without_it_from_then_on() -> None:
    with judge_server(without_schema) as server:
        judge = client(server)
        assert in_turn(judge, "a", "b", "c") == [{"is_correct": True}] * 3
        assert [asked.schema is None for asked in server.asked] == [False, True, True, True]
        assert judge.metrics()["retries"] == 0


def test_a_bad_request_for_another_reason_does_not_give_up_the_schema() -> None:
    def picky(body: dict[str, Any], n: int) -> Action:
        return Refuse(400, "context too long") if "long" in str(body["messages"]) else Say(YES)

    with judge_server(picky) as server:
        judge = client(server)
        assert in_turn(judge, "a", "long", "b", "long", "c") == [
            {"is_correct": True},
            Unanswered("http_400"),
            {"is_correct": True},
            Unanswered("http_400"),
            {"is_correct": True},
        ]
        assert len(server.asked) == 5
        assert all(asked.schema is not None for asked in server.asked)


# --- concurrency and sharing -----------------------------------------------------------------------------------------


def test_no_more_requests_are_under_way_than_allowed_and_as_many_as_that() -> None:
    with judge_server(Say(YES, after_s=0.03)) as server:
        judge = client(server, max_concurrency=3)
        ask(judge, *(f"q{n}" for n in range(12)))
        assert server.most_at_once == 3
        assert len(server.asked) == 12
    assert judge.metrics()["queue_s/max"] >= 0.05  # the last ones waited for three rounds


def test_equal_questions_at_the_same_time_are_one_call() -> None:
    with judge_server(Say(YES, after_s=0.05)) as server:
        judge = client(server)
        assert ask(judge, "same", "same", "same", "other") == [{"is_correct": True}] * 4
        assert len(server.asked) == 2
        assert judge.metrics()["deduplicated"] == 2


def test_one_who_gives_up_waiting_does_not_take_the_answer_from_the_others() -> None:
    with judge_server(Say(YES, after_s=0.2)) as server:
        judge = client(server)

        async def work() -> Any:
            first = asyncio.create_task(judge.ask(inquiry()))
            second = asyncio.create_task(judge.ask(inquiry()))
            await arrived(server, 1)
            first.cancel()
            return await second

        assert run(judge, work) == {"is_correct": True}
        assert len(server.asked) == 1


def test_when_all_have_given_up_the_call_ends_and_a_later_question_starts_afresh() -> None:
    with judge_server(sequence(Hang(), Say(YES))) as server:
        judge = client(server, max_concurrency=1)

        async def work() -> Any:
            await give_up(judge, server, inquiry(), requests=1)
            return await judge.ask(inquiry())  # the slot is free again: with one slot, this would wait for the other

        assert run(judge, work) == {"is_correct": True}


def test_rewards_with_equal_settings_share_a_client_and_others_do_not() -> None:
    one, two = (Judge("http://127.0.0.1:1/v1", "m") for _ in range(2))
    other = Judge("http://127.0.0.1:1/v1", "m", temperature=0.5)
    assert one.examiner.client is two.examiner.client
    assert one.examiner.client is not other.examiner.client


def test_a_client_serves_one_event_loop_after_another() -> None:
    with judge_server(Say(YES)) as server:
        judge = client(server)
        assert ask(judge, "a") == ask(judge, "b") == [{"is_correct": True}]


def test_a_reward_survives_pickling() -> None:
    judge = Judge("http://127.0.0.1:1/v1", "m", max_retries=7)
    copy = pickle.loads(pickle.dumps(judge))
    assert copy.examiner.settings == judge.examiner.settings
    assert copy.examiner.client is judge.examiner.client  # the same process: its shared client


# --- cache -----------------------------------------------------------------------------------------------------------


def test_a_verdict_is_remembered_in_memory_and_a_failure_is_not() -> None:
    with judge_server(sequence(Refuse(500), Say(YES))) as server:
        judge = client(server, max_retries=0)
        assert in_turn(judge, "q", "q", "q") == [Unanswered("http_500"), {"is_correct": True}, {"is_correct": True}]
        assert len(server.asked) == 2
        assert judge.metrics()["cache_hits"] == 1


def test_the_folder_serves_another_client_on_another_port(tmp_path: Path) -> None:
    with judge_server(Say(NO)) as server:
        ask(client(server, cache_dir=str(tmp_path)), "q")
    with judge_server(Say(YES)) as other_server:
        judge = client(other_server, cache_dir=str(tmp_path))
        assert ask(judge, "q") == [{"is_correct": False}]
        assert other_server.asked == []
        assert judge.metrics()["cache_hits"] == 1


@pytest.mark.parametrize(
    "change",
    [{"model": "n"}, {"temperature": 0.5}, {"max_verdict_tokens": 9}, {"extra_body": {"top_k": 1}}],
)
def test_another_judge_does_not_inherit_verdicts(tmp_path: Path, change: dict[str, Any]) -> None:
    with judge_server(Say(YES)) as server:
        ask(client(server, cache_dir=str(tmp_path)), "q")
        settings = {"base_url": server.url, "model": "m", "cache_dir": str(tmp_path), **change}
        ask(JudgeClient(JudgeSettings.of(**settings)), "q")
        assert len(server.asked) == 2


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"[]", b'{"verdict": 1}', b'{"verdict": {"is_correct": "yes"}}', b"\xff"]
)
def test_a_damaged_file_counts_as_absent_and_is_repaired(tmp_path: Path, damage: bytes) -> None:
    with judge_server(Say(YES)) as server:
        ask(client(server, cache_dir=str(tmp_path)), "q")
        (file,) = tmp_path.glob("*/*.json")
        good = file.read_bytes()
        file.write_bytes(damage)
        judge = client(server, cache_dir=str(tmp_path))
        assert ask(judge, "q") == [{"is_correct": True}]
        assert file.read_bytes() == good
        assert judge.metrics()["cache_errors"] == 1
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [file.name]  # and no leftovers


def test_a_folder_that_cannot_be_written_costs_calls_and_not_the_score(tmp_path: Path) -> None:
    blocked = tmp_path / "a_file"
    blocked.write_text("in the way")
    with judge_server(Say(YES)) as server:
        judge = client(server, cache_dir=str(blocked))
        assert ask(judge, "q") == [{"is_correct": True}]
        assert judge.metrics()["cache_errors"] >= 1


# --- circuit breaker -------------------------------------------------------------------------------------------------


def test_the_breaker_opens_after_failures_in_a_row_and_then_asks_nobody() -> None:
    with judge_server(Refuse(500)) as server:
        judge = client(server, max_retries=0, breaker_failures=3)
        outcomes = in_turn(judge, *(f"q{n}" for n in range(6)))
        assert [outcome.reason for outcome in outcomes] == ["http_500"] * 3 + ["breaker_open"] * 3
        assert len(server.asked) == 3
        assert judge.metrics()["breaker_opened"] == 1
        assert judge.metrics()["breaker_open"] == 1


def test_a_success_in_between_keeps_it_closed() -> None:
    with judge_server(lambda body, n: Say(YES) if n % 3 == 2 else Refuse(500)) as server:
        judge = client(server, max_retries=0, breaker_failures=3)
        in_turn(judge, *(f"q{n}" for n in range(12)))
        assert len(server.asked) == 12


@pytest.mark.parametrize("answer", [Refuse(429), Refuse(400, "too long"), Say("no verdict")])
def test_a_server_that_answers_is_not_down_even_if_the_answer_is_no_use(answer: Action) -> None:
    with judge_server(answer) as server:
        judge = client(server, max_retries=0, breaker_failures=1)
        in_turn(judge, "a", "b", "c")
        assert judge.metrics()["breaker_opened"] == 0


def test_after_the_cool_down_a_single_probe_decides() -> None:
    clock = Clock()
    with judge_server(lambda body, n: Refuse(500) if n < 2 else Say(YES, after_s=0.05)) as server:
        judge = client(server, clock=clock, max_retries=0, breaker_failures=1, breaker_cooldown_s=30)

        async def work() -> list[Any]:
            seen = [await judge.ask(inquiry("opens"))]
            clock.now += 29.9
            seen.append(await judge.ask(inquiry("too early")))
            clock.now += 0.2
            seen.append(await judge.ask(inquiry("a probe that fails: open again")))
            clock.now += 29.9
            seen.append(await judge.ask(inquiry("too early again")))
            clock.now += 0.2
            seen += await asyncio.gather(*(judge.ask(inquiry(f"wave {n}")) for n in range(4)))  # one of them probes
            seen.append(await judge.ask(inquiry("closed")))
            return seen

        seen = run(judge, work)
        reasons = [outcome.reason if isinstance(outcome, Unanswered) else "ok" for outcome in seen]
        assert reasons[:4] == ["http_500", "breaker_open", "http_500", "breaker_open"]
        assert sorted(reasons[4:8]) == ["breaker_open"] * 3 + ["ok"]
        assert reasons[8] == "ok"
        assert judge.metrics()["breaker_opened"] == 2
        assert judge.metrics()["breaker_open"] == 0


def test_a_probe_that_is_cancelled_leaves_room_for_the_next() -> None:
    clock = Clock()
    with judge_server(sequence(Refuse(500), Hang(), Say(YES))) as server:
        judge = client(server, clock=clock, max_retries=0, breaker_failures=1, breaker_cooldown_s=30)

        async def work() -> Any:
            await judge.ask(inquiry("opens"))
            clock.now += 31
            await give_up(judge, server, inquiry("a probe"), requests=2)
            return await judge.ask(inquiry("the next probe"))

        assert run(judge, work) == {"is_correct": True}


def test_a_call_between_two_attempts_stops_when_the_breaker_opens_and_says_what_really_happened() -> None:
    def script(body: dict[str, Any], n: int) -> Action:
        return Refuse(401) if "opens" in str(body["messages"]) else Refuse(503)

    with judge_server(script) as server:
        judge = client(server, backoff_s=0.5, breaker_failures=1)

        async def work() -> list[Any]:
            retrying = asyncio.create_task(judge.ask(inquiry("retries")))
            await arrived(server, 1)
            return [await judge.ask(inquiry("opens")), await retrying]

        assert run(judge, work) == [Unanswered("http_401"), Unanswered("http_503")]
        assert len(server.asked) == 2


# --- the key ---------------------------------------------------------------------------------------------------------

SECRET = "sk-do-not-print-0123456789"


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("JUDGE_KEY_FOR_TESTS", SECRET)
    return "JUDGE_KEY_FOR_TESTS"


def test_the_key_is_sent_and_shows_up_nowhere_else(
    key: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    echo = Refuse(401, f"Incorrect API key provided: {SECRET}")
    with judge_server(sequence(Say(YES), echo)) as server:
        judge = client(server, api_key_env=key, cache_dir=str(tmp_path))
        outcomes = in_turn(judge, "a", "b")
        assert outcomes == [{"is_correct": True}, Unanswered("http_401")]
        assert server.asked[0].headers["Authorization"] == f"Bearer {SECRET}"  # it does have it
        reward = Judge(server.url, "m", api_key_env=key)
    files = b"".join(path.read_bytes() for path in tmp_path.rglob("*.json"))
    names = " ".join(str(path) for path in tmp_path.rglob("*"))
    printed = capfd.readouterr()
    places = [repr(judge), repr(judge.settings), judge.settings.key(), repr(vars(judge)), repr(reward)]
    places += [repr(outcomes), repr(judge.metrics()), names, files.decode(), caplog.text, printed.out, printed.err]
    places += [pickle.dumps(judge).decode("latin-1"), pickle.dumps(reward).decode("latin-1")]
    assert files
    for place in places:
        assert SECRET not in place


def test_without_a_key_no_authorization_is_sent() -> None:
    with judge_server(Say(YES)) as server:
        ask(client(server), "q")
        assert "Authorization" not in server.asked[0].headers


def test_a_key_that_disappears_is_a_failure_of_ours(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with judge_server(Say(YES)) as server:
        judge = client(server, api_key_env=key)
        monkeypatch.delenv(key)
        assert ask(judge, "q") == [Unanswered("no_api_key")]
        assert server.asked == []


@pytest.mark.parametrize("broken", [f"{SECRET}\nX-Evil: 1", f"{SECRET}ключ", " "])
def test_a_key_that_no_header_can_carry_is_refused_without_being_quoted(
    key: str, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    with judge_server(Say(YES)) as server:
        judge = client(server, api_key_env=key)
        monkeypatch.setenv(key, broken)
        assert ask(judge, "q") == [Unanswered("no_api_key")]
        with pytest.raises(ConfigError, match="JUDGE_KEY_FOR_TESTS") as error:
            client(server, api_key_env=key)
        assert SECRET not in str(error.value)
