"""What every adapter has in common when it tries its credentials: from an answer to words that say what to do next."""

from collections.abc import Callable, Mapping
from typing import Final, TypeVar

import msgspec

from tidings.domain.outcome import Trouble
from tidings.providers.answers import Word, ask
from tidings.providers.wire import Answer, Head, Wire

T = TypeVar("T", bound=msgspec.Struct)

Advice = Mapping[tuple[int | None, Word], str]
"""What to do about a complete answer: by its status and the provider's own word, by the word alone (its status None),
or by the status alone (its word None)."""

FOREIGN: Final = Trouble("an answer that is not the provider's", "correct `url`: something else answers there")

_BY_STATUS: Final[Mapping[int, str]] = {
    401: "the credentials are wrong or were revoked: give the account new ones",
    402: "the provider wants to be paid first",
    403: "the credentials may not do this: give them the right to send, or give the account others",
    404: "the API is not there: correct `url`",
    429: "the provider was asked too often just now: try again in a minute",
}
_BY_CLASS: Final[Mapping[int, str]] = {
    3: "whoever answers sends callers elsewhere: set `url` to the API itself",
    4: "the provider does not take such calls: correct the account's settings",
    5: "the provider, or something on the way to it, is out of order: try again later",
}
_UNANSWERED: Final[Mapping[str, str]] = {
    "dns": "correct the host in `url`, or see that this machine can resolve names",
    "address_refused": "correct `url`, or allow its network in `egress_allow`",
    "tls": "correct `url`: the certificate there is not trusted, is another's, or TLS is not spoken",
    "garbled": FOREIGN.advice,
}
_USUAL: Final = "is `url` right, is the provider up, and does the network let this machine through?"


async def asked(
    wire: Wire, head: Head, hoped: type[T], explain: Callable[[Answer], Trouble], body: bytes = b""
) -> T | Trouble:
    """One harmless call: what was hoped for, or what is wrong. ``explain`` reads any other complete answer."""
    said = await ask(wire, head, body, lambda: True)
    if not isinstance(said, Answer):
        return unanswered(said.code, said.detail)
    if said.status // 100 != 2:
        return explain(said)
    try:
        return msgspec.json.decode(said.body, type=hoped)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return FOREIGN


def answered(status: int, words: str, advice: Advice, word: Word = None) -> Trouble:
    """A complete answer that was not hoped for. ``words`` are the provider's own, without secrets."""
    own = advice.get((status, word)) or advice.get((None, word)) or advice.get((status, None))
    usual = _BY_STATUS.get(status) or _BY_CLASS.get(status // 100, FOREIGN.advice)
    return Trouble(f"HTTP {status}: {words}" if words else f"HTTP {status}", own or usual)


def unanswered(code: str, detail: str, advice: Mapping[str, str] = _UNANSWERED) -> Trouble:
    """No complete answer: ``code`` is the wire's."""
    found = f"no answer: {code} ({detail})" if detail else f"no answer: {code}"
    return Trouble(found, advice.get(code) or _UNANSWERED.get(code, _USUAL), away=code != "address_refused")
