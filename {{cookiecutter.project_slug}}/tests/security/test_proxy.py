"""A visitor cannot choose the address, scheme, host or link that we believe."""

from pathlib import Path

import pytest
from flask import Config, request, url_for
from werkzeug.test import EnvironBuilder, run_wsgi_app

from app.problem import Refusal
from app.security import proxy
from tests.conftest import MakeApp
from tests.production import HOST, SETTINGS

CHAIN = "6.6.6.6, 203.0.113.9, 198.51.100.1"


@pytest.mark.parametrize(
    ("hops", "seen"), [(0, "127.0.0.1"), (1, "198.51.100.1"), (2, "203.0.113.9")]
)
def test_the_address_is_counted_from_the_right(make_app: MakeApp, hops: int, seen: str) -> None:
    app = make_app(PROXY_HOPS=hops)
    app.add_url_rule("/address", view_func=lambda: str(request.remote_addr))
    answer = app.test_client().get(
        "/address", headers={"X-Forwarded-For": CHAIN, "X-Forwarded-Proto": "https"}
    )
    assert answer.text == seen


@pytest.mark.parametrize(
    ("written", "seen"),
    [
        ("203.0.113.9:51234", "203.0.113.9"),
        ("[2001:db8::1]:51234", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
    ],
)
def test_an_address_with_a_port_is_an_address(make_app: MakeApp, written: str, seen: str) -> None:
    app = make_app()
    app.add_url_rule("/address", view_func=lambda: str(request.remote_addr))
    answer = app.test_client().get("/address", headers={"X-Forwarded-For": f"6.6.6.6, {written}"})
    assert answer.text == seen


@pytest.mark.parametrize(
    "forged",
    [
        {"X-Forwarded-Proto": "https"},
        {"x-forwarded-proto": "https"},
        {"X-Forwarded-Ssl": "on"},
        {"X-Forwarded-Protocol": "ssl"},
        {"X-Forwarded-Scheme": "https"},
        {"Forwarded": "proto=https"},
    ],
)
def test_without_a_proxy_nobody_can_claim_https(make_app: MakeApp, forged: dict[str, str]) -> None:
    answer = (
        make_app(PROXY_HOPS=0).test_client().get("/", base_url=f"http://{HOST}", headers=forged)
    )
    assert answer.status_code == 308
    assert "Strict-Transport-Security" not in answer.headers


def test_only_the_nearest_proxy_says_which_scheme(make_app: MakeApp) -> None:
    client = make_app().test_client()
    answer = client.get(
        "/", base_url=f"http://{HOST}", headers={"X-Forwarded-Proto": "https, http"}
    )
    assert answer.status_code == 308


def test_two_hops_and_one_scheme_make_no_endless_redirect(make_app: MakeApp) -> None:
    client = make_app(PROXY_HOPS=2).test_client()
    answer = client.get("/", base_url=f"http://{HOST}", headers={"X-Forwarded-Proto": "https"})
    assert answer.status_code == 200


FORGED_LINKS = {
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Port": "666",
    "X-Forwarded-Prefix": "/evil",
    "X-Forwarded-Server": "evil.example",
    "Forwarded": "host=evil.example",
}


@pytest.mark.parametrize("hops", [0, 1, 2])
def test_a_redirect_cannot_be_poisoned(make_app: MakeApp, hops: int) -> None:
    client = make_app(PROXY_HOPS=hops).test_client()
    answer = client.get("/contact?a=b", base_url=f"http://{HOST}", headers=FORGED_LINKS)
    assert answer.status_code == 308
    assert answer.location == f"https://{HOST}/contact?a=b"


@pytest.mark.parametrize("hops", [0, 1, 2])
def test_a_link_cannot_be_poisoned(make_app: MakeApp, hops: int) -> None:
    app = make_app(PROXY_HOPS=hops)
    app.add_url_rule("/link", view_func=lambda: url_for("pages.contact", _external=True))
    assert app.test_client().get("/link", headers=FORGED_LINKS).text == f"https://{HOST}/contact"


@pytest.mark.parametrize("hops", [0, 1, 2])
def test_nobody_behind_us_sees_what_was_claimed(make_app: MakeApp, hops: int) -> None:
    app = make_app(PROXY_HOPS=hops)
    app.add_url_rule(
        "/seen",
        view_func=lambda: " ".join(name for name in request.headers.keys()),  # noqa: SIM118
    )
    forged = {**FORGED_LINKS, "X-Forwarded-For": CHAIN, "X-Forwarded-Proto": "https"}
    assert "forwarded" not in app.test_client().get("/seen", headers=forged).text.lower()


def test_a_server_that_knows_no_address_is_answered(make_app: MakeApp) -> None:
    environ = EnvironBuilder("/", base_url=f"https://{HOST}").get_environ()
    environ.pop("REMOTE_ADDR", None)
    _, status, _ = run_wsgi_app(make_app(), environ)
    assert status == "200 OK"


@pytest.mark.parametrize(("debug", "noted"), [(False, ["proxy-none"]), (True, [])])
def test_no_proxy_is_worth_a_note_in_production(debug: bool, noted: list[str]) -> None:
    config = Config("", {**SETTINGS, "PROXY_HOPS": 0, "DEBUG": debug})
    assert [problem.id for problem in proxy.problems(config)] == noted
    config["PROXY_HOPS"] = 1
    assert list(proxy.problems(config)) == []


@pytest.mark.parametrize("hops", [0, 5])
def test_hops_that_can_be_counted_are_accepted(make_app: MakeApp, hops: int) -> None:
    assert make_app(PROXY_HOPS=hops).config["PROXY_HOPS"] == hops


@pytest.mark.parametrize("hops", [-1, 6])
def test_hops_that_cannot_be_counted_are_refused(make_app: MakeApp, hops: int) -> None:
    with pytest.raises(Refusal, match="proxy-hops"):
        make_app(PROXY_HOPS=hops)


@pytest.mark.parametrize(
    "bind", ["8000", "127.0.0.1", "http://127.0.0.1:8000", "", "127.0.0.1:8\u0660"]
)
def test_an_address_that_cannot_be_listened_on_is_refused(make_app: MakeApp, bind: str) -> None:
    with pytest.raises(Refusal, match="bind-unreadable"):
        make_app(BIND=bind)


@pytest.mark.parametrize("bind", ["0.0.0.0:8000", "[::]:8000", "app:80", "unix:/run/app.sock"])
def test_an_address_that_can_be_listened_on_is_accepted(make_app: MakeApp, bind: str) -> None:
    make_app(BIND=bind)


def test_a_whole_certificate_is_accepted(make_app: MakeApp, tmp_path: Path) -> None:
    file = tmp_path / "both.pem"
    file.touch()
    make_app(TLS_CERT_FILE=str(file), TLS_KEY_FILE=str(file))
    for name in ("TLS_CERT_FILE", "TLS_KEY_FILE"):
        with pytest.raises(Refusal, match="tls-file-unnamed") as refusal:
            make_app(**{name: str(file)})
        assert "tls-file-missing" not in str(refusal.value)


def test_half_a_certificate_is_refused(make_app: MakeApp, tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"(?s)tls-file-missing.*tls-file-unnamed"):
        make_app(TLS_CERT_FILE=str(tmp_path / "cert.pem"))
