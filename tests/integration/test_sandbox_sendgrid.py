"""What SendGrid's stand-in takes and refuses, and in which words."""

import base64
import io
import json
import time
from copy import deepcopy
from typing import Any

import pytest
import pytest_asyncio
from sandbox_rig import LETTER, SEND, Rig, sandbox

HELP = "http://sendgrid.com/docs/API_Reference/Web_API_v3/Mail/errors.html#"


@pytest_asyncio.fixture(scope="module")
async def rig():
    async with sandbox(api_keys={"sendgrid": "SG.key"}) as rig:
        yield rig


def letter(**changes: Any) -> dict[str, Any]:
    """The smallest letter with these changes; None takes a field out."""
    changed = deepcopy(LETTER) | changes
    return {name: value for name, value in changed.items() if value is not None}


def to(*emails: str, **more: Any) -> dict[str, Any]:
    return {"to": [{"email": email} for email in emails], **more}


def errors(body: bytes) -> list[dict[str, Any]]:
    decoded = json.loads(body)
    assert all(set(error) == {"message", "field", "help"} for error in decoded["errors"])
    return decoded["errors"]


async def test_a_good_letter_gets_202_an_empty_body_and_a_message_id(rig: Rig) -> None:
    status, headers, body = await rig.send()
    assert (status, body) == (202, b"")
    assert len(headers["X-Message-Id"]) == 22 and "." not in headers["X-Message-Id"]


async def test_every_letter_has_a_message_id_of_its_own(rig: Rig) -> None:
    ids = {(await rig.send())[1]["X-Message-Id"] for _ in range(5)}
    assert len(ids) == 5


@pytest.mark.parametrize(
    ("authorization", "message"),
    [
        ("", "Permission denied, wrong credentials"),
        ("Bearer SG.other", "The provided authorization grant is invalid, expired, or revoked"),
        ("Basic SG.key", "The provided authorization grant is invalid, expired, or revoked"),
        ("Bearer ", "The provided authorization grant is invalid, expired, or revoked"),
    ],
)
async def test_a_wrong_key_gets_401_in_the_words_of_the_real_one(rig: Rig, authorization: str, message: str) -> None:
    status, _, body = await rig.send(Authorization=authorization)
    assert status == 401
    assert errors(body) == [{"message": message, "field": None, "help": None}]


REFUSED = {
    "no personalization": (letter(personalizations=[]), "personalizations", "must have at least one personalization"),
    "personalizations missing": (letter(personalizations=None), "personalizations", "is required"),
    "no to": (letter(personalizations=[{}]), "personalizations.0.to", "The to array is required"),
    "empty to": (letter(personalizations=[{"to": []}]), "personalizations.0.to", "The to array is required"),
    "bad to": (letter(personalizations=[to("ada")]), "personalizations.0.to.0.email", "valid address"),
    "bad second to": (letter(personalizations=[to("a@x.org", "@x.org")]), "personalizations.0.to.1.email", "valid"),
    "bad cc": (letter(personalizations=[to("a@x.org", cc=[{"email": "b@x"}])]), "personalizations.0.cc.0.email", "val"),
    "bad bcc": (letter(personalizations=[to("a@x.org", bcc=[{}])]), "personalizations.0.bcc.0.email", "valid address"),
    "long to": (letter(personalizations=[to("a" * 320 + "@x.org")]), "personalizations.0.to.0.email", "The To email"),
    "twice in to": (letter(personalizations=[to("a@x.org", "A@x.org")]), "personalizations.0", "first duplicate"),
    "twice in cc": (
        letter(personalizations=[to("a@x.org", cc=[{"email": "a@x.org"}])]),
        "personalizations.0",
        "duplicate instance of [a@x.org] in the personalizations.0.cc field",
    ),
    "twice in the request": (
        letter(personalizations=[to("a@x.org"), to("a@x.org")]),
        "personalizations.1",
        "[a@x.org] more than once",
    ),
    "1,001 recipients": (
        letter(personalizations=[to(*(f"u{i}@x.org" for i in range(1001)))]),
        "personalizations",
        "limit of 1000 total recipients",
    ),
    "1,001 personalizations": (
        letter(personalizations=[to(f"u{i}@x.org") for i in range(1001)]),
        "personalizations",
        "You have provided 1001 personalizations",
    ),
    "no from": (letter(**{"from": None}), "from.email", "The from object must be provided"),
    "empty from": (letter(**{"from": {}}), "from.email", "The from object must be provided"),
    "bad from": (letter(**{"from": {"email": "shop"}}), "from.email", "Does not contain a valid address."),
    "bad reply_to": (letter(reply_to={"email": "x"}), "reply_to.email", "valid address"),
    "two kinds of reply_to": (
        letter(reply_to={"email": "a@x.org"}, reply_to_list=[{"email": "a@x.org"}]),
        "reply_to_list",
        "but not both",
    ),
    "no subject": (letter(subject=None), "subject", "The subject is required"),
    "empty subject": (letter(subject=""), "subject", "The subject is required"),
    "no content": (letter(content=None), "content", "the content parameter is required"),
    "empty content": (letter(content=[]), "content", "the content parameter is required"),
    "content without value": (
        letter(content=[{"type": "text/plain", "value": ""}]),
        "content.0.value",
        "one character",
    ),
    "content without type": (letter(content=[{"value": "x"}]), "content.0.type", "at least one character"),
    "content type with CRLF": (letter(content=[{"type": "a/b\r\nX: y", "value": "x"}]), "content.0.type", "CRLF"),
    "html before text": (
        letter(content=[{"type": "text/html", "value": "x"}, {"type": "text/plain", "value": "x"}]),
        "content",
        "text/plain needs to be first, followed by text/html",
    ),
    "other before html": (
        letter(content=[{"type": "text/calendar", "value": "x"}, {"type": "text/html", "value": "x"}]),
        "content",
        "followed by any other content",
    ),
    "header that is a number": (letter(headers={"X-A": 1}), "headers", "must be strings"),
    "header with a space": (letter(headers={"X A": "b"}), "headers", "non-ASCII characters or empty spaces"),
    "header of a personalization": (
        letter(personalizations=[to("a@x.org", headers={"BCC": "x"})]),
        "personalizations.0.headers.BCC",
        "reserved",
    ),
    "custom args too large": (
        letter(custom_args={"a": "x" * 6000}, personalizations=[to("a@x.org", custom_args={"b": "x" * 6000})]),
        "personalizations.0.custom_args",
        "may not exceed 10,000 bytes",
    ),
    "custom arg that is a number": (letter(custom_args={"n": 1}), None, "Bad Request"),
    "eleven categories": (letter(categories=[str(n) for n in range(11)]), "categories", "You provided 11 categories"),
    "long category": (letter(categories=["c" * 256]), "categories.0", "exceeds this limit"),
    "category twice": (letter(categories=["a", "a"]), "categories", "unique list"),
    "too far ahead": (letter(send_at=int(time.time()) + 73 * 3600), "send_at", "more than 72 hours"),
    "attachment that is not base64": (
        letter(attachments=[{"content": "&&&", "filename": "a"}]),
        "attachments.0.content",
        "must be base64 encoded",
    ),
    "attachment without name": (letter(attachments=[{"content": "YQ=="}]), "attachments.0.filename", "required"),
    "empty attachment": (letter(attachments=[{"filename": "a"}]), "attachments.0.content", "one character"),
    "odd disposition": (
        letter(attachments=[{"content": "YQ==", "filename": "a", "disposition": "odd"}]),
        "attachments.0.disposition",
        "You provided odd",
    ),
    "26 groups": (letter(asm={"group_id": 1, "groups_to_display": list(range(26))}), "asm.groups_to_display", "25"),
    "a letter that is a list": ([], "(root)", "Invalid type. Expected: object, given: array."),
    "a subject that is a number": (letter(subject=1), "subject", "Invalid type. Expected: string, given: integer."),
    "a to that is no list": (
        letter(personalizations=[{"to": {"email": "a@x.org"}}]),
        "personalizations.0.to",
        "Invalid type. Expected: array, given: object.",
    ),
    "an address that is null": (
        letter(personalizations=[{"to": [{"email": None}]}]),
        "personalizations.0.to.0.email",
        "Invalid type. Expected: string, given: null.",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_what_the_real_one_refuses_gets_400_and_names_the_field(rig: Rig, name: str) -> None:
    body, field, words = REFUSED[name]
    before = await rig.stats()
    status, _, answer = await rig.send(body)
    assert status == 400
    assert {error["field"] for error in errors(answer)} == {field}
    assert words in errors(answer)[0]["message"]
    after = await rig.stats()
    assert (after["accepted"], after["refused"]) == (before["accepted"], before["refused"] + 1)


RESERVED = ["x-sg-id", "x-sg-eid", "received", "dkim-signature", "Content-Type", "Content-Transfer-Encoding"]
RESERVED += ["To", "From", "Subject", "Reply-To", "CC", "BCC"]


@pytest.mark.parametrize("name", RESERVED)
async def test_a_reserved_header_is_refused(rig: Rig, name: str) -> None:
    status, _, body = await rig.send(letter(headers={name: "x"}))
    assert (status, errors(body)[0]["message"]) == (400, "Header cannot be one of the reserved keys.")


async def test_help_links_into_the_list_of_errors(rig: Rig) -> None:
    _, _, body = await rig.send(letter(personalizations=[to("ada")]))
    assert errors(body)[0]["help"] == HELP + "message.personalizations.to"


async def test_all_that_is_wrong_is_told_at_once(rig: Rig) -> None:
    _, _, body = await rig.send(letter(subject=None, content=None))
    assert [error["field"] for error in errors(body)] == ["subject", "content"]


async def test_broken_json_gets_a_bare_bad_request(rig: Rig) -> None:
    for broken in (b"{", b"", b'{"subject": "\xff"}', b'{"headers":' + b'{"a":' * 10_000):
        status, body = await post_raw(rig, broken)
        assert (status, errors(body)) == (400, [{"message": "Bad Request", "field": None, "help": None}])


async def post_raw(rig: Rig, body: object, content_type: str = "application/json") -> tuple[int, bytes]:
    headers = {"Authorization": "Bearer SG.key", "Content-Type": content_type}
    async with rig.http.post(rig.sendgrid + SEND, data=body, headers=headers) as answer:
        return answer.status, await answer.read()


async def test_another_content_type_gets_415(rig: Rig) -> None:
    status, body = await post_raw(rig, b"a=b", "application/x-www-form-urlencoded")
    assert (status, errors(body)[0]["message"]) == (415, "Content-Type should be application/json.")


async def test_more_than_30_mb_get_413_announced_or_not(rig: Rig) -> None:
    async def chunks():
        for _ in range(31):
            yield b" " * (1 << 20)

    for body in (io.BytesIO(b" " * (31 << 20)), chunks()):
        status, answer = await post_raw(rig, body)
        assert (status, errors(answer)[0]["message"]) == (413, "content too large")


@pytest.mark.parametrize(
    ("method", "path", "status"), [("POST", "/v3/nothing", 404), ("GET", SEND, 405), ("PUT", SEND, 405)]
)
async def test_a_wrong_path_or_method_is_told_as_sendgrid_does(rig: Rig, method: str, path: str, status: int) -> None:
    async with rig.http.request(method, rig.sendgrid + path) as answer:
        assert answer.status == status
        assert errors(await answer.read())[0]["message"] in ("not found", "method not allowed")


async def test_sandbox_mode_checks_and_sends_nothing(rig: Rig) -> None:
    before = await rig.stats()
    status, headers, body = await rig.send(letter(mail_settings={"sandbox_mode": {"enable": True}}))
    assert (status, body, "X-Message-Id" in headers) == (200, b"", False)
    after = await rig.stats()
    assert (after["accepted"], after["requests"]) == (before["accepted"], before["requests"] + 1)


ACCEPTED = {
    "a template instead of subject and content": letter(subject=None, content=None, template_id="d-1"),
    "a subject in each personalization": letter(subject=None, personalizations=[to("a@x.org", subject="s")]),
    "1,000 recipients": letter(personalizations=[to(*(f"u{i}@x.org" for i in range(1000)))]),
    "text, html and more": letter(content=[{"type": t, "value": "x"} for t in ("text/plain", "text/html", "a/b")]),
    "html alone": letter(content=[{"type": "text/html", "value": "x"}]),
    "the usual headers": letter(headers={"List-Unsubscribe": "<https://x.org>", "List-Unsubscribe-Post": "x"}),
    "an attachment": letter(attachments=[{"content": base64.b64encode(b"abc").decode(), "filename": "a.txt"}]),
    "an instant within 72 hours": letter(send_at=int(time.time()) + 71 * 3600),
    "an instant in the past": letter(send_at=1),
    "a field that nobody knows": letter(novelty=True),
    "a message-level custom arg": letter(custom_args={"ref": "m"}),
}


@pytest.mark.parametrize("name", ACCEPTED)
async def test_what_the_real_one_takes_is_taken(rig: Rig, name: str) -> None:
    status, _, body = await rig.send(ACCEPTED[name])
    assert (status, body) == (202, b"")


async def test_the_reference_comes_from_the_personalization_before_the_message(rig: Rig) -> None:
    await rig.send(letter(custom_args={"ref": "common"}, personalizations=[to("p@x.org", custom_args={"ref": "own"})]))
    await rig.send(letter(custom_args={"ref": "common"}, personalizations=[to("m@x.org")]))
    await rig.send(letter(personalizations=[to("n@x.org")]))
    found = [(await rig.messages(f"?to={who}@x.org"))[0]["reference"] for who in "pmn"]
    assert found == ["own", "common", None]


async def test_each_personalization_is_a_message_of_its_own(rig: Rig) -> None:
    envelopes = [to(f"each{i}@x.org", custom_args={"ref": f"each-{i}"}) for i in range(3)]
    before = (await rig.stats())["accepted"]
    await rig.send(letter(personalizations=envelopes))
    assert (await rig.stats())["accepted"] == before + 3
    assert (await rig.messages("?reference=each-2"))[0]["to"] == "each2@x.org"


async def test_the_public_key_can_be_asked_for_as_the_sdks_do(rig: Rig) -> None:
    path, headers = "/v3/user/webhooks/event/settings/signed", {"Authorization": "Bearer SG.key"}
    for suffix, id_ in (("", ""), ("/77d4a5da", "77d4a5da")):
        async with rig.http.get(rig.sendgrid + path + suffix, headers=headers) as answer:
            assert await answer.json() == {"id": id_, "public_key": rig.public_key}
    async with rig.http.get(rig.sendgrid + path) as answer:
        assert answer.status == 401


async def test_without_a_configured_key_any_key_will_do_but_none_will_not() -> None:
    async with sandbox() as rig:
        assert (await rig.send(Authorization="Bearer whatever"))[0] == 202
        assert (await rig.send(Authorization=""))[0] == 401


async def test_a_provider_answers_at_its_root_and_under_its_name_and_on_the_control_port(rig: Rig) -> None:
    for url in (rig.sendgrid, rig.sendgrid + "/sendgrid", rig.url + "/sendgrid"):
        headers = {"Authorization": "Bearer SG.key"}
        async with rig.http.post(url + SEND, json=LETTER, headers=headers) as answer:
            assert answer.status == 202
