"""Mailgun and mail servers in a whole system: receipts, doubts that a look-up ends, a message that really arrives."""

import asyncio
import sys
from asyncio.subprocess import PIPE
from email import message_from_bytes
from email.policy import default

import pytest

from tests.acceptance.elsewhere import attempts, going_through, put, until_tried
from tests.integration.smtp.smtp_rig import PASSWORD, USERNAME, asking_for_login, mail_server
from tests.system import System, until

pytestmark = pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")


async def test_mail_goes_through_mailgun_and_its_receipts_say_what_became_of_it(lone_system: System):
    async with going_through(lone_system, "mailgun"):
        assert attempts(await lone_system.becomes(await lone_system.send(), "delivered")) == [("sent", "accepted")]
        await lone_system.receipts("mailgun", share_delivered=0, share_bounced=1)
        story = await lone_system.becomes(await lone_system.send(), "undelivered")
        assert story["deliveries"][0]["reason"].startswith("5.1.1")
    await lone_system.check()


async def test_a_lost_answer_of_mailguns_is_found_out_by_asking_and_nothing_is_sent_twice(lone_system: System):
    await lone_system.receipts("mailgun", share_delivered=0)
    async with going_through(lone_system, "mailgun"):
        await lone_system.fault("accept_then_hang", "mailgun")
        story = await lone_system.becomes(await lone_system.send(), "sent")
        assert attempts(story) == [("sent", "look_up")]
        assert not story["deliveries"][0]["duplicate_possible"]
        await lone_system.heal("mailgun")
    await lone_system.check()


async def test_what_mailgun_surely_did_not_take_is_sent_again_and_is_no_possible_duplicate(lone_system: System):
    async with going_through(lone_system, "mailgun"):
        await lone_system.fault("error", "mailgun", status=500)
        id_ = await lone_system.send()
        assert attempts(await until_tried(lone_system, id_))[0] == ("unsure", "http_500")
        await lone_system.heal("mailgun")
        story = await lone_system.becomes(id_, "delivered")
        assert [code for _, code in attempts(story)] == ["absent", "accepted"]
        assert not story["deliveries"][0]["duplicate_possible"]
    await lone_system.check()


async def test_mail_goes_through_a_mail_server_and_arrives(lone_system: System):
    async with mail_server(**asking_for_login()) as server:
        login = {"url": f"smtp://127.0.0.1:{server.port}", "username": USERNAME, "password": PASSWORD}
        await put(lone_system, "/providers/house", {"kind": "smtp", "settings": login})
        async with going_through(lone_system, "house"):
            before = len(server.taken)
            id_ = await lone_system.send(user="ada")
            assert attempts(await lone_system.becomes(id_, "sent")) == [("sent", "accepted")]
            (envelope,) = server.taken[before:]
            assert envelope.rcpt_tos == ["ada@example.com"]
        letters = [message_from_bytes(one.original_content, policy=default) for one in server.taken]
        taken = [letter["Message-ID"].strip("<>").partition("@")[0] for letter in letters]
        await lone_system.check(elsewhere=taken)


async def test_mail_goes_through_the_sandboxs_mail_server_and_bounces_come_back_as_mails(lone_system: System):
    async with going_through(lone_system, "smtp"):
        assert attempts(await lone_system.becomes(await lone_system.send(), "sent")) == [("sent", "accepted")]
        await lone_system.receipts("smtp", share_delivered=0, share_bounced=1)
        id_ = await lone_system.send(user="nobody")
        story = await lone_system.becomes(id_, "undelivered")
        assert story["deliveries"][0]["reason"].startswith("550 5.1.1 <nobody@example.com>")
        again = await lone_system.becomes(await lone_system.send(user="nobody"), "suppressed")
        assert again["deliveries"][0]["attempts"] == []
    await lone_system.check()


async def test_a_bounce_ends_the_doubt_about_a_mail(lone_system: System):
    async with going_through(lone_system, "smtp"):
        await lone_system.receipts("smtp", share_delivered=0, share_bounced=1)
        await lone_system.fault("accept_then_reset", "smtp")
        story = await lone_system.becomes(await lone_system.send(), "undelivered")
        assert attempts(story) == [("sent", "receipt")]
        await lone_system.heal("smtp")
    await lone_system.check()


async def test_a_test_keys_own_mail_server_is_the_sandboxs_whatever_it_says(lone_system: System):
    words = ("keys", "create", "mail-twin", "--test", "--data-dir", str(lone_system.data_dir))
    command = await asyncio.create_subprocess_exec(sys.executable, "-m", "tidings", *words, stdout=PIPE)
    key = {"Authorization": f"Bearer {(await command.communicate())[0].decode().strip()}"}
    login = {"url": "smtp://mail.example.com", "tls": "starttls", "username": "shop", "password": "secret"}

    async def stored() -> bool:
        return (await lone_system.ask("PUT", "/providers/own", {"kind": "smtp", "settings": login}, **key))[0] == 200

    await until(stored, 30, "the new key to work")
    _, before, _ = await lone_system.ask("GET", "/routes/email", **key)
    assert (await lone_system.ask("PUT", "/routes/email", {"providers": ["own"]}, **key))[0] == 200

    async def sent_by_own() -> bool:
        body = {"to": {"email": "twin@example.com"}, "content": {"subject": "A try", "text": "x"}}
        _, said, _ = await lone_system.ask("POST", "/notifications", body, **key)
        story = await until(lambda: ended(said["id"]), 30, "the twin's mail to be sent")
        return story["deliveries"][0]["attempts"][0]["provider"] == "own"

    async def ended(id_: str) -> dict | None:
        _, story, _ = await lone_system.ask("GET", f"/notifications/{id_}", **key)
        return story if story["status"] in ("sent", "delivered") else None

    await until(sent_by_own, 30, "the worker to know the twin's route")
    taken = await lone_system.sandbox("GET", "/messages?provider=smtp&to=twin@example.com")
    assert [one["content"]["subject"] for one in taken["items"]] == ["A try"]
    route = {name: before[name] for name in ("providers", "rules")}
    assert (await lone_system.ask("PUT", "/routes/email", route, **key))[0] == 200
