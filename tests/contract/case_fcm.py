"""FCM's row."""

from collections.abc import Iterator
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from provider_case import HTTP, REFERENCE, Case, Due, Mutant, Scripted
from wire_peer import Talk, answer

from tidings.domain.lanes import Channel
from tidings.domain.notification import Content
from tidings.domain.outcome import Gone, Outcome, Refused, Sent, TryLater, TryNext, Unsure
from tidings.ports import Message
from tidings.providers import fcm, fcm_token

_NAME = "projects/shop/messages/0:1500415314455276%31bd1c9631bd1c96"
_BEARER = "ya29.this-must-never-be-shown"
_PEM = (
    rsa.generate_private_key(public_exponent=65537, key_size=2048)
    .private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    .decode()
)
_ACCOUNT = {
    "type": "service_account",
    "project_id": "shop",
    "private_key_id": "key-1",
    "private_key": _PEM,
    "client_email": "tidings@shop.iam.gserviceaccount.com",
    "token_uri": "https://oauth2.googleapis.com/token",
}
_GRANTED = answer(200, msgspec.json.encode({"access_token": _BEARER, "expires_in": 3599, "token_type": "Bearer"}))
_TOKEN = "token"
_UNREGISTERED = Refused("http_404", gone=Gone.unregistered)
_BAD_TOKEN = Refused("http_400", gone=Gone.unregistered)
_NO_TOKEN = TryNext("no_token")
_PAUSE_S = 45.0
_SLOW_DOWN_S = 60.0


def _paused(code: str, after_s: float = _PAUSE_S) -> TryLater:
    return TryLater(code, after_s=after_s, account=True)


def _ungranted(status: int, becomes: Outcome, body: object = b"", headers: str = "") -> Scripted:
    """An answer of the token endpoint."""
    raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return Scripted(answer(status, raw, headers), becomes, _TOKEN)


def _fault(
    status: int, becomes: Outcome, code: str = "", words: str = "no", headers: str = "", **violation: str
) -> Scripted:
    details: list[dict[str, Any]] = []
    if code:
        details.append({"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": code})
    if violation:
        details.append({"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [violation]})
    error = {"code": status, "message": words, "status": "WHATEVER", "details": details}
    return Scripted(answer(status, msgspec.json.encode({"error": error}), headers), becomes)


def _sent(name: object) -> bytes:
    return answer(200, msgspec.json.encode({"name": name}))


_ANSWERS = {
    # first those of the token endpoint: afterwards the adapter has a token
    "a grant that is refused": _ungranted(
        400, _paused("no_token"), {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}
    ),
    "a grant by nobody": _ungranted(401, _paused("no_token"), {"error": "invalid_client"}),
    "a grant that is forbidden": _ungranted(403, _paused("no_token"), b"<html>"),
    "too many grants": _ungranted(429, _paused("no_token", _SLOW_DOWN_S)),
    "too many grants for now": _ungranted(429, _paused("no_token", 7.0), headers="Retry-After: 7\r\n"),
    "no tokens for now": _ungranted(503, _NO_TOKEN, {"error": "temporarily_unavailable"}),
    "a broken token endpoint": _ungranted(500, _NO_TOKEN, b"{" * 2000),
    "no token endpoint": _ungranted(404, _NO_TOKEN),
    "a token endpoint elsewhere": _ungranted(302, _NO_TOKEN, headers="Location: http://127.0.0.1:1/\r\n"),
    "a page instead of a token": _ungranted(200, _NO_TOKEN, b"<html>It works!</html>"),
    "a token without an end": _ungranted(200, _NO_TOKEN, {"access_token": _BEARER}),
    "a token that has ended": _ungranted(200, _NO_TOKEN, {"access_token": _BEARER, "expires_in": 0}),
    "a token that breaks a line": _ungranted(200, _NO_TOKEN, {"access_token": "a\r\nb", "expires_in": 99}),
    "a token with an error's status": _ungranted(201, _NO_TOKEN, {"access_token": "a", "expires_in": 99}),
    "200 with a name": Scripted(_sent(_NAME), Sent(_NAME)),
    "200 with more than a name": Scripted(
        answer(200, b'{"new": {}, "name": "projects/p/messages/1"}'), Sent("projects/p/messages/1")
    ),
    "200 without a name": Scripted(answer(200, b"{}"), Unsure("no_message_id")),
    "200 with an empty name": Scripted(_sent(""), Unsure("no_message_id")),
    "200 with an odd name": Scripted(_sent("\u00e9"), Unsure("no_message_id")),
    "200 with a number": Scripted(_sent(5), Unsure("no_message_id")),
    "200 with a huge name": Scripted(_sent("x" * 300), Unsure("no_message_id")),
    "200 with a page": Scripted(answer(200, b"<html>It works!</html>"), Unsure("no_message_id")),
    "202": Scripted(answer(202, b"{}"), Unsure("http_202")),
    "204": Scripted(b"HTTP/1.1 204 No Content\r\n\r\n", Unsure("http_204")),
    "301": Scripted(answer(301), TryNext("http_301")),
    "302": Scripted(answer(302), TryNext("http_302")),
    "303": Scripted(answer(303), Unsure("http_303")),
    "307": Scripted(answer(307), TryNext("http_307")),
    "308": Scripted(answer(308), TryNext("http_308")),
    "400": _fault(400, Refused("http_400")),
    "400 for a field": _fault(400, Refused("http_400"), field="message.data[0].value", description="Invalid value"),
    "400 for the size": _fault(400, Refused("http_400"), "INVALID_ARGUMENT", "Android message is too big"),
    "400 for the token": _fault(
        400, _BAD_TOKEN, "INVALID_ARGUMENT", "The registration token is not a valid FCM registration token"
    ),
    "400 for the token's field": _fault(
        400, _BAD_TOKEN, "INVALID_ARGUMENT", field="message.token", description="Invalid registration token"
    ),
    "400 that only speaks of a token": _fault(400, Refused("http_400"), words="no registration token in this shape"),
    "401": _fault(401, _paused("http_401")),
    "401 for an APNs key": _fault(401, TryLater("push_key"), "THIRD_PARTY_AUTH_ERROR"),
    "another status for an APNs key": _fault(403, _paused("http_403"), "THIRD_PARTY_AUTH_ERROR"),
    "403": _fault(403, _paused("http_403")),
    "403 for another sender's token": _fault(403, Refused("http_403"), "SENDER_ID_MISMATCH"),
    "404 for a token": _fault(404, _UNREGISTERED, "UNREGISTERED"),
    "404 for a project": _fault(404, _paused("http_404")),
    "404 with a page": Scripted(answer(404, b"<html>Not Found</html>"), _paused("http_404")),
    "405": Scripted(answer(405), Refused("http_405")),
    "408": Scripted(answer(408), TryNext("http_408")),
    "413": Scripted(answer(413), Refused("http_413")),
    "418": _fault(418, TryNext("http_418")),
    "429": _fault(429, _paused("http_429", _SLOW_DOWN_S), "QUOTA_EXCEEDED"),
    "429 for seconds": _fault(429, _paused("http_429", 5.0), "QUOTA_EXCEEDED", headers="Retry-After: 5\r\n"),
    "429 for hours": _fault(429, _paused("http_429", 300.0), "QUOTA_EXCEEDED", headers="Retry-After: 7200\r\n"),
    "500": _fault(500, Unsure("http_500"), "INTERNAL"),
    "500 with garbage": Scripted(answer(500, b"[" * 2000), Unsure("http_500")),
    "502": Scripted(answer(502, b"<html>Error 502 (Server Error)!!1</html>"), Unsure("http_502")),
    "503": _fault(503, TryNext("http_503"), "UNAVAILABLE"),
    "503 for seconds": _fault(503, TryNext("http_503"), "UNAVAILABLE", headers="Retry-After: 5\r\n"),
    "504": Scripted(answer(504), Unsure("http_504")),
}


async def _hear(talk: Talk, due: Due) -> None:
    """Gives a token to whoever asks for one, unless that is what is due."""
    while True:
        request = await talk.request()
        if b"grant_type=" not in request or due() == _TOKEN:
            return
        await talk.say(_GRANTED)


def _sends(seen: bytes) -> bool:
    return b"/messages:send " in seen


def _refusal(status: int, words: str) -> bytes:
    return _fault(status, Unsure(""), words, words).raw


def _mutants() -> Iterator[Mutant]:
    statuses = {int(name[:3]) for name in _ANSWERS if name[:3].isdecimal()}
    for key in {*fcm.VERDICTS, *((status, None) for status in statuses)}:
        for wrong in set(fcm.Verdict) - {fcm.verdict(*key)}:
            yield fcm, "VERDICTS", {**fcm.VERDICTS, key: wrong}
    for key in fcm.VERDICTS:
        yield fcm, "VERDICTS", {other: verdict for other, verdict in fcm.VERDICTS.items() if other != key}
    for wrong in set(fcm.Verdict) - {fcm.Verdict.next}:
        yield fcm, "BY_CLASS", {4: wrong}
    for key in fcm_token.VERDICTS:
        for wrong in set(fcm.Verdict) - {fcm_token.VERDICTS[key]}:
            yield fcm_token, "VERDICTS", {**fcm_token.VERDICTS, key: wrong}
    for class_ in (2, 3, 4, 5):
        yield fcm_token, "BY_CLASS", {**fcm_token.BY_CLASS, class_: fcm.Verdict.unsure}


FCM = Case(
    kind="fcm",
    channel=Channel.push,
    settings={"service_account": msgspec.json.encode(_ACCOUNT).decode(), "project": "shop", "pause_s": f"{_PAUSE_S}"},
    own=["pause_s"],
    secrets=[_BEARER, _PEM],
    message=Message(
        reference=REFERENCE,
        to="d-Zy:APA91bE",
        content=Content(title="Order 12345", body="Thank you."),
        sender={},
        headers={},
    ),
    answers=_ANSWERS,
    mutants=_mutants,
    dialect=msgspec.structs.replace(HTTP, hear=_hear, sent=_sends, refusal=_refusal),
)
