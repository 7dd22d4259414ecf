"""Every fault on demand, over real sockets: what the client sees, and whether it was taken."""

import asyncio
import errno
import json
import time

import aiohttp
import pytest
import pytest_asyncio
from sandbox_rig import LETTER, SEND, Rig, sandbox, until

BODY = json.dumps(LETTER).encode()
REQUEST = (
    b"POST /v3/mail/send HTTP/1.1\r\nHost: sandbox\r\nAuthorization: Bearer SG.key\r\n"
    b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY
)


@pytest_asyncio.fixture(scope="module")
async def rig():
    async with sandbox() as rig:
        yield rig


@pytest_asyncio.fixture(autouse=True)
async def healthy(rig: Rig):
    """Each test starts with a provider that answers and an empty ledger."""
    await rig.call("DELETE", "/_sandbox/faults/sendgrid")
    await rig.call("DELETE", "/_sandbox/messages")


async def connected(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection that has had one answer already and is idle now."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(REQUEST)
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 202")
    return reader, writer


async def refused(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError:
        return True
    writer.close()
    return False


NOT_TAKEN = {
    "refuse": (400, "Bad Request"),
    "bad_address": (400, "Does not contain a valid address."),
    "unauthorized": (401, "The provided authorization grant is invalid, expired, or revoked"),
    "rate_limit": (429, "too many requests"),
    "error": (503, "service unavailable"),
}


@pytest.mark.parametrize("fault", NOT_TAKEN)
async def test_an_error_answer_is_complete_and_nothing_is_taken(rig: Rig, fault: str) -> None:
    await rig.fault(fault)
    status, _, body = await rig.send()
    assert (status, json.loads(body)["errors"][0]["message"]) == NOT_TAKEN[fault]
    stats = await rig.stats()
    assert (stats["requests"], stats["accepted"], stats["refused"]) == (1, 0, 1)
    assert await rig.messages() == []


async def test_the_body_of_an_answer_is_not_held_back(rig: Rig) -> None:
    """Without TCP_NODELAY each would wait some 40 ms for the client's acknowledgement of the headers."""
    await rig.fault("error")
    took_s = []
    for _ in range(10):
        started_s = time.perf_counter()
        await rig.send()
        took_s.append(time.perf_counter() - started_s)
    assert min(took_s) < 0.03


@pytest.mark.parametrize("status", [500, 502, 504])
async def test_error_answers_with_the_status_that_was_asked_for(rig: Rig, status: int) -> None:
    await rig.fault("error", status=status)
    assert (await rig.send())[0] == status


async def test_rate_limit_says_when_the_limit_resets_as_a_unix_time(rig: Rig) -> None:
    await rig.fault("rate_limit", retry_after_s=30)
    before = time.time()
    _, headers, _ = await rig.send()
    assert headers["X-RateLimit-Remaining"] == "0"
    assert before + 30 <= int(headers["X-RateLimit-Reset"]) <= time.time() + 31
    assert "Retry-After" not in headers


async def test_an_error_may_say_how_long_to_wait(rig: Rig) -> None:
    await rig.fault("error", retry_after_s=7)
    assert (await rig.send())[1]["Retry-After"] == "7"


@pytest.mark.parametrize("status", [202, 200])
async def test_garbage_is_a_success_without_an_id(rig: Rig, status: int) -> None:
    await rig.fault("garbage", status=status)
    told, headers, body = await rig.send()
    assert (told, headers.get("X-Message-Id"), headers["Content-Type"].split(";")[0]) == (status, None, "text/html")
    assert b"<html>" in body
    assert await rig.messages() == []


async def test_slow_takes_first_and_answers_late(rig: Rig) -> None:
    await rig.fault("slow", delay_ms=60_000)
    sending = asyncio.create_task(rig.send())
    await rig.taken(1)
    assert not sending.done()
    assert (await rig.messages())[0]["answered"] == "202"
    sending.cancel()


async def test_slow_answers_in_the_end(rig: Rig) -> None:
    await rig.fault("slow", delay_ms=120)
    started = time.monotonic()
    assert (await rig.send())[0] == 202
    assert time.monotonic() - started >= 0.12


async def test_accept_then_error_is_in_the_ledger_as_what_the_client_was_told(rig: Rig) -> None:
    await rig.fault("accept_then_error")
    assert (await rig.send())[0] == 500
    await rig.fault("accept_then_error", status=502)
    assert (await rig.send())[0] == 502
    assert [item["answered"] for item in await rig.messages()] == ["500", "502"]


async def test_accept_then_hang_is_in_the_ledger_and_never_answers(rig: Rig) -> None:
    await rig.fault("accept_then_hang")
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    writer.write(REQUEST)
    await rig.taken(1)
    assert (await rig.messages())[0]["answered"] == "hang"
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(1), 0.2)
    writer.close()


async def test_accept_then_reset_is_in_the_ledger_and_really_resets(rig: Rig) -> None:
    await rig.fault("accept_then_reset")
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    writer.write(REQUEST)
    with pytest.raises(ConnectionResetError):
        await reader.read()
    writer.close()
    assert [item["answered"] for item in await rig.messages()] == ["reset"]


async def test_reset_takes_nothing_and_really_resets(rig: Rig) -> None:
    await rig.fault("reset")
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    writer.write(REQUEST)
    with pytest.raises(ConnectionResetError):
        await reader.read()
    writer.close()
    stats = await rig.stats()
    assert (stats["requests"], stats["accepted"], stats["refused"]) == (1, 0, 1)


async def test_what_the_real_one_would_refuse_is_not_taken_under_any_fault(rig: Rig) -> None:
    for fault in ("accept_then_error", "accept_then_hang", "accept_then_reset", "slow"):
        await rig.fault(fault, delay_ms=0)
        assert (await rig.send({}))[0] == 400
    assert (await rig.stats())["accepted"] == 0


async def test_down_refuses_connections_and_closes_idle_ones_until_it_is_over(rig: Rig) -> None:
    reader, writer = await connected(rig.port)
    await rig.fault("down")
    assert await refused(rig.port)
    assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()
    await rig.call("DELETE", "/_sandbox/faults/sendgrid")
    assert (await rig.send())[0] == 202


async def test_down_comes_back_by_itself_after_for_s(rig: Rig) -> None:
    await rig.fault("down", for_s=0.2)
    assert await refused(rig.port)

    async def back() -> bool:
        return not await refused(rig.port)

    await until(back)
    assert (await rig.send())[0] == 202
    assert set((await rig.call("GET", "/_sandbox/faults"))[1].values()) == {None}


async def test_down_lets_an_answer_under_way_finish(rig: Rig) -> None:
    await rig.fault("slow", delay_ms=300)
    sending = asyncio.create_task(rig.send())
    await rig.taken(1)
    await rig.fault("down")
    assert await refused(rig.port)
    assert (await sending)[0] == 202


async def test_down_on_the_shared_port_resets_before_anything_is_taken(rig: Rig) -> None:
    await rig.fault("down")
    with pytest.raises(aiohttp.ClientOSError) as caught:
        await rig.http.post(rig.url + "/sendgrid" + SEND, json=LETTER)
    assert caught.value.errno == errno.ECONNRESET
    assert (await rig.stats())["accepted"] == 0


async def test_another_fault_ends_down(rig: Rig) -> None:
    await rig.fault("down")
    await rig.fault("error")
    assert (await rig.send())[0] == 503


async def test_a_fault_ends_by_itself_after_for_s(rig: Rig) -> None:
    await rig.fault("error", for_s=0.1)
    assert (await rig.send())[0] == 503

    async def answers() -> bool:
        return (await rig.send())[0] == 202

    await until(answers)


async def test_the_end_of_an_older_fault_does_not_end_a_newer_one(rig: Rig) -> None:
    await rig.fault("error", for_s=0.05)
    await rig.fault("refuse", for_s=60)
    passed = time.monotonic() + 0.15

    async def later() -> bool:
        return time.monotonic() > passed

    await until(later)
    assert (await rig.send())[0] == 400


async def test_share_hits_some_and_spares_the_others(rig: Rig) -> None:
    await rig.fault("error", share=0.5)
    statuses = [(await rig.send())[0] for _ in range(80)]
    assert {202, 503} == set(statuses)
    stats = await rig.stats()
    assert (stats["accepted"], stats["refused"]) == (statuses.count(202), statuses.count(503))


@pytest.mark.parametrize(
    "body",
    [
        {"fault": "nonsense"},
        {},
        {"fault": "error", "share": 0},
        {"fault": "error", "share": 1.5},
        {"fault": "error", "status": 99},
        {"fault": "slow", "delay_ms": -1},
        {"fault": "error", "for_s": 0},
        {"fault": "error", "unknown": 1},
        {"fault": "down", "share": 0.5},
    ],
)
async def test_a_fault_that_makes_no_sense_is_refused_and_changes_nothing(rig: Rig, body: object) -> None:
    status, answer = await rig.call("PUT", "/_sandbox/faults/sendgrid", body)
    assert (status, answer["status"]) == (422, 422)
    assert (await rig.send())[0] == 202


async def test_an_unknown_provider_is_not_found(rig: Rig) -> None:
    assert (await rig.call("PUT", "/_sandbox/faults/pigeon", {"fault": "error"}))[0] == 404
    assert (await rig.call("DELETE", "/_sandbox/faults/pigeon"))[0] == 404
