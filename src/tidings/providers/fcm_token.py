"""The way in to Google's APIs: a service account signs a grant for itself (RFC 7523) and gets a token for an hour."""

import asyncio
import base64
import time
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import urlencode

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tidings.domain.outcome import Outcome, Trouble, TryNext, Unsure
from tidings.providers.answers import (
    ByClass,
    Heard,
    Rests,
    Verdict,
    Verdicts,
    ask,
    judged,
    outcome,
    retry_after_s,
    shown,
    wire_to,
)
from tidings.providers.credentials import FOREIGN, Advice, answered, asked
from tidings.providers.wire import Answer, Wire

TOKEN_URL: Final = "https://oauth2.googleapis.com/token"  # noqa: S105
TOKEN_PATH: Final = "/token"  # noqa: S105
"""Of an API that is not Google's own."""
SCOPE: Final = "https://www.googleapis.com/auth/firebase.messaging"
GRANT: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
GRANT_S: Final = 3600
RENEW_BEFORE_S: Final = 300.0
"""So long before its end a token is renewed, while it still serves: no call waits for that."""
AGAIN_S: Final = 10.0
"""How long a renewal that failed rests while the old token serves."""
FRESH_S: Final = 60.0

VERDICTS: Final[Verdicts] = {
    (400, None): Verdict.pause,
    (401, None): Verdict.pause,
    (403, None): Verdict.pause,
    (429, None): Verdict.pace,
}
"""What it means not to get a token: for the key's fault the account rests."""

BY_CLASS: Final[ByClass] = dict.fromkeys(range(1, 6), Verdict.next)
"""All else is the endpoint's fault. Nothing was sent, whatever it says."""

_NO_GRANT: Final = (
    "the service account's key was revoked, or this machine's clock is wrong: make another key at Google, and give it "
    "to the account as `service_account`"
)
ADVICE: Final[Advice] = dict.fromkeys([(400, None), (401, None), (403, None)], _NO_GRANT)


class ServiceAccount(msgspec.Struct, frozen=True):
    """The JSON file that Google makes for a service account, as far as it is used."""

    project_id: str
    client_email: str
    private_key: str
    private_key_id: str = ""
    token_uri: str = TOKEN_URL

    def __repr__(self) -> str:
        return f"ServiceAccount({self.client_email!r})"


def service_account(text: str) -> ServiceAccount:
    """Raises ValueError, which shows nothing of it."""
    try:
        return msgspec.json.decode(text, type=ServiceAccount)
    except (msgspec.MsgspecError, UnicodeEncodeError):
        raise ValueError("service_account is not the JSON file of a Google service account") from None


class Token(msgspec.Struct, frozen=True, gc=False):
    """Serves until ``ends_at_s``. Instants are of the clock that ``Tokens`` was given."""

    bearer: str
    fetched_at_s: float
    renew_at_s: float
    ends_at_s: float


class _Granted(msgspec.Struct, frozen=True):
    """A token, or why there is none."""

    access_token: str = ""
    expires_in: float = 0.0
    error: str = ""
    error_description: str = ""


class Tokens:
    """The token of one account: one fetch for all calls that wait for it. ``api`` is the way to the API and the path
    that it begins with. Raises ValueError for settings that cannot be used."""

    def __init__(
        self,
        account: ServiceAccount,
        settings: Mapping[str, str],
        api: tuple[Wire, str],
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        if own := settings.get("url"):
            self._audience = own.rstrip("/") + TOKEN_PATH
            self._wire, path = api[0], api[1] + TOKEN_PATH
        else:
            self._audience = account.token_uri
            self._wire, path = wire_to({**settings, "url": self._audience}, TOKEN_URL)
        self._head = self._wire.head("POST", path, {"Content-Type": "application/x-www-form-urlencoded"})
        self._account, self._key = account, _rsa(account.private_key)
        self._rests = Rests.of(settings)
        self._clock_s = clock_s
        self._token: Token | None = None
        self._fetching: asyncio.Task[Token | Outcome] | None = None
        self._again_at_s = 0.0

    async def current(self) -> Token | Outcome:
        """A token that serves now, or why there is none: then nothing was sent."""
        now_s, token = self._clock_s(), self._token
        if token is None or token.ends_at_s <= now_s:
            return await asyncio.shield(self._fetch())
        if token.renew_at_s <= now_s and self._again_at_s <= now_s:
            self._again_at_s = now_s + AGAIN_S
            self._fetch()
        return token

    async def tried(self) -> Token | Trouble:
        """A token that is fetched for this question, whatever there is already; or what is wrong."""
        asked_at_s = self._clock_s()
        granted = await asked(self._wire, self._head, _Granted, _explained, self._grant(int(time.time())))
        if isinstance(granted, Trouble):
            return granted
        if not _usable(granted):
            return FOREIGN
        self._token = _token(granted, asked_at_s)
        return self._token

    def refused(self, token: Token) -> bool:
        """Takes a token back that the API did not take. True when the next one may fare better: not where this one was
        fresh."""
        if self._token is token:
            self._token = None
        return self._clock_s() - token.fetched_at_s > FRESH_S

    def close(self) -> None:
        """A fetch under way ends at once, and so does whoever waits for it."""
        self._wire.close()

    def _fetch(self) -> "asyncio.Task[Token | Outcome]":
        """The one that is under way, or a new one."""
        if self._fetching is None or self._fetching.done():
            self._fetching = asyncio.get_running_loop().create_task(self._fetched())
        return self._fetching

    async def _fetched(self) -> Token | Outcome:
        asked_at_s = self._clock_s()
        said = await ask(self._wire, self._head, self._grant(int(time.time())), lambda: True)
        if not isinstance(said, Answer):
            return _unsent(said)
        granted = self._granted(said, asked_at_s)
        if isinstance(granted, Token):
            self._token = granted
        return granted

    def _grant(self, unix_s: int) -> bytes:
        head = {"alg": "RS256", "typ": "JWT", "kid": self._account.private_key_id}
        claims = {
            "iss": self._account.client_email,
            "scope": SCOPE,
            "aud": self._audience,
            "iat": unix_s,
            "exp": unix_s + GRANT_S,
        }
        signed = b".".join(_base64url(msgspec.json.encode(part)) for part in (head, claims))
        signature = self._key.sign(signed, PKCS1v15(), SHA256())
        return urlencode({"grant_type": GRANT, "assertion": signed + b"." + _base64url(signature)}).encode()

    def _granted(self, answer: Answer, asked_at_s: float) -> Token | Outcome:
        granted = _read(answer.body)
        if answer.status == 200 and _usable(granted):
            return _token(granted, asked_at_s)
        heard = Heard("no_token", f"http_{answer.status} {_why(granted)}".strip(), wait_s=retry_after_s(answer))
        return outcome(judged(VERDICTS, BY_CLASS, answer.status, None), heard, self._rests)


def _read(body: bytes) -> _Granted:
    try:
        return msgspec.json.decode(body, type=_Granted)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _Granted()


def _why(granted: _Granted) -> str:
    return shown(f"{granted.error} {granted.error_description}".strip())


def _explained(answer: Answer) -> Trouble:
    return answered(answer.status, f"no token {_why(_read(answer.body))}".strip(), ADVICE)


def _token(granted: _Granted, asked_at_s: float) -> Token:
    renew_at_s = asked_at_s + max(granted.expires_in - RENEW_BEFORE_S, granted.expires_in / 2)
    return Token(granted.access_token, asked_at_s, renew_at_s, asked_at_s + granted.expires_in)


def _rsa(pem: str) -> RSAPrivateKey:
    try:
        key = load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, RSAPrivateKey):
        raise ValueError("the private_key of the service account is not an RSA key in PEM") from None
    return key


def _unsent(said: Outcome) -> Outcome:
    """A call for a token may end in doubt; the message has surely not gone."""
    return TryNext("no_token", f"{said.code}: {said.detail}") if isinstance(said, Unsure) else said


def _usable(granted: _Granted) -> bool:
    bearer = granted.access_token
    return bearer.isascii() and bearer.isprintable() and bearer != "" and granted.expires_in > 0


def _base64url(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")
