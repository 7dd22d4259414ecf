"""What is wrong with a request is said exactly, and nothing of it is stored."""

import asyncio
import io
import json
import os
import random
import socket
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.integration.api.rig import Api

GOOD = {"to": "ada", "content": {"subject": "Hi", "text": "Hello"}}
LATER = "2030-01-01T00:00:00Z"

INVALID = [
    ({}, "missing_field", "/to"),
    ({"to": "ada"}, "missing_field", "/template"),
    ({**GOOD, "template": "order_confirmation"}, "invalid", "/template"),
    ({**GOOD, "nonsense": 1}, "unknown_field", "/nonsense"),
    ({**GOOD, "a/b~c": 1}, "unknown_field", "/a~1b~0c"),
    ({**GOOD, "to": {"user": "ada", "mail": "x"}}, "unknown_field", "/to/mail"),
    ({**GOOD, "content": {"subject": "Hi", "texts": "x"}}, "unknown_field", "/content/texts"),
    ({**GOOD, "to": ""}, "invalid", "/to"),
    ({**GOOD, "to": 7}, "invalid", "/to"),
    ({**GOOD, "to": []}, "invalid", "/to"),
    ({**GOOD, "to": ["x"] * 101}, "invalid", "/to"),
    ({**GOOD, "to": "~made-here"}, "invalid", "/to"),
    ({**GOOD, "to": "u" * 129}, "invalid", "/to"),
    ({**GOOD, "to": {}}, "no_usable_address", "/to"),
    ({**GOOD, "to": {"phone": "+33123456789"}}, "no_usable_address", "/to"),
    ({**GOOD, "to": {"email": "not an address"}}, "no_usable_address", "/to/email"),
    ({**GOOD, "to": {"email": "a@b.example\r\nBcc: x@y.example"}}, "no_usable_address", "/to/email"),
    ({**GOOD, "to": {"user": "ada", "zone": "Europe/Atlantis"}}, "unknown_zone", "/to/zone"),
    ({**GOOD, "template": "absent", "content": None}, "unknown_template", "/template"),
    ({"to": "ada", "template": "theirs"}, "unknown_template", "/template"),
    ({**GOOD, "category": "absent"}, "unknown_category", "/category"),
    ({**GOOD, "channels": ["pigeon"]}, "unknown_channel", "/channels"),
    ({**GOOD, "channels": ["sms"], "to": {"phone": "1234"}}, "no_usable_address", "/to/phone"),
    ({**GOOD, "channels": []}, "invalid", "/channels"),
    ({**GOOD, "sender": "absent"}, "unknown_sender", "/sender"),
    ({**GOOD, "content": {"text": "no subject"}}, "invalid", "/content/subject"),
    ({**GOOD, "content": {"subject": "only a subject"}}, "invalid", "/content/text"),
    ({**GOOD, "content": {"subject": "a\r\nBcc: x@y.example", "text": "x"}}, "invalid", "/content/subject"),
    ({**GOOD, "content": {"subject": "a\u2028b", "text": "x"}}, "invalid", "/content/subject"),
    ({**GOOD, "content": {"subject": "a\u0085b", "text": "x"}}, "invalid", "/content/subject"),
    ({**GOOD, "content": {"subject": "=?UTF-8?Q?=0A?=Bcc: x", "text": "x"}}, "invalid", "/content/subject"),
    ({**GOOD, "reply_to": "a@b.example\nBcc: x@y.example"}, "invalid", "/reply_to"),
    ({**GOOD, "reply_to": "=?utf-8?q?=0A?="}, "invalid", "/reply_to"),
    ({**GOOD, "attachments": [{"name": "a", "type": "text/plain"}]}, "not_supported_yet", "/attachments"),
    ({**GOOD, "metadata": {str(n): "x" for n in range(17)}}, "invalid", "/metadata"),
    ({**GOOD, "metadata": {"n": 1}}, "invalid", "/metadata"),
    ({**GOOD, "reference": "x" * 256}, "invalid", "/reference"),
    ({**GOOD, "deduplication_key": ""}, "invalid", "/deduplication_key"),
    ({**GOOD, "expires_after_s": 0}, "invalid", "/expires_after_s"),
    ({**GOOD, "expires_after_s": 1e300}, "invalid", "/expires_after_s"),
    ({**GOOD, "send_at": "tomorrow"}, "invalid", "/send_at"),
    ({**GOOD, "send_at": "2030-01-01T00:00:00"}, "invalid", "/send_at"),
    ({**GOOD, "send_at": "9999-12-31T23:59:59-12:00"}, "too_far_ahead", "/send_at"),
    ({**GOOD, "send_at": {"local": "2031-02-30T09:00", "zone": "Europe/Paris"}}, "invalid", "/send_at/local"),
    ({**GOOD, "send_at": {"local": "9999-12-31T23:59", "zone": "America/Lima"}}, "invalid", "/send_at/local"),
    ({**GOOD, "send_at": {"local": "2026-12-01T09:00", "zone": "../etc"}}, "unknown_zone", "/send_at/zone"),
    ({**GOOD, "send_at": {"local": "2026-12-01T09:00", "zone": "user"}}, "not_supported_yet", "/send_at/zone"),
    ({**GOOD, "send_at": {"local": "9 o'clock", "zone": "UTC"}}, "invalid", "/send_at/local"),
    ({**GOOD, "data": {"name": "a\0b"}}, "nul_character", "/data/name"),
    ({**GOOD, "data": {"a\0b": 1}}, "nul_character", "/data"),
    ({**GOOD, "to": "a\0b"}, "nul_character", "/to"),
    ({**GOOD, "reference": "a\0b"}, "nul_character", "/reference"),
    ([], "invalid", ""),
    ("text", "invalid", ""),
    (None, "invalid", ""),
]


@pytest.mark.parametrize(("body", "code", "pointer"), INVALID, ids=lambda value: str(value)[:60])
async def test_an_unusable_field_is_named(api: Api, body, code, pointer):
    said = await api.post(json.dumps(body).encode())
    assert (said.status, said.code, said.pointers) == (422, code, [pointer]), said.body
    assert said.headers["content-type"] == "application/problem+json"
    assert set(said.body) == {"type", "title", "status", "code", "detail", "request_id", "errors"}


MALFORMED = [
    b"",
    b"{",
    b"{'to': 1}",
    b'{"to": "a"} x',
    b'\xef\xbb\xbf{"to": "a"}',
    b'{"to": "\xff"}',
    b'{"to": "\\ud800"}',
    b'{"to": "\\udc00\\ud800"}',
    b'{"to": NaN}',
    b'{"to": "a", "data": ' + b"[" * 20_000 + b"]" * 20_000 + b"}",
    b'{"to": "a", "data": ' + b'{"a":' * 20_000 + b"1" + b"}" * 20_001,
    b"[" * 20_000,
    random.Random(7).randbytes(2_000),
]


@pytest.mark.parametrize("raw", MALFORMED, ids=lambda raw: repr(raw[:24]))
@pytest.mark.parametrize("path", ["/notifications", "/notifications/batch", "/users/batch"])
async def test_what_is_not_usable_json_is_a_400(api: Api, raw, path):
    said = await api.post(raw, "/api/v1" + path)
    assert (said.status, said.code) == (400, "malformed_json"), said.body


async def test_deep_but_reasonable_data_is_taken(api: Api):
    said = await api.post(
        b'{"to": "a", "content": {"subject": "a", "text": "b"}, "data": ' + b'{"a":' * 40 + b"1" + b"}" * 41
    )
    assert said.status == 202, said.body


async def test_one_deep_item_of_a_batch_does_not_spoil_the_others(api: Api):
    deep = b'{"to": "a", "data": ' + b'{"a":' * 500 + b"1" + b"}" * 501
    said = await api.post(
        b'{"notifications": [' + deep + b"," + json.dumps(GOOD).encode() + b"]}", "/api/v1/notifications/batch"
    )
    assert [one.get("problem", {}).get("code") for one in said.body["results"]] == ["malformed_json", None]


@pytest.mark.parametrize("key", ["td_live_nobody_secret", "td_live_", "", "Basic x", "td_live_a_" + "x" * 5000, "é"])
async def test_every_wrong_key_is_the_same_401(api: Api, key):
    said = await api.call("POST", "/api/v1/notifications", GOOD, None, headers={"Authorization": f"Bearer {key}"})
    absent = await api.call("GET", "/api/v1/users/ada", None, None)
    wrong = await api.call("GET", "/api/v1/users/ada", None, api.key[:-1] + "!")
    for one in (said, absent, wrong):
        assert (one.status, one.code, one.headers["www-authenticate"]) == (401, "unauthorized", "Bearer")
        assert one.body["detail"] == said.body["detail"]


async def test_a_key_does_only_what_its_scopes_say(api: Api):
    reader = (await api.call("POST", "/api/v1/keys", {"name": "reader", "scopes": ["read"]})).body["key"]
    sender = (await api.call("POST", "/api/v1/keys", {"name": "sender", "scopes": ["send"]})).body["key"]
    assert (await api.send(GOOD, sender)).status == 202
    for said in (
        await api.send(GOOD, reader),
        await api.call("GET", "/api/v1/users/ada/notifications", key=sender),
        await api.call("PUT", "/api/v1/users/ada", {}, reader),
        await api.call("POST", "/api/v1/keys", {"name": "x", "scopes": ["read"]}, reader),
    ):
        assert (said.status, said.code) == (403, "scope")


async def test_the_body_must_be_declared_as_json(api: Api):
    raw = json.dumps(GOOD).encode()
    for path in ("/api/v1/notifications", "/api/v1/notifications/batch", "/api/v1/users/batch"):
        said = await api.post(raw, path, Content_Type="text/plain")
        assert (said.status, said.code) == (415, "unsupported_media_type")
    assert (await api.post(raw, Content_Type="Application/JSON; charset=utf-8")).status == 202


@pytest.mark.parametrize("key", ["", "x" * 256, "ключ", "a\tb"])
async def test_an_idempotency_key_is_short_and_printable(api: Api, key):
    said = await api.send(GOOD, Idempotency_Key=key)
    assert (said.status, said.pointers) == (422, ["/idempotency_key"])


async def test_a_large_body_is_refused_before_it_is_read(api: Api):
    for path, most in (("", 262_144), ("/batch", 8_388_608)):
        said = await api.post(io.BytesIO(b" " * (most + 1)), "/api/v1/notifications" + path)
        assert (said.status, said.code) == (413, "too_large")
    assert (await api.post(b" " * 300_000, "/api/v1/users/batch")).status == 400
    assert (await api.call("PUT", "/api/v1/users/ada", {"attributes": {"a": "x" * 300_000}})).status == 413


async def test_a_hundred_megabytes_in_chunks_cost_no_memory(api: Api):
    async def chunks():
        for _ in range(1_600):
            yield b"x" * 65_536

    before = _resident_bytes()
    said = await api.call("POST", "/api/v1/notifications", data=chunks(), headers={"Content-Type": "application/json"})
    assert (said.status, said.code) == (413, "too_large")
    assert _resident_bytes() - before < 30_000_000


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def test_unknown_calls_are_problems_too(api: Api):
    assert (await api.call("GET", "/api/v1/nothing")).code == "not_found"
    assert (await api.call("GET", "/nothing")).code == "not_found"
    assert (await api.call("DELETE", "/api/v1/notifications")).code == "method_not_allowed"
    assert (await api.call("GET", "/api/v1/notifications/not-an-id")).code == "not_found"
    highest = "ffffffff-ffff-7fff-bfff-ffffffffffff"
    assert (await api.call("GET", f"/api/v1/notifications/{highest}")).code == "not_found"
    assert (await api.call("POST", f"/api/v1/notifications/{highest}/cancel")).code == "not_found"


async def test_bytes_that_are_not_http_end_the_connection(api: Api):
    address = urlsplit(api.url)
    for noise in (b"\0" * 200, b"POST / HTTP/9.9\r\n\r\n", b"GET " + b"a" * 200_000):
        with socket.create_connection((address.hostname, address.port)) as plain:
            plain.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(plain, noise + b"\r\n\r\n")
            async with asyncio.timeout(5):
                with suppress(ConnectionResetError):
                    assert not (await loop.sock_recv(plain, 100)).startswith(b"HTTP/1.1 5")
    assert (await api.send(GOOD)).status == 202
