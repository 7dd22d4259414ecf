"""Google's service accounts, as far as FCM needs them: a signed grant goes in, a bearer token comes out."""

import base64
import hmac
import time
from collections.abc import Mapping
from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256

from tidings.sandbox.signing import SigningKey
from tidings.sandbox.standin import LIVE, TEST

TOKEN_PATH: Final = "/token"  # noqa: S105
SCOPES: Final = frozenset(
    {"https://www.googleapis.com/auth/firebase.messaging", "https://www.googleapis.com/auth/cloud-platform"}
)
GRANT: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
LIFE_S: Final = 3599
LONGEST_GRANT_S: Final = 3600
SKEW_S: Final = 60
_KEY_ID: Final = "sandbox"


class Denied(Exception):
    """No token, and why: in the words of OAuth (RFC 6749)."""

    def __init__(self, error: str, words: str) -> None:
        self.error, self.words = error, words
        super().__init__(words)


class _Head(msgspec.Struct):
    alg: str


class _Claims(msgspec.Struct):
    iss: str
    scope: str
    aud: str
    iat: float
    exp: float


class Accounts:
    """The accounts of the sandbox's customers, one project each, all under one key."""

    def __init__(self, key: SigningKey) -> None:
        self._key = key

    def granted(self, form: Mapping[str, str]) -> dict[str, object]:
        """The answer with a token. Raises Denied."""
        if form.get("grant_type") != GRANT:
            raise Denied("unsupported_grant_type", f"Invalid grant_type: {form.get('grant_type', '')}")
        claims = self._claims(form.get("assertion", ""))
        now_s = time.time()
        if not claims.iat - SKEW_S <= now_s < claims.exp <= claims.iat + LONGEST_GRANT_S:
            words = "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe."
            raise Denied("invalid_grant", words)
        if not SCOPES & set(claims.scope.split()):
            raise Denied("invalid_scope", "Invalid OAuth scope or ID token audience provided.")
        token = self._sealed(f"{int(now_s) + LIFE_S}.{_projects()[claims.iss]}")
        return {"access_token": token, "expires_in": LIFE_S, "token_type": "Bearer"}

    def project(self, bearer: str) -> str | None:
        """Whose token this is; None for one that was not given out here, or has run out."""
        bare, _, _ = bearer.removeprefix("ya29.").rpartition(".")
        until_s, _, project = bare.partition(".")
        if not hmac.compare_digest(self._sealed(bare).encode(), bearer.encode()):
            return None
        return project if int(until_s) > time.time() else None

    def _sealed(self, bare: str) -> str:
        seal = hmac.digest(self._key.secret("access tokens").encode(), bare.encode(), "sha256")
        return f"ya29.{bare}.{_base64url(seal)}"

    def _claims(self, assertion: str) -> _Claims:
        """What a customer has signed."""
        signed, _, signature = assertion.rpartition(".")
        head, _, claims = signed.partition(".")
        try:
            self._key.customers.public_key().verify(_read(signature), signed.encode(), PKCS1v15(), SHA256())
            if msgspec.json.decode(_read(head), type=_Head).alg != "RS256":
                raise Denied("invalid_grant", "Invalid JWT algorithm.")
            read = msgspec.json.decode(_read(claims), type=_Claims)
        except (InvalidSignature, ValueError):
            raise Denied("invalid_grant", "Invalid JWT Signature.") from None
        if read.iss not in _projects():
            raise Denied("invalid_grant", "Invalid grant: account not found")
        if not read.aud.endswith(TOKEN_PATH):
            raise Denied("invalid_grant", "Failed audience check. The right audience is the address of this endpoint.")
        return read


def key_file(url: str, key: SigningKey, who: str) -> str:
    """The JSON that Google would have made for this customer."""
    email, project = next((email, project) for email, project in _projects().items() if project.endswith(who))
    return msgspec.json.encode(
        {
            "type": "service_account",
            "project_id": project,
            "private_key_id": _KEY_ID,
            "private_key": key.customers_pem.decode(),
            "client_email": email,
            "client_id": "100000000000000000000",
            "token_uri": url.rstrip("/") + TOKEN_PATH,
        }
    ).decode()


def _projects() -> dict[str, str]:
    """The project of each account."""
    projects = [f"tidings-{who}" for who in (LIVE, TEST)]
    return {f"tidings@{project}.iam.gserviceaccount.com": project for project in projects}


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _read(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
