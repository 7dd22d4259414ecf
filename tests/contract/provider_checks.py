"""What each provider answers when an account's credentials are tried, and what has to be said of it. Every provider has
the rows in ``EVERYBODY``, and those of its own."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from wire_peer import answer

GOOD, REVOKED, NO_PERMISSION = "good credentials", "revoked", "no permission to send"
TOO_OFTEN, OUT_OF_ORDER, ANOTHER = "asked too often", "out of order", "somebody else answers"
EVERYBODY = {GOOD, REVOKED, NO_PERMISSION, TOO_OFTEN, OUT_OF_ORDER, ANOTHER}


class Tried(msgspec.Struct, frozen=True):
    """``answers`` come in turn, the last of them to whatever follows, at the step ``at`` where a call has more than
    one. ``found`` and ``advice`` are words of what has to be said; None: nothing, because the account can send."""

    answers: Sequence[bytes] = ()
    found: str | None = None
    advice: str = ""
    at: str = ""


def _json(status: int, body: Any) -> bytes:
    return answer(status, msgspec.json.encode(body))


_PAGE = answer(200, b"<html><h1>It works!</h1></html>")
_ANOTHER = Tried([_PAGE], "not the provider's", "`url`")


def _at_sendgrid(status: int, message: str) -> bytes:
    return _json(status, {"errors": [{"message": message, "field": None}]})


_SENDGRID = {
    GOOD: Tried([_json(200, {"scopes": ["alerts.read", "mail.send"]})]),
    REVOKED: Tried([_at_sendgrid(401, "authorization required")], "HTTP 401: authorization required", "api_key"),
    NO_PERMISSION: Tried([_json(200, {"scopes": ["alerts.read"]})], "may not send", "permission"),
    "no permission at all": Tried([_json(200, {"scopes": []})], "may not send", "permission"),
    "not from here": Tried([_at_sendgrid(403, "access forbidden")], "HTTP 403: access forbidden", "addresses"),
    TOO_OFTEN: Tried([_at_sendgrid(429, "too many requests")], "HTTP 429", "in a minute"),
    OUT_OF_ORDER: Tried([_at_sendgrid(503, "service unavailable")], "HTTP 503", "later"),
    ANOTHER: _ANOTHER,
    "somebody else takes it": Tried([answer(202, b"<html>")], "not the provider's", "`url`"),
    "nothing there": Tried([answer(404)], "HTTP 404", "`url`"),
}


def _domain(state: str) -> bytes:
    return _json(200, {"domain": {"name": "mg.example.com", "state": state}, "sending_dns_records": []})


_FORBIDDEN = answer(401, b"Forbidden")
_EMPTY = _json(400, {"message": "from parameter is missing"})
_UNVERIFIED = "Domain mg.example.com is not allowed to send: The domain is unverified"
_MAILGUN = {
    GOOD: Tried([_domain("active")]),
    "a key that is for sending alone": Tried([_FORBIDDEN, _EMPTY]),
    REVOKED: Tried([_FORBIDDEN], "HTTP 401", "api_key"),
    "revoked, in words": Tried([_json(401, {"message": "Invalid private key"})], "Invalid private key", "region"),
    NO_PERMISSION: Tried([_json(403, {"message": "not for this domain"})], "not for this domain", "api_key"),
    "a domain that may not send": Tried([_FORBIDDEN, _json(400, {"message": _UNVERIFIED})], "HTTP 401", "api_key"),
    "an unverified domain": Tried([_domain("unverified")], "the domain is unverified", "DNS"),
    "a disabled domain": Tried([_domain("disabled")], "the domain is disabled", "disabled"),
    "an unknown domain": Tried([_json(404, {"message": "Domain not found"})], "Domain not found", "`domain`"),
    TOO_OFTEN: Tried([_json(429, {"message": "try again after 60 seconds"})], "HTTP 429", "in a minute"),
    OUT_OF_ORDER: Tried([answer(503)], "HTTP 503", "later"),
    ANOTHER: _ANOTHER,
}


def _reply(step: str, reply: str, advice: str) -> Tried:
    return Tried([f"{reply}\r\n".encode()], f"{step}: {reply}", advice, step)


_SMTP = {
    GOOD: Tried(),
    REVOKED: _reply("AUTH", "535 5.7.8 bad credentials", "password"),
    "no such way to log in": _reply("AUTH", "504 5.5.4 unknown mechanism", "log in"),
    "no login for now": _reply("AUTH", "454 4.7.0 temporary failure", "later"),
    NO_PERMISSION: _reply("MAIL", "550 5.7.1 not your address", "sender"),
    "a login is wanted": _reply("MAIL", "530 5.7.0 log in first", "username"),
    TOO_OFTEN: _reply("MAIL", "421 4.7.0 too many messages", "later"),
    OUT_OF_ORDER: _reply("greeting", "421 4.3.2 going down", "later"),
    "not for us": _reply("greeting", "554 5.7.1 no service here", "its own words"),
    ANOTHER: Tried([b"HTTP/1.1 400 Bad Request\r\n\r\n"], "garbled", "`url`", "greeting"),
}


def _at_twilio(status: int, code: int, message: str) -> bytes:
    return _json(status, {"code": code, "message": message, "status": status})


def _twilio_account(status: str) -> bytes:
    return _json(200, {"sid": "AC", "auth_token": "never-to-be-shown-either", "status": status, "type": "Full"})


_TWILIO = {
    GOOD: Tried([_twilio_account("active")]),
    REVOKED: Tried([_at_twilio(401, 20003, "Authenticate")], "HTTP 401: Authenticate", "auth_token"),
    NO_PERMISSION: Tried([_twilio_account("suspended")], "the account is suspended", "suspended"),
    "an account that is closed": Tried([_twilio_account("closed")], "the account is closed", "Twilio"),
    "an account that may not": Tried([_at_twilio(403, 20005, "Account not active")], "not active", "suspended"),
    "test credentials": Tried([_at_twilio(403, 20008, "Test Account Credentials")], "HTTP 403", "test credentials"),
    "an unknown account": Tried([_at_twilio(404, 20404, "not found")], "HTTP 404", "account_sid"),
    TOO_OFTEN: Tried([_at_twilio(429, 20429, "Too Many Requests")], "HTTP 429", "in a minute"),
    OUT_OF_ORDER: Tried([_at_twilio(503, 20503, "Service unavailable")], "HTTP 503", "later"),
    ANOTHER: _ANOTHER,
    "somebody else with JSON": Tried([_json(200, {"it": "works"})], "not the provider's", "`url`"),
}


def _at_fcm(status: int, words: str, code: str = "") -> bytes:
    details = [{"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": code}] if code else []
    return _json(status, {"error": {"code": status, "message": words, "status": words, "details": details}})


_FCM = {
    GOOD: Tried([_json(200, {"name": "projects/shop/messages/fake_message_id"})]),
    REVOKED: Tried(
        [_json(400, {"error": "invalid_grant", "error_description": "Invalid JWT Signature."})],
        "HTTP 400: no token invalid_grant Invalid JWT Signature.",
        "service_account",
        "token",
    ),
    NO_PERMISSION: Tried([_at_fcm(403, "PERMISSION_DENIED")], "PERMISSION_DENIED", "role"),
    "an unknown project": Tried([_at_fcm(404, "NOT_FOUND")], "HTTP 404", "`project`"),
    "a token that is not taken": Tried([_at_fcm(401, "UNAUTHENTICATED")], "HTTP 401", "`url`"),
    TOO_OFTEN: Tried([_at_fcm(429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED")], "HTTP 429", "in a minute"),
    "too many grants": Tried([answer(429)], "HTTP 429: no token", "in a minute", "token"),
    OUT_OF_ORDER: Tried([_at_fcm(503, "UNAVAILABLE", "UNAVAILABLE")], "HTTP 503", "later"),
    "no tokens for now": Tried([answer(500)], "HTTP 500: no token", "later", "token"),
    ANOTHER: _ANOTHER,
    "somebody else with JSON": Tried([_json(200, {"it": "works"})], "not the provider's", "`url`"),
    "somebody else's tokens": Tried([_PAGE], "not the provider's", "`url`", "token"),
    "a token without an end": Tried([_json(200, {"access_token": "x"})], "not the provider's", "`url`", "token"),
}


def _at_whatsapp(status: int, code: int, message: str) -> bytes:
    return _json(status, {"error": {"message": message, "type": "OAuthException", "code": code, "fbtrace_id": "x"}})


_UNSEEN = "Unsupported get request. Object does not exist, cannot be loaded due to missing permissions"
_WHATSAPP = {
    GOOD: Tried([_json(200, {"id": "106540352242922"})]),
    REVOKED: Tried([_at_whatsapp(401, 190, "Invalid OAuth access token")], "Invalid OAuth", "make another"),
    "revoked, by another status": Tried([_at_whatsapp(400, 190, "Session has expired")], "expired", "make another"),
    NO_PERMISSION: Tried([_at_whatsapp(403, 200, "no permission")], "HTTP 403: no permission", "messaging"),
    "not for this app": Tried([_at_whatsapp(400, 10, "no permission for this action")], "HTTP 400", "messaging"),
    "not our number": Tried([_at_whatsapp(400, 100, _UNSEEN)], "does not exist", "phone_number_id"),
    "an unknown number": Tried([_at_whatsapp(404, 803, "Phone number not found")], "not found", "phone_number_id"),
    TOO_OFTEN: Tried([_at_whatsapp(429, 80007, "Rate limit hit")], "HTTP 429", "in a minute"),
    OUT_OF_ORDER: Tried([_at_whatsapp(503, 2, "Service temporarily unavailable")], "HTTP 503", "later"),
    ANOTHER: _ANOTHER,
    "somebody else with JSON": Tried([_json(200, {"it": "works"})], "not the provider's", "`url`"),
}

CHECKS: Mapping[str, Mapping[str, Tried]] = {
    "sendgrid": _SENDGRID,
    "mailgun": _MAILGUN,
    "smtp": _SMTP,
    "twilio": _TWILIO,
    "fcm": _FCM,
    "whatsapp": _WHATSAPP,
}
