"""The wire against servers that providers really run: nginx, with and without TLS, and HAProxy in front of it."""

import asyncio
import getpass
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from wire_peer import Authority, until

from tidings.providers.wire import Answer, Limits, NoAnswer, NotSent, Said, Wire
from tidings.runtime.ports import free_port

pytestmark = pytest.mark.asyncio(loop_scope="module")

NGINX = """
daemon off; user {user}; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 512; }}
http {{
  access_log off; keepalive_requests 7; keepalive_timeout 200ms; ssi on; ssi_types text/plain;
  client_body_temp_path {folder}/1; proxy_temp_path {folder}/2; fastcgi_temp_path {folder}/3;
  uwsgi_temp_path {folder}/4; scgi_temp_path {folder}/5; default_type text/plain;
  server {{
    listen 127.0.0.1:{plain}; listen 127.0.0.1:{tls} ssl;
    ssl_certificate {certificate}; ssl_certificate_key {key};
    root {folder}/www; client_max_body_size 1k; error_page 405 =200 $uri;
    location /send {{ add_header X-Message-Id $http_x_ref always; return 202; }}
    location /slow {{ limit_rate 2k; }}
    location /moved {{ return 302 http://127.0.0.1:{plain}/send; }}
    location /broken {{ return 444; }}
    location /behind {{ proxy_pass http://127.0.0.1:{nobody}; }}
  }}
}}
"""
HAPROXY = """
defaults
  mode http
  timeout connect 1s
  timeout client 5s
  timeout server 300ms
  timeout http-keep-alive 200ms
frontend wire
  bind 127.0.0.1:{port}
  use_backend nobody if {{ path /nobody }}
  use_backend mute if {{ path /mute }}
  default_backend nginx
backend nginx
  server one 127.0.0.1:{plain}
backend nobody
  server none 127.0.0.1:{nobody}
backend mute
  server one 127.0.0.1:{mute}
"""


class Running:
    """The ports of one nginx and the HAProxy in front of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.plain, self.tls, self.haproxy, self.nobody, self.mute = (free_port() for _ in range(5))


def _listening(port: int) -> bool:
    return any(f":{port:04X} 00000000:0000 0A" in line for line in Path("/proc/net/tcp").read_text().splitlines())


def _binary(name: str) -> str:
    found = shutil.which(name, path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    if found is None:
        pytest.skip(f"not tested: {name} is not installed")
    return found


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Running]:
    nginx, haproxy = _binary("nginx"), _binary("haproxy")
    folder = tmp_path_factory.mktemp("servers")
    running = Running(folder)
    (folder / "www").mkdir()
    (folder / "www" / "chunked").write_text('one <!--# echo var="uri" --> two' + "x" * 20_000)
    (folder / "www" / "slow").write_text("x" * 20_000)
    certificate, key = authority.files()
    texts = {
        "user": getpass.getuser(),
        "folder": folder,
        "certificate": certificate,
        "key": key,
        **vars(running),
        "port": running.haproxy,
    }
    (folder / "nginx.conf").write_text(NGINX.format(**texts))
    (folder / "haproxy.cfg").write_text(HAPROXY.format(**texts))
    commands = ([nginx, "-c", folder / "nginx.conf"], [haproxy, "-db", "-f", folder / "haproxy.cfg"])
    with (folder / "output").open("w") as output:
        started = [subprocess.Popen(command, stdout=output, stderr=output) for command in commands]
    yield running
    for process in started:
        process.terminate()
        process.wait(10)


@pytest.fixture(params=["plain", "tls", "haproxy"])
async def wire(request: pytest.FixtureRequest, servers: Running, authority: Authority) -> Iterator[Wire]:
    port = getattr(servers, request.param)
    await until(lambda: _listening(port))
    scheme = "https" if request.param == "tls" else "http"
    wire = Wire(f"{scheme}://127.0.0.1:{port}", tls=authority.trusting(), limits=Limits(connections=16))
    yield wire
    wire.close()


async def post(wire: Wire, path: str, ref: str = "m1", body: bytes = b"{}") -> Said:
    return await wire.call(wire.head("POST", path, {"X-Ref": ref}), body, lambda: True)


async def test_every_call_gets_its_own_answer_while_connections_come_and_go(wire: Wire) -> None:
    """nginx ends every connection after seven calls; none of a thousand may be lost, doubtful or mixed up."""
    said = await asyncio.gather(*[post(wire, "/send", f"m{n}") for n in range(1000)])
    assert [one.header(b"x-message-id") for one in said if isinstance(one, Answer)] == [b"m%d" % n for n in range(1000)]


async def test_connections_that_time_out_while_idle_are_replaced_unnoticed(wire: Wire) -> None:
    for _ in range(3):
        said = await asyncio.gather(*[post(wire, "/send") for _ in range(8)])
        assert all(isinstance(one, Answer) for one in said)
        await until(lambda: all(connection.transport.is_closing() for connection in wire._idle))


async def test_a_chunked_answer_of_a_real_server_is_read_whole(wire: Wire) -> None:
    said = await post(wire, "/chunked")
    assert isinstance(said, Answer)
    assert said.header(b"transfer-encoding") == b"chunked"
    assert said.body == b"one /chunked two" + b"x" * 20_000


async def test_redirects_refusals_and_gateway_errors_are_answers(wire: Wire) -> None:
    for path, status in (("/moved", 302), ("/nothing", 404), ("/behind", 502)):
        said = await post(wire, path)
        assert isinstance(said, Answer)
        assert said.status == status


async def test_a_body_that_is_refused_early_is_answered(wire: Wire) -> None:
    said = await post(wire, "/behind", body=b"x" * 5_000)
    assert isinstance(said, Answer)
    assert said.status == 413


async def test_a_server_that_hangs_up_without_a_word_leaves_doubt(servers: Running) -> None:
    await until(lambda: _listening(servers.plain))
    wire = Wire(f"http://127.0.0.1:{servers.plain}")
    said = await post(wire, "/broken")
    wire.close()
    assert isinstance(said, NoAnswer)
    assert said.code == "closed"


async def test_a_slow_real_answer_ends_at_the_deadline(servers: Running) -> None:
    await until(lambda: _listening(servers.plain))
    wire = Wire(f"http://127.0.0.1:{servers.plain}", limits=Limits(total_s=0.3))
    said = await post(wire, "/slow")
    wire.close()
    assert isinstance(said, NoAnswer)
    assert said.code == "timeout"


async def test_haproxy_says_503_for_a_server_that_is_down_and_504_for_one_that_is_mute(servers: Running) -> None:
    async def mute(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    await until(lambda: _listening(servers.haproxy))
    server = await asyncio.start_server(mute, "127.0.0.1", servers.mute)
    wire = Wire(f"http://127.0.0.1:{servers.haproxy}")
    for path, status in (("/nobody", 503), ("/mute", 504)):
        said = await post(wire, path)
        assert isinstance(said, Answer)
        assert said.status == status
    wire.close()
    server.close()


async def test_nginx_is_told_nothing_over_a_certificate_for_another_host(
    servers: Running, authority: Authority
) -> None:
    await until(lambda: _listening(servers.tls))
    said = await post(Wire(f"https://localhost:{servers.tls}", tls=authority.trusting()), "/send")
    assert isinstance(said, NotSent)
    assert said.code == "tls"
    unknown = ssl.create_default_context()
    assert isinstance(await post(Wire(f"https://127.0.0.1:{servers.tls}", tls=unknown), "/send"), NotSent)
