"""The official SDK against the stand-in: its grant is believed, what it sends is taken, what it is told has a name.

It repeats a call by itself after a 500, a 503 or a broken connection, so nothing here counts requests.
"""

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import firebase_admin
import pytest
import pytest_asyncio
from firebase_admin import credentials, exceptions, messaging
from google.auth.exceptions import RefreshError
from requests.adapters import HTTPAdapter
from sandbox_rig import Rig, sandbox

from tidings.sandbox.fcm import Fcm
from tidings.sandbox.signing import SigningKey

# What takes its place, the installation's id, is taken in the token's place too while the two live side by side.
pytestmark = pytest.mark.filterwarnings("ignore:Message.token is deprecated:DeprecationWarning")
GOOGLE = "https://fcm.googleapis.com"
NAMES = (f"app-{n}" for n in itertools.count())


class Here(HTTPAdapter):
    """The way to Google leads to the stand-in."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url

    def send(self, request, **more):
        request.url = request.url.replace(GOOGLE, self.url)
        return super().send(request, **more)


@pytest_asyncio.fixture(scope="module")
async def files(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("sandbox") / "key"


@pytest_asyncio.fixture(scope="module")
async def rig(files: Path) -> AsyncIterator[Rig]:
    async with sandbox(signing_key_file=files) as rig:
        yield rig


def account(rig: Rig, key: SigningKey, who: str = "live") -> dict[str, str]:
    """The service account of a customer, as Google hands it out."""
    return json.loads(Fcm.customer(f"{rig.url}/fcm", key, who)["service_account"])


@contextlib.asynccontextmanager
async def signed_in(rig: Rig, file: dict[str, str]) -> AsyncIterator[firebase_admin.App]:
    """The SDK with this service account. It is closed where no loop runs, because it starts one for that."""
    app = firebase_admin.initialize_app(credentials.Certificate(file), name=next(NAMES))
    messaging._get_messaging_service(app)._client.session.mount(GOOGLE, Here(f"{rig.url}/fcm"))
    try:
        yield app
    finally:
        await asyncio.to_thread(firebase_admin.delete_app, app)


@pytest_asyncio.fixture
async def app(rig: Rig, files: Path) -> AsyncIterator[firebase_admin.App]:
    async with signed_in(rig, account(rig, SigningKey.kept_in(files))) as app:
        yield app


async def sends(app: firebase_admin.App, token: str = "device-1", dry_run: bool = False, **more: object) -> str:
    usual = {"notification": messaging.Notification("Order 12345", "Thank you."), "data": {"ref": "sdk-1"}} | more
    return await asyncio.to_thread(messaging.send, messaging.Message(token=token, **usual), dry_run, app)


async def test_a_message_of_the_sdk_is_taken(rig: Rig, app) -> None:
    name = await sends(
        app,
        android=messaging.AndroidConfig(notification=messaging.AndroidNotification(tag="order")),
        fcm_options=messaging.FCMOptions(analytics_label="orders"),
    )
    assert name.startswith("projects/tidings-live/messages/0:")
    (item,) = await rig.messages("?reference=sdk-1")
    assert (item["provider"], item["to"]) == ("fcm", "device-1")
    assert (item["content"]["title"], item["content"]["body"]) == ("Order 12345", "Thank you.")


async def test_a_dry_run_of_the_sdk_leaves_nothing_behind(rig: Rig, app) -> None:
    assert (await sends(app, data={"ref": "dry"}, dry_run=True)).endswith("/fake_message_id")
    assert await rig.messages("?reference=dry") == []


async def test_a_dry_run_by_topic_of_the_sdk_goes_to_nobody(rig: Rig, app) -> None:
    taken = (await rig.call("GET", "/_sandbox/stats"))[1]["fcm"]["accepted"]
    message = messaging.Message(topic="tidings", notification=messaging.Notification("Tidings"))
    assert (await asyncio.to_thread(messaging.send, message, True, app)).endswith("/fake_message_id")
    assert (await rig.call("GET", "/_sandbox/stats"))[1]["fcm"]["accepted"] == taken


@pytest.mark.parametrize(
    ("token", "error"),
    [("device-unregistered", messaging.UnregisteredError), ("no token", exceptions.InvalidArgumentError)],
)
async def test_a_bad_token_is_the_error_that_the_sdk_has_for_it(app, token: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        await sends(app, token)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("bad_address", messaging.UnregisteredError),
        ("rate_limit", messaging.QuotaExceededError),
        ("unauthorized", exceptions.UnauthenticatedError),
        ("refuse", exceptions.InvalidArgumentError),
    ],
)
async def test_a_fault_is_the_error_that_the_sdk_has_for_it(rig: Rig, app, fault: str, error: type[Exception]) -> None:
    await rig.call("PUT", "/_sandbox/faults/fcm", {"fault": fault})
    try:
        with pytest.raises(error):
            await sends(app)
    finally:
        await rig.call("DELETE", "/_sandbox/faults/fcm")


async def test_another_customers_project_is_forbidden(rig: Rig, files: Path) -> None:
    file = account(rig, SigningKey.kept_in(files), "test")
    async with signed_in(rig, file | {"project_id": "tidings-live"}) as app:
        with pytest.raises(exceptions.PermissionDeniedError):
            await sends(app)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda file: file | {"client_email": "eve@example.com"}, "account not found"),
        (lambda file: file | {"private_key": SigningKey.fresh().customers_pem.decode()}, "Invalid JWT Signature"),
    ],
    ids=["a stranger", "another key"],
)
async def test_a_grant_that_google_would_refuse_is_refused(
    rig: Rig, files: Path, change: Callable[[dict[str, str]], dict[str, str]], why: str
) -> None:
    async with signed_in(rig, change(account(rig, SigningKey.kept_in(files)))) as app:
        with pytest.raises(RefreshError, match=why):
            await sends(app)
