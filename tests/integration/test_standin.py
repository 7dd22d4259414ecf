"""The compiled stand-in, over real sockets."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from uuid import uuid4

import psutil
import pytest

from tidings.bench import standin
from tidings.bench.standin import StandIn, Stats, credential_hash, running

pytestmark = pytest.mark.usefixtures("compiler")
KEY = {"Authorization": "Bearer SG.test"}


@pytest.fixture(scope="module")
def compiler(tool) -> None:
    tool("cc")


@pytest.fixture
def provider():
    with running() as stand_in:
        yield stand_in


def mail(reference: str, **more: object) -> bytes:
    return json.dumps({"personalizations": [{"custom_args": {"ref": reference}}], **more}).encode()


def connect(provider: StandIn) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(provider.url.removeprefix("http://"), timeout=10)


def post(provider: StandIn, body: bytes, headers: dict[str, str] = KEY, path: str = "/v3/mail/send"):
    connection = connect(provider)
    connection.request("POST", path, body, headers)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer


def raw(provider: StandIn) -> socket.socket:
    host, port = provider.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=10)


def request(body: bytes, *headers: str) -> bytes:
    lines = ["POST /v3/mail/send HTTP/1.1", "Host: x", "Authorization: Bearer k", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, *headers, "", ""]).encode() + body


def test_a_mail_is_taken_with_202_and_an_id_of_its_own(provider):
    answers = [post(provider, mail(f"{uuid4().hex}-1")) for _ in range(2)]
    assert [answer.status for answer in answers] == [202, 202]
    assert len({answer.headers["X-Message-Id"] for answer in answers}) == 2
    assert provider.stats() == Stats(
        requests=2, accepted=2, refused=0, references=2, repeated=0, deliveries=2, repeated_deliveries=0
    )


def test_the_ledger_keeps_reference_arrival_times_taken_and_credential(provider):
    delivery = uuid4()
    before = time.time_ns()
    for n in (1, 2, 1):
        post(provider, mail(f"{delivery.hex}-{n}"))
    first, second = provider.references()
    assert (first.delivery, first.n, first.times) == (delivery.bytes, 1, 2)
    assert (second.delivery, second.n, second.times) == (delivery.bytes, 2, 1)
    assert before < first.arrived_ns < second.arrived_ns < time.time_ns()
    assert first.credential == credential_hash(KEY["Authorization"]) != credential_hash("Bearer other")


def test_repeated_references_and_repeated_deliveries_are_counted_apart(provider):
    twice, two_tries = uuid4().hex, uuid4().hex
    for reference in (f"{twice}-1", f"{twice}-1", f"{twice}-1", f"{two_tries}-1", f"{two_tries}-2"):
        post(provider, mail(reference))
    stats = provider.stats()
    assert (stats.references, stats.repeated, stats.deliveries, stats.repeated_deliveries) == (3, 1, 2, 2)


def test_many_references_are_found_again_in_pages(provider):
    sent = [uuid4() for _ in range(500)]
    connection = connect(provider)
    for delivery in sent:
        connection.request("POST", "/v3/mail/send", mail(f"{delivery.hex}-1"), KEY)
        connection.getresponse().read()
    assert [taken.delivery for taken in provider.references(page=7)] == [delivery.bytes for delivery in sent]
    connection.close()


@pytest.mark.parametrize(
    ("reference", "found"),
    [
        ("0" * 32 + "-1", 1),
        ("0" * 31 + "-1", 0),
        ("g" * 32 + "-1", 0),
        ("0" * 32 + "-", 0),
        ("0" * 32 + "-1x", 0),
        ("0" * 32 + "-1234567890", 0),
    ],
)
def test_only_our_own_references_are_known(provider, reference, found):
    assert post(provider, mail(reference)).status == 202
    assert (provider.stats().references, provider.stats().unreferenced) == (found, 1 - found)


def test_what_the_real_one_would_refuse_is_refused(provider):
    assert post(provider, mail("x"), {}).status == 401
    assert post(provider, b"hello").status == 400
    assert post(provider, b"").status == 400
    assert post(provider, mail("x"), path="/v3/other").status == 404
    assert (provider.stats().requests, provider.stats().refused) == (3, 3)


def test_a_request_may_come_byte_by_byte(provider):
    with raw(provider) as line:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in request(mail(f"{uuid4().hex}-1")):
            line.send(bytes([byte]))
        assert line.recv(1000).startswith(b"HTTP/1.1 202")
    assert provider.stats().references == 1


def test_a_body_of_a_megabyte_is_taken_and_a_longer_one_refused(provider):
    reference = f"{uuid4().hex}-1"
    body = mail(reference, padding="x" * ((1 << 20) - len(mail(reference, padding=""))))
    assert post(provider, body).status == 202
    with raw(provider) as line:
        line.sendall(request(b"", "Content-Length: 1048577").replace(b"Content-Length: 0\r\n", b""))
        assert line.recv(1000).startswith(b"HTTP/1.1 413")
        assert line.recv(1000) == b""
    assert provider.stats().references == 1


def test_two_requests_written_at_once_are_both_answered(provider):
    with raw(provider) as line:
        line.sendall(request(mail(f"{uuid4().hex}-1")) + request(mail(f"{uuid4().hex}-1"), "Connection: close"))
        answers = b"".join(iter(lambda: line.recv(1000), b""))
    assert answers.count(b"HTTP/1.1 202") == 2


@pytest.mark.parametrize(
    "garbage", [b"\r\n\r\n", b"GET\r\n\r\n", b"\x00" * 20_000, b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n"]
)
def test_garbage_is_answered_and_closed_and_harms_nobody(provider, garbage):
    with raw(provider) as line:
        line.sendall(garbage)
        assert line.recv(1000).startswith(b"HTTP/1.1 4")
    assert post(provider, mail(f"{uuid4().hex}-1")).status == 202


def test_a_client_that_goes_away_mid_request_leaves_the_rest_unharmed(provider):
    for cut in (10, 60, 140):
        with raw(provider) as line:
            line.sendall(request(mail(f"{uuid4().hex}-1"))[:cut])
    assert post(provider, mail(f"{uuid4().hex}-1")).status == 202
    assert provider.stats().requests == 1


def test_every_answer_waits_for_the_latency_and_none_for_another():
    with running(latency_ms=150) as slow:
        lines = [raw(slow) for _ in range(50)]
        began = time.monotonic()
        for line in lines:
            line.sendall(request(mail(f"{uuid4().hex}-1")))
        answers = [line.recv(1000) for line in lines]
        took_s = time.monotonic() - began
        assert all(answer.startswith(b"HTTP/1.1 202") for answer in answers)
        assert 0.15 <= took_s < 1.5
        for line in lines:
            line.close()


def test_a_client_that_leaves_while_its_answer_waits_is_forgotten():
    with running(latency_ms=200) as slow:
        with raw(slow) as line:
            line.sendall(request(mail(f"{uuid4().hex}-1")))
        assert post(slow, mail(f"{uuid4().hex}-1")).status == 202
        assert slow.stats().accepted == 2


def test_forgetting_empties_the_ledger(provider):
    reference = f"{uuid4().hex}-1"
    post(provider, mail(reference))
    provider.forget()
    assert provider.stats() == Stats(requests=0, accepted=0, refused=0, references=0, repeated=0)
    assert list(provider.references()) == []
    post(provider, mail(reference))
    assert provider.stats().repeated == 0


def test_it_ends_when_the_one_who_started_it_is_killed():
    code = (
        "import sys\nfrom tidings.bench.standin import running\n"
        "with running() as s:\n print(s.pid, flush=True)\n sys.stdin.read()"
    )
    owner = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    child = psutil.Process(int(owner.stdout.readline()))
    os.kill(owner.pid, signal.SIGKILL)
    owner.communicate()
    gone, alive = psutil.wait_procs([child], timeout=10)
    assert gone and not alive


def test_without_a_compiler_it_says_what_to_do(monkeypatch, tmp_path: Path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(standin.NoCompiler, match="tidings sandbox --lean"):
        standin.build(tmp_path)


def test_it_is_compiled_once(tmp_path: Path):
    program = standin.build(tmp_path)
    made = program.stat().st_mtime_ns
    assert standin.build(tmp_path) == program
    assert program.stat().st_mtime_ns == made
    assert list(tmp_path.iterdir()) == [program]
