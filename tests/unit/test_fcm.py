"""What is FCM's alone: the message that is sent, and the token that it goes out under."""

import asyncio
import base64
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qs

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from wire_peer import Talk, answer, playing, until

from tidings.domain.catalog import Account
from tidings.domain.ids import TenantId
from tidings.domain.lanes import Channel
from tidings.domain.notification import Content
from tidings.domain.outcome import Sent, TryLater, TryNext
from tidings.ports import Message, WebhookCall
from tidings.providers import answers, fcm_token
from tidings.providers.fcm import Fcm
from tidings.providers.fcm_token import AGAIN_S, FRESH_S, RENEW_BEFORE_S, ServiceAccount, Token, Tokens
from tidings.runtime.ports import free_port

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def pem(key: Any) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


FILE = {
    "type": "service_account",
    "project_id": "shop",
    "private_key_id": "key-1",
    "private_key": pem(KEY),
    "client_email": "tidings@shop.iam.gserviceaccount.com",
    "token_uri": "https://oauth2.googleapis.com/token",
}
MESSAGE = Message(
    reference="0192f0c0000070008000000000000000-1",
    to="d-Zy:APA91bE",
    content=Content(title="Order 12345", body="Thank you."),
    sender={},
    headers={},
)


def account(**settings: str) -> Account:
    given = {"service_account": msgspec.json.encode(FILE).decode(), **settings}
    return Account(1, TenantId(1), "main", "fcm", Channel.push, given, "token")


class Google:
    """The API and its token endpoint in one: ``tokens`` and ``sends`` are what they were asked."""

    def __init__(self, expires_in: float = 3599, refused: Sequence[str] = ()) -> None:
        self.tokens: list[bytes] = []
        self.sends: list[bytes] = []
        self.expires_in = expires_in
        self.refused = refused
        self.code = ""
        self.down = False
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, talk: Talk) -> None:
        while True:
            request = await talk.request()
            await talk.say(await (self._token(request) if b"grant_type=" in request else self._send(request)))

    async def _token(self, request: bytes) -> bytes:
        self.tokens.append(request)
        await self.gate.wait()
        granted = {"access_token": f"token-{len(self.tokens)}", "expires_in": self.expires_in}
        return answer(503) if self.down else answer(200, msgspec.json.encode(granted))

    async def _send(self, request: bytes) -> bytes:
        self.sends.append(request)
        bearer = request.split(b"Bearer ")[1].split(b"\r\n")[0].decode()
        if bearer in self.refused:
            error = {"status": "UNAUTHENTICATED", "message": "no", "details": [{"errorCode": self.code}]}
            return answer(401, msgspec.json.encode({"error": error}))
        return answer(200, b'{"name": "projects/shop/messages/1"}')


class Clock:
    def __init__(self) -> None:
        self.s = 1000.0

    def __call__(self) -> float:
        return self.s


async def body(message: Message, **settings: str) -> tuple[bytes, dict[str, Any]]:
    """The head and the JSON of the request that a message becomes."""
    google = Google()
    async with playing(google) as peer:
        provider = Fcm(account(url=peer.origin, **settings))
        assert await provider.send(message, lambda: True) == Sent("projects/shop/messages/1")
        await provider.close()
    head, _, content = google.sends[0].partition(b"\r\n\r\n")
    return head, msgspec.json.decode(content)


async def test_a_message_goes_to_the_accounts_project_under_its_token() -> None:
    head, call = await body(MESSAGE)
    assert head.startswith(b"POST /v1/projects/shop/messages:send HTTP/1.1\r\n")
    assert b"\r\nAuthorization: Bearer token-1\r\nContent-Type: application/json\r\n" in head
    delivery = "0192f0c0000070008000000000000000"
    assert call == {
        "message": {
            "token": "d-Zy:APA91bE",
            "notification": {"title": "Order 12345", "body": "Thank you."},
            "data": {"ref": f"{delivery}-1"},
            "android": {"notification": {"tag": delivery}},
            "apns": {"headers": {"apns-collapse-id": delivery}},
            "webpush": {"headers": {"Topic": delivery}},
        }
    }


async def test_what_makes_a_repeated_message_replace_the_first_fits_where_it_goes() -> None:
    _, first = await body(MESSAGE)
    _, again = await body(msgspec.structs.replace(MESSAGE, reference=MESSAGE.reference[:-1] + "2"))
    assert first["message"]["android"] == again["message"]["android"]
    assert len(first["message"]["apns"]["headers"]["apns-collapse-id"]) <= 64
    assert len(first["message"]["webpush"]["headers"]["Topic"]) <= 32


async def test_a_title_alone_is_sent_alone() -> None:
    _, call = await body(msgspec.structs.replace(MESSAGE, content=Content(title="Hello")))
    assert call["message"]["notification"] == {"title": "Hello"}


async def test_data_for_the_app_goes_beside_our_reference_and_never_in_its_place() -> None:
    content = Content(title="Hello", channels={"push": {"data.order": "7", "data.a.b": "", "data.ref": "theirs"}})
    _, call = await body(msgspec.structs.replace(MESSAGE, content=content))
    assert call["message"]["data"] == {"order": "7", "a.b": "", "ref": MESSAGE.reference}


@pytest.mark.parametrize(
    ("sender", "settings", "path"),
    [
        ({}, {"project": "other"}, b"/v1/projects/other/"),
        ({"project": "courier"}, {"project": "other"}, b"/v1/projects/courier/"),
        ({"project": "example.com:shop"}, {}, b"/v1/projects/example.com:shop/"),
        ({"project": "a b\r\nX: 1/../c"}, {}, b"/v1/projects/a%20b%0D%0AX:%201%2F..%2Fc/"),
    ],
)
async def test_a_senders_project_goes_before_the_accounts(
    sender: dict[str, str], settings: dict[str, str], path: bytes
) -> None:
    head, _ = await body(msgspec.structs.replace(MESSAGE, sender=sender), **settings)
    assert head.startswith(b"POST " + path)


async def test_a_message_has_only_fields_that_googles_own_description_has(providers_data) -> None:
    api = msgspec.json.decode((providers_data / "specs" / "google" / "fcm.v1.json").read_bytes())
    _, call = await body(MESSAGE)

    def unknown(schema: str, value: dict[str, Any], at: str = "") -> list[str]:
        fields = api["schemas"][schema]["properties"]
        found = [f"{at}/{name}" for name in value if name not in fields]
        for name, inner in value.items():
            if "$ref" in fields.get(name, {}):
                found += unknown(fields[name]["$ref"], inner, f"{at}/{name}")
        return found

    assert unknown("SendMessageRequest", call) == []
    assert unknown("SendMessageRequest", {"message": {"android": {"tag": "x"}}}) == ["/message/android/tag"]
    method = api["resources"]["projects"]["resources"]["messages"]["methods"]["send"]
    assert (method["path"], method["httpMethod"]) == ("v1/{+parent}/messages:send", "POST")
    assert fcm_token.SCOPE in method["scopes"]


async def test_many_calls_that_wait_for_a_token_wait_for_one_fetch() -> None:
    google = Google()
    google.gate.clear()
    async with playing(google) as peer:
        provider = Fcm(account(url=peer.origin))
        calls = [asyncio.create_task(provider.send(MESSAGE, lambda: True)) for _ in range(20)]
        await until(lambda: google.tokens)
        google.gate.set()
        assert {type(one) for one in await asyncio.gather(*calls)} == {Sent}
        assert isinstance(await provider.send(MESSAGE, lambda: True), Sent)
        await provider.close()
    assert (len(google.tokens), len(google.sends)) == (1, 21)


async def test_the_grant_is_signed_for_an_hour_by_the_account_for_the_endpoint_it_goes_to() -> None:
    google = Google()
    async with playing(google) as peer:
        provider = Fcm(account(url=f"{peer.origin}/fcm/"))
        await provider.send(MESSAGE, lambda: True)
        await provider.close()
    head, _, form = google.tokens[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /fcm/token HTTP/1.1\r\n")
    given = parse_qs(form.decode())
    assert given["grant_type"] == ["urn:ietf:params:oauth:grant-type:jwt-bearer"]
    signed, _, signature = given["assertion"][0].rpartition(".")
    KEY.public_key().verify(_decoded(signature), signed.encode(), PKCS1v15(), SHA256())
    jwt_head, claims = (msgspec.json.decode(_decoded(part)) for part in signed.split("."))
    assert jwt_head == {"alg": "RS256", "typ": "JWT", "kid": "key-1"}
    assert claims["exp"] - claims["iat"] == 3600
    assert (claims["iss"], claims["aud"]) == (FILE["client_email"], f"{peer.origin}/fcm/token")


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def tokens(url: str, clock: Clock, **settings: str) -> Tokens:
    """Those of an account at this address."""
    given = {"url": url, "timeout_s": "5", **settings}
    return Tokens(msgspec.convert(FILE, ServiceAccount), given, answers.wire_to(given, url), clock)


async def test_googles_own_endpoint_is_the_one_that_the_file_names() -> None:
    google = Google()
    async with playing(google) as peer:
        file = msgspec.convert(FILE | {"token_uri": f"{peer.origin}/oauth"}, ServiceAccount)
        mine = Tokens(file, {}, answers.wire_to({}, "https://fcm.googleapis.com"), Clock())
        assert isinstance(await mine.current(), Token)
        mine.close()
    assert google.tokens[0].startswith(b"POST /oauth HTTP/1.1\r\n")


async def test_a_token_is_renewed_before_it_ends_and_serves_meanwhile() -> None:
    google, clock = Google(3600), Clock()
    async with playing(google) as peer:
        mine = tokens(peer.origin, clock)
        first = await mine.current()
        assert isinstance(first, Token)
        clock.s += 3600 - RENEW_BEFORE_S - 1
        assert await mine.current() == first
        assert len(google.tokens) == 1
        clock.s += 2
        google.gate.clear()
        assert await mine.current() == first
        assert await mine.current() == first
        google.gate.set()

        async def renewed() -> Token:
            while True:
                token = await mine.current()
                if token != first:
                    assert isinstance(token, Token)
                    return token
                await asyncio.sleep(0.001)

        assert (await asyncio.wait_for(renewed(), 10)).bearer == "token-2"
        mine.close()
    assert len(google.tokens) == 2


async def test_a_renewal_that_fails_rests_while_the_old_token_serves_and_afterwards_nothing_is_sent() -> None:
    google, clock = Google(3600), Clock()
    async with playing(google) as peer:
        mine = tokens(peer.origin, clock)
        first = await mine.current()
        google.down = True
        clock.s += 3600 - RENEW_BEFORE_S
        for n in (2, 3):
            assert await mine.current() == first
            await until(lambda n=n: len(google.tokens) == n)
            await asyncio.wait({mine._fetching})
            assert await mine.current() == first
            assert len(google.tokens) == n
            clock.s += AGAIN_S
        clock.s += RENEW_BEFORE_S
        assert await mine.current() == TryNext("no_token", "http_503")
        google.down = False
        assert isinstance(await mine.current(), Token)
        mine.close()


async def test_a_token_that_is_not_good_for_long_is_renewed_after_half_of_that() -> None:
    google, clock = Google(100), Clock()
    async with playing(google) as peer:
        mine = tokens(peer.origin, clock)
        token = await mine.current()
        assert isinstance(token, Token)
        assert (token.renew_at_s, token.ends_at_s) == (1050.0, 1100.0)
        mine.close()


async def test_a_token_that_has_run_out_early_is_replaced_for_the_next_call() -> None:
    google = Google(refused=["token-1"])
    async with playing(google) as peer:
        provider, clock = Fcm(account(url=peer.origin)), Clock()
        provider._tokens._clock_s = clock
        await provider.send(MESSAGE, lambda: False)
        clock.s += FRESH_S + 1
        said = await provider.send(MESSAGE, lambda: True)
        assert said == TryLater("http_401", "UNAUTHENTICATED: no", 1.0, account=True)
        assert isinstance(await provider.send(MESSAGE, lambda: True), Sent)
        await provider.close()
    assert (len(google.tokens), len(google.sends)) == (2, 2), "a call was repeated by itself"


async def test_a_key_of_the_project_that_apple_refuses_is_not_the_tokens_fault() -> None:
    google = Google(refused=["token-1"])
    google.code = "THIRD_PARTY_AUTH_ERROR"
    async with playing(google) as peer:
        provider, clock = Fcm(account(url=peer.origin)), Clock()
        provider._tokens._clock_s = clock
        await provider.send(MESSAGE, lambda: False)
        clock.s += FRESH_S + 1
        said = await provider.send(MESSAGE, lambda: True)
        assert said == TryLater("push_key", "THIRD_PARTY_AUTH_ERROR: no"), "other devices need no such key"
        await provider.send(MESSAGE, lambda: True)
        await provider.close()
    assert len(google.tokens) == 1


async def test_a_fresh_token_that_is_refused_rests_the_account() -> None:
    google = Google(refused=["token-1", "token-2"])
    async with playing(google) as peer:
        provider = Fcm(account(url=peer.origin, pause_s="7"))
        for _ in range(2):
            said = await provider.send(MESSAGE, lambda: True)
            assert isinstance(said, TryLater)
            assert (said.after_s, said.account) == (7.0, True)
        await provider.close()
    assert len(google.tokens) == 2


async def test_a_token_endpoint_that_never_answers_sends_nothing() -> None:
    google = Google()
    google.gate.clear()
    async with playing(google) as peer:
        provider = Fcm(account(url=peer.origin, timeout_s="0.2"))
        said = await provider.send(MESSAGE, lambda: True)
        assert isinstance(said, TryNext)
        assert (said.code, said.detail[:7]) == ("no_token", "timeout")
        await provider.close()
    assert google.sends == []


async def test_an_account_that_is_closed_answers_whoever_waits_for_its_token() -> None:
    google = Google()
    google.gate.clear()
    async with playing(google) as peer:
        provider = Fcm(account(url=peer.origin))
        call = asyncio.create_task(provider.send(MESSAGE, lambda: True))
        await until(lambda: google.tokens)
        await provider.close()
        assert isinstance(await asyncio.wait_for(call, 5), TryNext)


async def test_a_call_that_is_given_up_takes_no_token_from_the_others() -> None:
    google = Google()
    google.gate.clear()
    async with playing(google) as peer:
        provider = Fcm(account(url=peer.origin))
        one, other = (asyncio.create_task(provider.send(MESSAGE, lambda: True)) for _ in range(2))
        await until(lambda: google.tokens)
        one.cancel()
        google.gate.set()
        assert isinstance(await other, Sent)
        await provider.close()


@pytest.mark.parametrize(
    "file",
    [
        "",
        "{}",
        "[]",
        "not json",
        msgspec.json.encode(FILE | {"private_key": "none"}).decode(),
        msgspec.json.encode(FILE | {"private_key": pem(ec.generate_private_key(ec.SECP256R1()))}).decode(),
        msgspec.json.encode(FILE | {"project_id": 5}).decode(),
        msgspec.json.encode(FILE | {"project_id": "a b"}).decode(),
        msgspec.json.encode(FILE | {"token_uri": "ftp://example.com"}).decode(),
    ],
)
def test_only_a_service_accounts_file_is_taken_and_none_is_shown(file: str) -> None:
    with pytest.raises(ValueError) as refused:
        Fcm(account(service_account=file))
    assert "PRIVATE KEY" not in str(refused.value)


def test_a_service_account_does_not_show_its_key() -> None:
    assert "PRIVATE" not in repr(msgspec.convert(FILE, ServiceAccount))


async def test_fcm_tells_nothing_afterwards_and_cannot_be_asked() -> None:
    provider = Fcm(account(url=f"http://127.0.0.1:{free_port()}"))
    assert provider.receipts(WebhookCall("https://example.com", {}, b"{}")) is None
    assert provider.challenge({"hub.challenge": "1"}) is None
    assert await provider.look_up("ref", "token", None) is None  # type: ignore[arg-type]
