"""The signed webhooks: what they tell, how often, and to whom."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key
from sandbox_rig import LETTER, Receiver, Rig, receiver, sandbox, until

from tidings.sandbox.signing import SigningKey, public_key_base64

SIGNATURE = "x-twilio-email-event-webhook-signature"
TIMESTAMP = "x-twilio-email-event-webhook-timestamp"


def verified(public_key: str, timestamp: str, body: bytes, signature: str) -> bool:
    """The check that a receiver makes: ECDSA over the timestamp and the raw body."""
    key = load_der_public_key(base64.b64decode(public_key))
    assert isinstance(key, ec.EllipticCurvePublicKey)
    try:
        key.verify(base64.b64decode(signature), timestamp.encode() + body, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def events(hook: Receiver) -> list[dict[str, Any]]:
    return [event for _, body in hook.calls for event in json.loads(body)]


def letter(ref: str, *emails: str, **args: str) -> dict[str, Any]:
    to = [{"email": email} for email in emails or (f"{ref}@example.com",)]
    return LETTER | {"personalizations": [{"to": to, "custom_args": {"ref": ref, **args}}]}


async def told(rig: Rig, hook: Receiver, ref: str, **receipts: Any) -> list[dict[str, Any]]:
    """The events of one message under these settings."""
    await rig.receipts(delay_ms=0, **receipts)
    _, headers, _ = await rig.send(letter(ref))
    await hook.heard(1)
    assert all(event["sg_message_id"].startswith(headers["X-Message-Id"] + ".") for event in events(hook))
    return events(hook)


async def test_a_delivered_message_is_processed_then_delivered_and_carries_its_reference() -> None:
    async with receiver() as hook, sandbox(receipts_urls={"sendgrid": hook.url}) as rig:
        got = await told(rig, hook, "r-1")
    assert [event["event"] for event in got] == ["processed", "delivered"]
    assert {event["ref"] for event in got} == {"r-1"}
    assert {event["email"] for event in got} == {"r-1@example.com"}
    assert len({event["sg_event_id"] for event in got}) == 2
    assert all(isinstance(event["timestamp"], int) for event in got)


async def test_a_bounce_is_permanent_and_says_why() -> None:
    async with receiver() as hook, sandbox(receipts_urls={"sendgrid": hook.url}) as rig:
        got = await told(rig, hook, "r-2", share_delivered=0, share_bounced=1)
    assert [event["event"] for event in got] == ["processed", "bounce"]
    assert (got[1]["type"], got[1]["status"]) == ("bounce", "5.1.1")


REACTIONS = {"opened": "open", "clicked": "click", "complained": "spamreport", "unsubscribed": "unsubscribe"}


@pytest.mark.parametrize("reaction", REACTIONS)
async def test_what_a_person_does_with_a_message_is_told_after_its_arrival(reaction: str) -> None:
    async with receiver() as hook, sandbox(receipts_urls={"sendgrid": hook.url}) as rig:
        got = await told(rig, hook, "r-6", **{f"share_{reaction}": 1})
    assert [event["event"] for event in got] == ["processed", "delivered", REACTIONS[reaction]]
    assert {event["ref"] for event in got} == {"r-6"}


async def test_nobody_reacts_to_what_has_not_arrived() -> None:
    shares = {f"share_{reaction}": 1 for reaction in REACTIONS}
    async with receiver() as hook, sandbox(receipts_urls={"sendgrid": hook.url}) as rig:
        got = await told(rig, hook, "r-7", share_delivered=0, share_bounced=1, **shares)
    assert [event["event"] for event in got] == ["processed", "bounce"]


async def test_custom_args_are_merged_at_the_top_but_cannot_forge_an_event() -> None:
    async with receiver() as hook, sandbox(receipts_urls={"sendgrid": hook.url}) as rig:
        await rig.receipts(delay_ms=0)
        await rig.send(letter("r-3", order="12345", event="delivered", email="forged"))
        await hook.heard(1)
    got = events(hook)
    assert [(event["order"], event["event"]) for event in got] == [("12345", "processed"), ("12345", "delivered")]
    assert {event["email"] for event in got} == {"r-3@example.com"}


async def test_receipts_are_signed_over_the_timestamp_and_the_raw_body() -> None:
    async with receiver() as hook, sandbox(receipts_urls={"sendgrid": hook.url}) as rig:
        await told(rig, hook, "r-4")
        key = rig.public_key
    headers, body = hook.calls[0]
    assert body.endswith(b"\r\n")
    assert verified(key, headers[TIMESTAMP], body, headers[SIGNATURE])
    assert not verified(key, headers[TIMESTAMP], body.rstrip(), headers[SIGNATURE])
    assert not verified(key, "1", body, headers[SIGNATURE])


def test_the_recorded_vectors_of_sendgrid_hold_for_this_verification(providers_data: Path) -> None:
    cases = json.loads((providers_data / "vectors" / "sendgrid_event_webhook.json").read_text())["cases"]
    assert {case["valid"] for case in cases} == {True, False}
    for case in cases:
        got = verified(case["public_key"], case["timestamp"], case["body"].encode(), case["signature"])
        assert got == case["valid"], case["name"]


async def test_many_messages_are_told_in_few_calls() -> None:
    async with receiver() as hook, sandbox(receipts_urls={"sendgrid": hook.url}) as rig:
        await rig.receipts(delay_ms=300)
        for n in range(50):
            await rig.send(letter(f"m-{n}"))
        await until(lambda: _enough(hook, 100))
    assert len(hook.calls) < 25
    assert {event["ref"] for event in events(hook)} == {f"m-{n}" for n in range(50)}


async def _enough(hook: Receiver, n: int) -> bool:
    return len(events(hook)) >= n


async def test_every_recipient_of_a_message_has_events_of_its_own() -> None:
    async with receiver() as hook, sandbox(receipts_urls={"sendgrid": hook.url}) as rig:
        await rig.receipts(delay_ms=0)
        await rig.send(letter("r-5", "a@x.org", "b@x.org"))
        await until(lambda: _enough(hook, 4))
    assert {(event["email"], event["event"]) for event in events(hook)} == {
        (email, event) for email in ("a@x.org", "b@x.org") for event in ("processed", "delivered")
    }


async def test_a_repeated_receipt_keeps_its_event_id() -> None:
    async with receiver() as hook, sandbox(receipts_urls={"sendgrid": hook.url}) as rig:
        await rig.receipts(delay_ms=0, repeat=3)
        await rig.send(letter("r-6"))
        await hook.heard(3)
    assert len(events(hook)) == 6
    assert len({event["sg_event_id"] for event in events(hook)}) == 2


async def test_shuffle_tells_in_another_order_sooner_or_later() -> None:
    async with receiver() as hook, sandbox(receipts_urls={"sendgrid": hook.url}) as rig:
        await rig.receipts(delay_ms=0, repeat=40, shuffle=True)
        await rig.send(letter("r-7"))
        await hook.heard(40)
    assert {json.loads(body)[0]["event"] for _, body in hook.calls} == {"processed", "delivered"}


@pytest.mark.parametrize("status", [500, 404, 302])
async def test_a_receipt_that_was_not_taken_comes_again(status: int) -> None:
    async with receiver() as hook, sandbox(receipts_urls={"sendgrid": hook.url}) as rig:
        hook.statuses = [status]
        await rig.receipts(delay_ms=0)
        await rig.send(letter("r-8"))
        await hook.heard(2)
        assert hook.calls[0][1] == hook.calls[1][1]

        async def counted() -> bool:
            return (await rig.stats())["webhooks"] == {"calls": 1, "retried": 1, "given_up": 0}

        await until(counted)


async def test_a_receiver_that_comes_up_late_hears_all() -> None:
    async with receiver() as gone:
        pass
    async with sandbox(receipts_urls={"sendgrid": gone.url}) as rig:
        await rig.receipts(delay_ms=0)
        await rig.send(letter("r-9"))

        async def tried() -> bool:
            return (await rig.stats())["webhooks"]["retried"] >= 1

        await until(tried)
        async with receiver(gone.port) as hook:
            await hook.heard(1)
    assert {event["ref"] for event in events(hook)} == {"r-9"}


async def test_a_message_that_was_taken_without_an_answer_is_told_too() -> None:
    async with receiver() as hook, sandbox(receipts_urls={"sendgrid": hook.url}) as rig:
        await rig.receipts(delay_ms=0)
        await rig.fault("accept_then_error")
        await rig.send(letter("r-10"))
        await hook.heard(1)
    assert {event["ref"] for event in events(hook)} == {"r-10"}


async def test_a_receipt_may_come_before_the_answer() -> None:
    async with receiver() as hook, sandbox(receipts_urls={"sendgrid": hook.url}) as rig:
        await rig.receipts(delay_ms=0)
        await rig.fault("slow", delay_ms=400)
        status, _, _ = await rig.send(letter("r-11"))
        assert (status, len(hook.calls)) == (202, 1)


async def test_nothing_is_heard_of_what_neither_share_covers() -> None:
    async with receiver() as hook, sandbox(receipts_urls={"sendgrid": hook.url}) as rig:
        await rig.receipts(delay_ms=0, share_delivered=0)
        await rig.send(letter("silent"))
        await rig.receipts(delay_ms=0)
        await rig.send(letter("loud"))
        await hook.heard(1)
    assert {event["ref"] for event in events(hook)} == {"loud"}


async def test_without_a_url_there_are_no_webhooks() -> None:
    async with sandbox() as rig:
        await rig.receipts(delay_ms=0)
        await rig.send()
        assert (await rig.stats())["webhooks"] == {"calls": 0, "retried": 0, "given_up": 0}


async def test_the_defaults_are_those_of_the_contract() -> None:
    async with sandbox() as rig:
        status, body = await rig.call("GET", "/_sandbox/receipts/sendgrid")
    wanted = {
        "share_delivered": 1.0,
        "share_bounced": 0.0,
        "share_opened": 0.0,
        "share_clicked": 0.0,
        "share_complained": 0.0,
        "share_unsubscribed": 0.0,
        "delay_ms": 500,
        "repeat": 1,
        "shuffle": False,
    }
    assert (status, body) == (200, wanted)


@pytest.mark.parametrize(
    "body",
    [{"share_delivered": 0.6, "share_bounced": 0.6}, {"share_delivered": 2}, {"repeat": 0}, {"delay_ms": -1}, {"x": 1}],
)
async def test_settings_that_make_no_sense_are_refused(body: object) -> None:
    async with sandbox() as rig:
        assert (await rig.call("PUT", "/_sandbox/receipts/sendgrid", body))[0] == 422


async def test_the_key_outlives_a_restart_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "webhook.pem"
    announced = public_key_base64(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["webhook.pem"]
    for _ in range(2):
        async with sandbox(signing_key_file=path) as rig:
            assert rig.public_key == announced


def test_a_file_that_holds_another_kind_of_key_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(SigningKey(ec.generate_private_key(ec.SECP384R1())).pem)
    with pytest.raises(ValueError, match=r"no EC P-256 private key"):
        public_key_base64(path)
