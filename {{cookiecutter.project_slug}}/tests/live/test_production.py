"""The production stack of this machine: its log, slow and many clients, reload, stop and start."""

import contextlib
import itertools
import json
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from app import config
from app.outside import probes
from app.outside.deployment import Answer, Deployment, Headers, is_of_this_machine, read
from app.outside.seen import NOT_SEEN
from app.security.headers import FIXED
from tests.live import slow
from tests.live import stack as production
from tests.live.stack import Stack
from tests.servers import free_port

if TYPE_CHECKING:
    from playwright.sync_api import Page

# Each client is an address of its own.
pytestmark = pytest.mark.skipif(
    not is_of_this_machine("127.2.0.1"), reason="needs all of 127.0.0.0/8, which Linux has"
)

ANSWER_S = 20
CLIENTS = 200
AS_THE_CDN = "127.1.0.9"  # in the network that the stack lists
SECRETS = ("query-secret", "cookie-secret", "referer-secret", "authorization-secret")


def sources() -> Iterator[str]:
    """Yield addresses of loopback, each a client that has not asked yet."""
    for number in itertools.count(1):
        yield f"127.2.{number // 250 % 250}.{number % 250 + 1}"


CLIENT = sources()


def soon(condition: Callable[[], object]) -> bool:
    """Return whether a condition comes true in time."""
    deadline = time.monotonic() + ANSWER_S
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


# -- The log


@pytest.mark.parametrize("forged", [(), (("X-Forwarded-For", "6.6.6.6"), ("X-Real-IP", "6.6.6.6"))])
def test_the_log_has_the_clients_true_address(
    stack: Stack, forged: tuple[tuple[str, str], ...]
) -> None:
    source = next(CLIENT)
    answer = stack.deployment.ask("GET", "/nothing", forged, source=source)
    mine = answer.get("X-Request-ID")

    def lines(event: str) -> list[dict[str, object]]:
        return [line for line in stack.lines(event) if line["request_id"] == mine]

    assert soon(lambda: lines("request"))
    (line,) = lines("request")
    shown = ("client", "scheme", "method", "path", "status")
    assert [line[name] for name in shown] == [source, "https", "GET", "/nothing", 404]
    if "nginx" in stack.topology:
        assert soon(lambda: lines("proxied"))
        (line,) = lines("proxied")
        assert [line[name] for name in shown] == [source, "https", "GET", "/nothing", 404]
    if stack.topology == "caddy":
        assert soon(lambda: f'"request_id":"{mine}"' in stack.log.read_text())
        (text,) = [t for t in stack.log.read_text().splitlines() if f'"request_id":"{mine}"' in t]
        assert json.loads(text)["request"]["client_ip"] == source


def test_the_log_holds_no_secret_and_no_forged_line(stack: Stack) -> None:
    query, cookie, referer, authorization = SECRETS
    headers = [
        ("Cookie", f"__Host-session={cookie}"),
        ("Referer", f"https://app.example.com/?reset={referer}"),
        ("Authorization", f"Bearer {authorization}"),
    ]
    path = '/%0a{"event":"request","client":"forged"}%22?token=' + query
    answer = stack.deployment.ask("GET", path, headers, source=next(CLIENT))
    mine = answer.get("X-Request-ID")
    assert soon(lambda: mine in stack.log.read_text())
    log = stack.log.read_text()
    assert [secret for secret in SECRETS if secret in log] == []
    assert not [line for line in stack.lines("request") if line["client"] == "forged"]


# -- What the proxy answers itself


@pytest.mark.behind("nginx", "caddy", "cdn-nginx")
def test_the_proxys_own_answers_carry_our_headers(stack: Stack) -> None:
    nearest = stack.deployment._replace(https=stack.edge)

    def ask(method: str, path: str, headers: Headers = (), body: bytes = b"") -> Answer:
        visitor = [("X-Forwarded-For", next(CLIENT))]  # the CDN says so; nobody else believes it
        return nearest.ask(method, path, [*headers, *visitor], body, source=AS_THE_CDN)

    large = b"z" * 1_100_000  # a little over, so that it is read before it is refused
    own = [ask("GET", "/readyz"), ask("POST", "/contact", (), large)]
    own += [ask("POST", "/api/ping", (), large), ask("GET", "/static/style.css")]
    if "nginx" in stack.topology:
        own += [ask("TRACE", "/"), ask("GET", "/%zz"), ask("GET", "/", [("X", "y" * 40_000)])]
    assert [answer.status for answer in own] == [404, 413, 413, 200, 405, 400, 431][: len(own)]
    for answer in own:
        check_own_headers(answer)
    assert own[2].get("Content-Type") == "application/problem+json"
    assert json.loads(own[2].text)["status"] == 413


def check_own_headers(answer: Answer) -> None:
    """Assert that an answer of the proxy's carries what ours do."""
    promised = {**FIXED, "Strict-Transport-Security": "max-age=63072000; includeSubDomains"}
    if answer.status == 200:
        promised["Cache-Control"] = "no-cache"
    for name, value in promised.items():
        assert answer.all(name) == [value], (answer.status, name)
    assert "default-src 'none'" in answer.get("Content-Security-Policy")
    assert answer.get("X-Request-ID")
    assert not re.search(r"\d", answer.get("Server"))


@pytest.mark.parametrize("path", ["/api", "/static"])
def test_the_proxy_adds_no_slash(stack: Stack, path: str) -> None:
    answer = stack.deployment.ask("GET", path, source=next(CLIENT))
    assert (answer.status, answer.all("Location")) == (404, [])


@pytest.mark.behind("nginx", "caddy", "load-balancer", "cdn-nginx")
def test_the_proxy_has_room_for_large_headers(stack: Stack) -> None:
    deployment, path = stack.deployment, f"/{'a' * 4_000}"
    answer = deployment.ask("GET", path, scheme="http", source=next(CLIENT))
    assert (answer.status, answer.get("Location")) == (308, f"https://{deployment.host}{path}")


def test_a_refusal_arrives_while_the_body_is_still_sent(stack: Stack) -> None:
    def refused(source: str) -> int:
        body = b"x" * 900_000  # nobody reads it: there is no such method
        return stack.deployment.ask("POST", "/", (), body, source=source).status

    with ThreadPoolExecutor(4) as clients:
        assert set(clients.map(refused, itertools.islice(CLIENT, 80))) == {405}


@pytest.mark.behind("caddy")
def test_caddy_asks_nobody_about_a_body_that_is_too_large(stack: Stack) -> None:
    def refused(source: str) -> tuple[int, bool]:
        body = b"x" * 1_900_000  # asked, the application answers sooner than this is sent
        answer = stack.deployment.ask("POST", "/contact", (), body, source=source)
        return answer.status, "-" in answer.get("X-Request-ID")  # an id of Caddy's own

    with ThreadPoolExecutor(4) as clients:
        assert set(clients.map(refused, itertools.islice(CLIENT, 80))) == {(413, True)}


def test_static_files_are_served_by_the_proxy(stack: Stack) -> None:
    ours = ("style.css", "icon.svg")
    for name, kind in zip(ours, ("text/css", "image/svg+xml"), strict=True):
        answer = stack.deployment.ask("GET", f"/static/{name}", source=next(CLIENT))
        assert answer.status == 200
        assert answer.get("Content-Type") == f"{kind}; charset=utf-8"
        assert answer.get("Cross-Origin-Embedder-Policy") == "require-corp"


@pytest.mark.behind("nginx", "caddy", "none")
def test_only_strong_tls_is_spoken(stack: Stack) -> None:
    def spoken(curve: str = "", ciphers: str = "") -> str | None:
        context = stack.deployment.tls()
        if ciphers:
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            context.set_ciphers(f"{ciphers}:@SECLEVEL=0")
        if curve:
            context.set_ecdh_curve(curve)
        host = stack.deployment.host
        with (
            contextlib.suppress(OSError),
            stack.deployment.connected_plain() as plain,
            context.wrap_socket(plain, server_hostname=host) as connection,
        ):
            return connection.version()
        return None

    assert spoken() == "TLSv1.3"
    assert spoken(ciphers="ECDHE+AESGCM") == "TLSv1.2"
    assert spoken("prime256v1") == "TLSv1.3"
    for old in ("RSA", "kDHE", "ECDHE+SHA1", "ECDHE+SHA256:ECDHE+SHA384", "3DES:RC4:aNULL:eNULL"):
        assert spoken(ciphers=f"{old}:!AESGCM:!CHACHA20" if "SHA" in old else old) is None, old
    assert spoken("secp224r1", "ECDHE+AESGCM") is None


@pytest.mark.behind("nginx", "caddy", "cdn-nginx")
def test_where_a_request_ends_is_no_matter_of_opinion(stack: Stack) -> None:
    deployment = stack.deployment
    wrong = [
        [("Content-Length", "5"), ("Transfer-Encoding", "chunked")],
        [("Content-Length", "5"), ("Content-Length", "6")],
        [("Transfer-Encoding", "xchunked")],
    ]
    # Of two kinds Go obeys Transfer-Encoding, and what it passes on is of its own making.
    for lengths in wrong[stack.topology == "caddy" :]:
        first = deployment.request("POST", "/contact", lengths, b"0\r\n\r\n")
        second = deployment.request("GET", "/smuggled", (), b"")
        answered = b""
        with deployment.connected(source=next(CLIENT)) as connection:
            connection.sendall(first.replace(b"close", b"keep-alive") + second)
            with contextlib.suppress(OSError):
                while received := connection.recv(65_536):
                    answered += received
        assert answered.count(b"HTTP/1.1 ") == 1, lengths
        assert answered.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 501 ")), lengths


@pytest.mark.behind("nginx", "caddy", "load-balancer", "cdn-nginx")
def test_http_2_is_spoken(stack: Stack) -> None:
    context = stack.deployment.tls()
    context.set_alpn_protocols(["h2", "http/1.1"])
    with (
        stack.deployment.connected_plain() as plain,
        context.wrap_socket(plain, server_hostname=stack.deployment.host) as connection,
    ):
        assert connection.selected_alpn_protocol() == "h2"


# -- All that can be seen from outside


def test_a_look_from_outside_sees_nothing_wrong(stack: Stack) -> None:
    visitor = stack.deployment._replace(source="127.3.0.1")  # whose allowance nobody has spent
    settings = {
        **config.read({})[0],
        "BIND": f"127.0.0.1:{free_port()}",
    }  # the stack's own is nobody else's
    rows = list(probes.look(visitor, settings))
    assert [row for row in rows if row.mistake or row.answered.startswith(NOT_SEEN)] == []
    assert len(rows) > 20
    assert all(row.what and row.promised and row.answered for row in rows)


def test_a_look_at_nothing_is_one_row(stack: Stack) -> None:
    nobody = stack.deployment._replace(https=f"https://127.0.0.1:{free_port()}")
    (row,) = probes.look(nobody, config.read({})[0])
    assert row.mistake == "unanswered"


# -- What must not be reachable

NOT_SERVED = """
    /.git/HEAD /.git/config /.env /.env.example /settings.toml /app/config.py /instance/app.sqlite3
    /static/ /static/../.env /static/%2e%2e/%2e%2e/.env /static/..%2f..%2f.env
    /static../settings.toml
    /metrics /docs /openapi.json /swagger.json /admin /console /server-status /nginx_status
""".split()


def test_nothing_lies_beside_the_application(stack: Stack) -> None:
    for path in NOT_SERVED:
        answer = stack.deployment.ask("GET", path, source=next(CLIENT))
        assert answer.status in (400, 404), path
        assert "Index of" not in answer.text


def test_nobody_is_told_what_was_sent(stack: Stack) -> None:
    sent = [("X-Sent", SECRETS[1]), ("Cookie", SECRETS[1])]
    answer = stack.deployment.ask("TRACE", "/", sent, source=next(CLIENT))
    assert answer.status == 405
    assert SECRETS[1] not in answer.text


def test_it_fetches_nothing_for_a_stranger(stack: Stack) -> None:
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        place = f"127.0.0.1:{elsewhere.getsockname()[1]}"
        for host in (None, place):
            for method, target in (("GET", f"http://{place}/"), ("CONNECT", place)):
                with suppress(OSError, HTTPException):  # no answer is no fetching either
                    stack.deployment.ask(method, target, host=host, source=next(CLIENT))
        elsewhere.settimeout(0.1)
        with pytest.raises(TimeoutError):
            elsewhere.accept()


# -- Many clients, slow ones


def test_unknown_paths_are_limited_too(stack: Stack) -> None:
    source = next(CLIENT)
    deployment = stack.deployment
    for number in range(400):
        with deployment.connected(source=source) as connection:
            connection.sendall(deployment.request("GET", f"/nothing-{number}", (), b""))
            answer = read(connection)
        if answer.status == 429:
            assert int(answer.get("Retry-After")) > 0
            return
    pytest.fail("400 unknown paths were looked for")


@pytest.mark.behind("nginx", "cdn-nginx")
def test_nginx_limits_what_the_application_never_sees(stack: Stack) -> None:
    source, deployment = next(CLIENT), stack.deployment
    request = deployment.request("GET", "/static/style.css", (), b"").replace(
        b"close", b"keep-alive"
    )
    with deployment.connected(source=source) as connection:
        for _ in range(1_000):
            connection.sendall(request)
            answer = read(connection)
            if answer.status == 429:
                check_own_headers(answer)
                assert int(answer.get("Retry-After")) > 0
                return
    pytest.fail("1,000 files at once were served")


@pytest.mark.behind("nginx", "caddy", "load-balancer", "cdn-nginx")
def test_slow_clients_hold_nobody_up(stack: Stack) -> None:
    deployment = stack.deployment
    head = deployment.request("GET", "/", (), b"").partition(b"\r\n\r\n")[0]
    half = deployment.request("POST", "/contact", [("Content-Length", "1000")], b"n")
    with ExitStack() as clients:
        slow_ones: list[socket.socket] = []
        for number in range(CLIENTS):
            scheme = "https" if number % 2 else "http"
            connection = clients.enter_context(deployment.connected(scheme))
            connection.sendall(half if number % 4 < 2 else head)
            slow_ones.append(connection)
        for _ in range(5):
            for connection in slow_ones[:20]:
                connection.sendall(b"a")  # a drip: never long enough silent
            begun = time.monotonic()
            assert deployment.ask("GET", "/", source=next(CLIENT)).status == 200
            assert deployment.ask("GET", "/healthz", source=next(CLIENT)).status == 200
            assert time.monotonic() - begun < ANSWER_S


# -- Reload and stop


@pytest.fixture(scope="module")
def slow_stack() -> Iterator[Stack]:
    """Yield the stack with a page that takes two seconds."""
    pytest.importorskip("gunicorn", reason="gunicorn does not exist on Windows")
    try:
        with production.running(wsgi_app=f"{slow.__name__}:build()") as running:
            yield running
    except production.Missing as missing:
        pytest.skip(str(missing))


@pytest.mark.behind("nginx", "caddy", "load-balancer", "cdn-nginx")
def test_a_reload_under_load_drops_no_request(slow_stack: Stack) -> None:
    if sys.platform == "win32":
        pytest.skip("Windows has no such signal")
    deployment = slow_stack.deployment
    until = time.monotonic() + 4

    def ask() -> list[int]:
        answered: list[int] = []
        while time.monotonic() < until:
            path = "/contact" if len(answered) % 2 else "/api/ping"
            answered.append(deployment.ask("GET", path, source=next(CLIENT)).status)
        return answered

    with ThreadPoolExecutor(6) as pool:
        asking = [pool.submit(ask) for _ in range(5)]
        asking.append(pool.submit(lambda: [deployment.ask("GET", "/slow").status]))
        for _ in range(2):
            time.sleep(1)
            slow_stack.gunicorn.send(signal.SIGHUP)
        answered = [status for one in asking for status in one.result(60)]
    assert len(answered) > 20
    assert set(answered) == {200}
    assert soon(lambda: slow_stack.log.read_text().count("Booting worker") >= 3)


@pytest.mark.behind("nginx", "caddy", "load-balancer", "cdn-nginx")
def test_a_stop_finishes_what_was_begun_and_the_proxy_says_so(slow_stack: Stack) -> None:
    deployment = slow_stack.deployment
    begun = slow_stack.log.read_text().count("slow has begun")
    with ThreadPoolExecutor(8) as pool:
        asking = [
            pool.submit(deployment.ask, "GET", "/slow", source=next(CLIENT)) for _ in range(6)
        ]
        assert soon(lambda: slow_stack.log.read_text().count("slow has begun") == begun + 6)
        slow_stack.gunicorn.send(signal.SIGTERM)
        assert [one.result(60).status for one in asking] == [200] * 6
    slow_stack.gunicorn.ended()
    page, problem = deployment.ask("GET", "/"), deployment.ask("POST", "/api/ping", (), b"{}")
    assert (page.status, problem.status) == (503, 503)
    if slow_stack.topology != "load-balancer":  # a platform says it in its own words
        for answer in (page, problem):
            check_own_headers(answer)
            assert answer.get("Retry-After") == "10"
        assert problem.get("Content-Type") == "application/problem+json"
        assert deployment.ask("GET", "/static/style.css").status == 200
    slow_stack.gunicorn.start()
    assert soon(lambda: deployment.ask("GET", "/", source=next(CLIENT)).status == 200)


def test_what_breaks_off_shows_no_secret(slow_stack: Stack) -> None:
    query, _, referer, _ = SECRETS
    headers = [("Referer", f"https://app.example.com/?reset={referer}")]
    large = b"z" * 900_000  # nginx keeps it in a file, and says so
    with suppress(OSError, HTTPException):  # it is not whole
        slow_stack.deployment.ask("GET", f"/broken?{query}", headers, source=next(CLIENT))
    answer = slow_stack.deployment.ask("POST", f"/?{query}", headers, large, source=next(CLIENT))
    assert soon(lambda: answer.get("X-Request-ID") in slow_stack.log.read_text())
    log = slow_stack.log.read_text()
    assert "/broken" in log
    assert (query in log, referer in log) == (False, False)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_stack_says_where_it_is_and_leaves_nothing_behind(
    stack: Stack, number: signal.Signals
) -> None:
    command = [sys.executable, "-m", production.__name__]
    with subprocess.Popen(  # noqa: S603
        command, cwd=config.ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        said = json.loads(process.stdout.readline() if process.stdout else "")
        issuer = {"issuer"} if "OIDC_ISSUER" in config.SETTINGS else set()
        assert set(said) == {"https", "http", "app", "ca", "host"} | issuer
        deployment = Deployment(said["https"], said["http"], said["host"], said["ca"])
        assert deployment.ask("GET", "/healthz").status == 200
        process.send_signal(number)
        assert process.wait(ANSWER_S) == 0
    assert not Path(said["ca"]).parent.exists()
    with pytest.raises(ConnectionRefusedError):
        deployment.connected_plain()


# -- Past the CDN


@pytest.mark.behind("cdn-nginx")
def test_networks_that_are_not_listed_stop_nginx(tmp_path: Path) -> None:
    networks = config.ROOT / "deploy" / "cdn-networks.conf"
    shutdown = "events {} http { include cdn-networks.conf; }"
    (tmp_path / "nginx.conf").write_text(shutdown)
    (tmp_path / "cdn-networks.conf").write_text(networks.read_text())
    done = subprocess.run(  # noqa: S603
        [production.nginx(), "-t", "-p", f"{tmp_path}/", "-c", "nginx.conf"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    for network in ("cloudflare.com/ips", "fastly.com/public-ip-list", "ip-ranges.amazonaws.com"):
        assert network in done.stderr


@pytest.mark.behind("cdn-nginx")
def test_nobody_gets_past_the_cdn(stack: Stack) -> None:
    past, forged = stack.deployment._replace(https=stack.edge), [("X-Forwarded-For", "6.6.6.6")]
    for path in ("/", "/healthz%0a", "/healthz/..", "/.own/page", "/.own/problem%0a", "/.own/x"):
        answer = past.ask("GET", path, forged, source=next(CLIENT))
        assert answer.status == (404 if path == "/.own/page" else 403), path  # nginx's own
        check_own_headers(answer)
    assert past.ask("GET", "/", forged, source=AS_THE_CDN).status == 200


@pytest.mark.behind("cdn-nginx")
def test_a_monitor_of_the_cdn_has_its_own_address(stack: Stack) -> None:
    past, source = stack.deployment._replace(https=stack.edge), next(CLIENT)
    answer = past.ask("GET", "/healthz", [("X-Forwarded-For", "6.6.6.6")], source=source)
    assert answer.status == 200
    mine = answer.get("X-Request-ID")

    def clients() -> list[object]:
        return [line["client"] for line in stack.lines("request") if line["request_id"] == mine]

    assert soon(clients)
    assert clients() == [source]


@pytest.mark.behind("cdn-nginx")
def test_one_network_of_ipv6_is_one_client(stack: Stack) -> None:
    past = stack.deployment._replace(https=stack.edge)

    def until_refused(prefix: str) -> int:
        with past.connected(source=AS_THE_CDN) as connection:
            for number in range(1_000):
                visitor = [("X-Forwarded-For", f"{prefix}{number:x}")]
                request = past.request("GET", "/static/style.css", visitor, b"")
                connection.sendall(request.replace(b"close", b"keep-alive"))
                if read(connection).status == 429:
                    return number
        return 1_000

    assert until_refused("2001:db8::") < 1_000
    assert until_refused("2001:db8::") < 100  # the same network again
    assert until_refused("2001:db8:0:1::") > 300  # the network next door


# -- A browser


def test_a_person_uses_it(stack: Stack, page: "Page") -> None:
    port = stack.deployment.https.rpartition(":")[2]
    answer = page.goto(f"https://{stack.deployment.host}:{port}/")
    assert answer
    assert answer.status == 200
    assert answer.request.redirected_from is None
    page.get_by_role("link", name="Try the form").click()
    page.get_by_label("Your name").fill("Ada")
    page.get_by_label("Your email address").fill("ada@example.com")
    page.get_by_label("Your message").fill("Hello")
    page.get_by_role("button", name="Send").click()
    assert page.get_by_role("status").inner_text().startswith("Thank you, Ada.")
