"""Keys are proven from memory, and nobody learns why one was refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidings.domain.catalog import ApiKey
from tidings.domain.ids import TenantId
from tidings.domain.keys import make_key
from tidings.web.auth import SCOPES, Door
from tidings.web.problems import ScopeMissing, Unauthorized

PEPPER = b"p" * 32
MADE = make_key(live=True, public=b"12345678", secret=b"s" * 32, pepper=PEPPER)
KEYS = {MADE.public_id: ApiKey(MADE.public_id, TenantId(7), MADE.digest, frozenset({"send"}), 1_000.0)}


def caller(authorization: bytes | None, unix_s: float = 0.0, pepper: bytes = PEPPER):
    return Door(pepper).admit(KEYS, authorization, unix_s)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_a_right_key_names_its_tenant(scheme):
    found = caller(f"{scheme} {MADE.plain}".encode())
    assert (found.tenant, found.public_id) == (7, MADE.public_id)


def test_a_caller_may_do_what_its_scopes_say():
    found = caller(f"Bearer {MADE.plain}".encode())
    found.must("send")
    for scope in set(SCOPES) - {"send"}:
        with pytest.raises(ScopeMissing):
            found.must(scope)


def test_an_expired_key_and_one_under_another_pepper_are_refused():
    authorization = f"Bearer {MADE.plain}".encode()
    caller(authorization, 999.0)
    for wrong in ({"unix_s": 1_000.0}, {"pepper": b"q" * 32}):
        with pytest.raises(Unauthorized):
            caller(authorization, **wrong)


@given(st.one_of(st.none(), st.binary(max_size=300), st.text(max_size=80).map(lambda text: f"Bearer {text}".encode())))
def test_anything_else_is_refused_in_the_same_words(authorization):
    with pytest.raises(Unauthorized) as refused:
        caller(authorization)
    assert refused.value.detail == Unauthorized().detail


@given(st.integers(0, len(MADE.plain) - 1), st.sampled_from("abcxyz_-7é"))
def test_one_wrong_character_is_enough(at, character):
    plain = MADE.plain[:at] + character + MADE.plain[at + 1 :]
    if plain != MADE.plain:
        with pytest.raises(Unauthorized):
            caller(f"Bearer {plain}".encode())


def test_who_was_let_in_is_forgotten_with_the_keys():
    door = Door(PEPPER)
    bearer = b"Bearer " + MADE.plain.encode()
    assert door.admit(KEYS, bearer, 0.0) == door.admit(KEYS, bearer, 0.0)
    with pytest.raises(Unauthorized):
        door.admit({}, bearer, 0.0)
