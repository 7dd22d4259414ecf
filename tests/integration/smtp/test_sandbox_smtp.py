"""The stand-in of mail servers: with the standard library's client as a referee, and with our own way out."""

import asyncio
import smtplib
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from sandbox_rig import Receiver, Rig, receiver, sandbox, until
from smtp_rig import REFERENCE, account, message, said, using

from tidings.domain.outcome import Gone, Outcome, Refused, Sent, TryLater, TryNext, Unsure
from tidings.ports import WebhookCall
from tidings.sandbox.certificate import authority_pem
from tidings.sandbox.signing import SigningKey
from tidings.sandbox.smtp import USERNAME, Smtp
from tidings.sandbox.standin import LIVE, TEST

pytestmark = pytest.mark.asyncio(loop_scope="module")
MESSAGE_ID = f"{REFERENCE}@example.com"


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sandbox") / "key"


@pytest.fixture(scope="module")
def key(key_file: Path) -> SigningKey:
    return SigningKey.kept_in(key_file)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hooks() -> AsyncIterator[tuple[Receiver, Receiver]]:
    """Where the bounces of the live customer go, and those of the test customer."""
    async with receiver() as live, receiver() as test:
        yield live, test


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(key_file: Path, hooks: tuple[Receiver, Receiver]) -> AsyncIterator[Rig]:
    live, test = hooks
    urls = {"smtp": live.url, "smtp.test": test.url}
    async with sandbox("smtp", signing_key_file=key_file, receipts_urls=urls) as rig:
        yield rig


@pytest_asyncio.fixture(loop_scope="module")
async def rig(shared: Rig) -> Rig:
    """Well, with an empty ledger, and without bounces."""
    await shared.call("DELETE", "/_sandbox/faults/smtp")
    await shared.call("DELETE", "/_sandbox/messages")
    await shared.receipts(share_delivered=0)
    return shared


def plain(outcome: Outcome) -> Outcome:
    return msgspec.structs.replace(outcome, detail="")


def customer(rig: Rig, key: SigningKey, who: str = LIVE, **settings: str) -> Any:
    """An account of ours that is the stand-in's customer."""
    return account(rig.port, **{**Smtp.customer(rig.host, key, who), **settings})


def letter(**headers: str) -> EmailMessage:
    mail = EmailMessage()
    for name, value in {"From": "The Shop <shop@example.com>", "To": "ada@example.com", **headers}.items():
        mail[name.replace("_", "-")] = value
    mail.set_content("Grüße\n")
    return mail


async def speaking(rig: Rig, act: Callable[[smtplib.SMTP], Any]) -> Any:
    """What the standard library's client makes of one conversation."""

    def speak() -> Any:
        with smtplib.SMTP("127.0.0.1", rig.port, timeout=10) as client:
            return act(client)

    return await asyncio.to_thread(speak)


# what it takes


async def test_a_mail_of_the_standard_library_is_taken_whole(rig: Rig, key: SigningKey) -> None:
    mail = letter(Subject="Größe", Message_ID="<1@example.com>", Reply_To="help@example.com", X_Campaign="spring")
    mail.add_alternative("<p>Grüße</p>\n.\n", subtype="html")
    mail.add_attachment(b"%PDF", maintype="application", subtype="pdf", filename="bill.pdf")

    def send(client: smtplib.SMTP) -> set[str]:
        client.ehlo()
        assert int(client.esmtp_features["size"]) == Smtp.limit_bytes
        client.starttls(context=ssl.create_default_context(cadata=authority_pem(key)))
        client.login(USERNAME, f"password-{LIVE}")
        client.send_message(mail, to_addrs=["ada@example.com", "bob@example.com"])
        return set(client.esmtp_features)

    assert "starttls" not in await speaking(rig, send)
    (item,) = await rig.messages()
    assert (item["to"], item["reference"], item["answered"]) == ("ada@example.com, bob@example.com", None, "250")
    assert item["content"] == {
        "from": {"email": "shop@example.com", "name": "The Shop"},
        "reply_to": {"email": "help@example.com", "name": ""},
        "subject": "Größe",
        "text": "Grüße\n",
        "html": "<p>Grüße</p>\n.\n",
        "headers": {"X-Campaign": "spring"},
        "attachments": ["bill.pdf"],
    }


async def test_a_certificate_of_the_stand_in_is_trusted_by_nobody_else(rig: Rig) -> None:
    def send(client: smtplib.SMTP) -> None:
        with pytest.raises(ssl.SSLCertVerificationError):
            client.starttls(context=ssl.create_default_context(cadata=authority_pem(SigningKey.fresh())))

    await speaking(rig, send)


async def test_our_own_mail_is_taken_under_its_reference(rig: Rig, key: SigningKey) -> None:
    sent = message(headers={"List-Unsubscribe": "<https://example.com/u>"}, reply_to="help@example.com")
    outcome = await said(customer(rig, key), sent)
    assert plain(outcome) == Sent(MESSAGE_ID)
    (item,) = await rig.messages(f"?reference={REFERENCE}")
    content = item["content"]
    assert (content["subject"], content["text"], content["html"]) == (
        "Order 12345",
        "Thank you.\n",
        "<p>Thank you.</p>\n",
    )
    assert content["headers"] == {"List-Unsubscribe": "<https://example.com/u>"}
    assert await rig.stats() == await rig.stats() | {"requests": 1, "accepted": 1, "refused": 0, "references": 1}


async def test_one_connection_carries_many_mails(rig: Rig, key: SigningKey) -> None:
    async with using(customer(rig, key)) as provider:
        for n in range(3):
            assert isinstance(await provider.send(message(f"user-{n}@example.com"), lambda: True), Sent)
    assert [item["to"] for item in await rig.messages()] == [f"user-{n}@example.com" for n in range(3)]


async def test_a_mail_is_shown_on_the_page_as_its_reader_sees_it(rig: Rig, key: SigningKey) -> None:
    await said(customer(rig, key), message())
    _, feed = await rig.call("GET", "/_page/feed?provider=smtp")
    (item,) = feed["items"]
    assert (item["channel"], item["title"], item["snippet"]) == ("email", "Order 12345", "Thank you.\n")
    async with rig.http.get(f"{rig.url}/_page/messages/{item['id']}/html") as page:
        assert await page.text() == "<p>Thank you.</p>\n"


# what it refuses


REFUSED = {
    "no sender": (b"Subject: one\r\n\r\nx", "ada@example.com", 550),
    "a sender without an address": (b"From: The Shop <>\r\n\r\nx", "ada@example.com", 550),
    "two subjects": (b"From: shop@example.com\r\nSubject: 1\r\nSubject: 2\r\n\r\nx", "ada@example.com", 550),
    "a recipient without a host": (b"From: shop@example.com\r\n\r\nx", "ada", 504),
}


@pytest.mark.parametrize("why", REFUSED)
async def test_what_a_real_server_would_refuse_is_refused(rig: Rig, why: str) -> None:
    mail, to, code = REFUSED[why]

    def send(client: smtplib.SMTP) -> int:
        with pytest.raises((smtplib.SMTPDataError, smtplib.SMTPRecipientsRefused)) as refused:
            client.sendmail("shop@example.com", [to], mail)
        error = refused.value
        return error.smtp_code if isinstance(error, smtplib.SMTPDataError) else error.recipients[to][0]

    assert await speaking(rig, send) == code
    stats = await rig.stats()
    assert (stats["requests"], stats["accepted"], stats["refused"]) == (1, 0, 1)


async def test_what_is_too_large_is_refused_before_it_is_sent(rig: Rig) -> None:
    def send(client: smtplib.SMTP) -> int:
        with pytest.raises(smtplib.SMTPSenderRefused) as refused:
            client.sendmail("shop@example.com", ["ada@example.com"], b"x" * (Smtp.limit_bytes + 1))
        return refused.value.smtp_code

    assert await speaking(rig, send) == 552


async def test_a_server_that_knows_its_customers_lets_no_others_in() -> None:
    def logging_in(password: str) -> Callable[[smtplib.SMTP], int]:
        def log_in(client: smtplib.SMTP) -> int:
            try:
                return client.login(USERNAME, password)[0]
            except smtplib.SMTPAuthenticationError as wrong:
                return wrong.smtp_code

        return log_in

    def unknown(client: smtplib.SMTP) -> int:
        client.ehlo()
        return client.mail("shop@example.com")[0]

    async with sandbox("smtp", api_keys={"smtp": "right"}) as rig:
        assert await speaking(rig, logging_in("wrong")) == 535
        assert await speaking(rig, logging_in("right")) == 235
        assert await speaking(rig, unknown) == 530
        assert plain(await said(account(rig.port, username=USERNAME, password="right"))) == Sent(MESSAGE_ID)


# faults

OUTCOMES: dict[str, Outcome] = {
    "refuse": Refused("smtp_550"),
    "bad_address": Refused("smtp_550", gone=Gone.hard_bounce),
    "rate_limit": TryLater("smtp_450"),
    "unauthorized": TryLater("smtp_535", after_s=7.0, account=True),
    "error": TryNext("smtp_421"),
    "garbage": Unsure("garbled"),
    "down": TryNext("connect_refused"),
}


@pytest.mark.parametrize("fault", OUTCOMES)
async def test_under_a_fault_nothing_is_taken_and_we_know_what_it_means(rig: Rig, key: SigningKey, fault: str) -> None:
    await rig.fault(fault)
    assert plain(await said(customer(rig, key, pause_s="7"))) == OUTCOMES[fault]
    assert (await rig.stats())["accepted"] == 0


async def test_a_reset_before_the_last_dot_is_surely_not_sent(rig: Rig, key: SigningKey) -> None:
    await rig.fault("reset")
    outcome = await said(customer(rig, key))
    stats = await rig.stats()
    # What the dot meets is up to the network: the reset may come right after it.
    assert isinstance(outcome, TryNext | Unsure), outcome
    assert (stats["requests"], stats["accepted"], stats["refused"]) == (1, 0, 1)


@pytest.mark.parametrize(("status", "becomes"), [(451, TryLater("smtp_451")), (554, Refused("smtp_554"))])
async def test_an_error_may_be_any_reply(rig: Rig, key: SigningKey, status: int, becomes: Outcome) -> None:
    await rig.fault("error", status=status)
    assert plain(await said(customer(rig, key))) == becomes


LOST = {
    "accept_then_hang": ({"timeout"}, "hang"),
    "accept_then_reset": ({"reset", "closed"}, "reset"),
}


@pytest.mark.parametrize("fault", LOST)
async def test_an_answer_that_is_lost_after_the_last_dot_leaves_a_doubt(rig: Rig, key: SigningKey, fault: str) -> None:
    codes, answered = LOST[fault]
    await rig.fault(fault)
    outcome = await said(customer(rig, key, timeout_s="2"))
    assert isinstance(outcome, Unsure) and outcome.code in codes
    assert [item["answered"] for item in await rig.messages()] == [answered]


async def test_slow_takes_first_and_answers_late(rig: Rig, key: SigningKey) -> None:
    await rig.fault("slow", delay_ms=60_000)
    async with using(customer(rig, key)) as provider:
        sending = asyncio.create_task(provider.send(message(), lambda: True))
        await rig.taken(1)
        assert not sending.done()
    assert isinstance(await sending, Unsure)
    await rig.fault("slow", delay_ms=1)
    assert plain(await said(customer(rig, key))) == Sent(MESSAGE_ID)


async def test_a_fault_that_was_taken_and_denied_is_in_the_ledger_as_it_was_told(rig: Rig, key: SigningKey) -> None:
    await rig.fault("accept_then_error")
    assert plain(await said(customer(rig, key))) == TryLater("smtp_451")
    assert [item["answered"] for item in await rig.messages()] == ["451"]


async def test_down_takes_leave_of_those_who_wait_and_lets_a_message_under_way_finish(
    rig: Rig, key: SigningKey
) -> None:
    async with using(customer(rig, key)) as waiting, using(customer(rig, key)) as busy:
        assert isinstance(await waiting.send(message(), lambda: True), Sent)
        await rig.fault("slow", delay_ms=500)
        sending = asyncio.create_task(busy.send(message(), lambda: True))
        await rig.taken(2)
        await rig.fault("down")
        assert plain(await waiting.send(message(), lambda: True)) == TryNext("connect_refused")
        assert plain(await sending) == Sent(MESSAGE_ID)
        assert plain(await busy.send(message(), lambda: True)) == TryNext("connect_refused")
        await rig.call("DELETE", "/_sandbox/faults/smtp")
        assert plain(await waiting.send(message(), lambda: True)) == Sent(MESSAGE_ID)


async def test_a_sandbox_that_leaves_waits_for_nobody(key_file: Path, key: SigningKey) -> None:
    async with sandbox("smtp", signing_key_file=key_file) as rig:
        await rig.fault("accept_then_hang")
        provider = customer(rig, key)
        hanging = asyncio.create_task(said(provider))
        await rig.taken(1)
    assert isinstance(await hanging, Unsure)


# bounces


def bounces(hook: Receiver) -> Iterator[WebhookCall]:
    for headers, body in hook.calls:
        yield WebhookCall(hook.url, headers, body)


@pytest.mark.parametrize(("who", "which"), [(LIVE, 0), (TEST, 1)])
async def test_a_bounce_comes_as_a_mail_that_the_account_believes(
    rig: Rig, key: SigningKey, hooks: tuple[Receiver, Receiver], who: str, which: int
) -> None:
    for hook in hooks:
        hook.calls.clear()
    await rig.receipts(share_delivered=0, share_bounced=1, delay_ms=0, repeat=2)
    async with using(customer(rig, key, who)) as provider, using(account(rig.port, bounce_secret="x")) as another:
        assert isinstance(await provider.send(message(), lambda: True), Sent)
        await hooks[which].heard(2)
        first, again = (provider.receipts(call) for call in bounces(hooks[which]))
        assert first == again
        (receipt,) = first or ()
        assert all(another.receipts(call) is None for call in bounces(hooks[which]))
    assert (receipt.reference, receipt.message_id) == (REFERENCE, MESSAGE_ID)
    assert (receipt.kind, receipt.status, receipt.gone) == ("failed", "undelivered", Gone.hard_bounce)
    assert receipt.reason and receipt.reason.startswith("550 5.1.1 <ada@example.com>: ")
    assert hooks[1 - which].calls == []


async def test_of_what_arrives_a_mail_server_says_nothing(
    rig: Rig, key: SigningKey, hooks: tuple[Receiver, Receiver]
) -> None:
    hooks[0].calls.clear()
    async with using(customer(rig, key)) as provider:
        await rig.receipts(delay_ms=0, share_opened=1)
        await provider.send(message(), lambda: True)
        await rig.receipts(share_delivered=0, share_bounced=1, delay_ms=0)
        await provider.send(message("bob@example.com"), lambda: True)
    await hooks[0].heard(1)

    async def told() -> bool:
        happened = [(await rig.call("GET", f"/_page/messages/{n}"))[1]["happened"] for n in await _ids(rig)]
        return happened == [["delivered", "opened"], ["bounced"]]

    await until(told)
    assert len(hooks[0].calls) == 1 and b"bob@example.com" in hooks[0].calls[0][1]


async def _ids(rig: Rig) -> list[int]:
    return sorted(item["id"] for item in (await rig.call("GET", "/_page/feed"))[1]["items"])
