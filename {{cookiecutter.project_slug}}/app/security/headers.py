"""Tell the browser what our pages may do, so that an injected script or a foreign frame cannot.

Sources: OWASP Secure Headers Project, ASVS 3.4. One owner per header: this module, for all answers.
"""

import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import groupby
from typing import TYPE_CHECKING, Any

from flask import Config, Flask, Response, request
from flask_talisman import Talisman

from ..problem import Problem

if TYPE_CHECKING:
    from _typeshed import OptExcInfo
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

REPORTS = "/csp-report"
HSTS_MAX_AGE_S = 63_072_000  # two years

NONCE_IN = "script-src"
PAGE_POLICY: Mapping[str, str] = {
    "default-src": "'none'",
    "script-src": "'strict-dynamic'",  # written out, or Talisman adds no nonce
    "style-src": "'self'",
    "img-src": "'self'",
    "font-src": "'self'",
    "connect-src": "'self'",
    "manifest-src": "'self'",
    "form-action": "'self'",
    "base-uri": "'none'",
    "object-src": "'none'",
    "frame-ancestors": "'none'",
}

# For what is no page: if a browser can be tricked into showing it, nothing in it runs.
DATA_POLICY = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox"
)

PERMISSIONS = """
    accelerometer autoplay browsing-topics camera clipboard-read clipboard-write
    cross-origin-isolated display-capture encrypted-media fullscreen gamepad geolocation
    gyroscope hid identity-credentials-get idle-detection keyboard-map local-fonts magnetometer
    microphone midi otp-credentials payment picture-in-picture publickey-credentials-create
    publickey-credentials-get screen-wake-lock serial storage-access sync-xhr usb
    window-management xr-spatial-tracking
""".split()

FIXED: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # no-referrer would make our own forms post `Origin: null`
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": ", ".join(f"{feature}=()" for feature in PERMISSIONS),
    "X-Permitted-Cross-Domain-Policies": "none",
    "X-DNS-Prefetch-Control": "off",
    "Cache-Control": "no-store, max-age=0",
}

EXTENDABLE = """
    script-src style-src img-src font-src connect-src media-src frame-src worker-src manifest-src
    form-action
""".split()
SCRIPTS = ("script-src", "worker-src")
# Every host, however it is written, and every script.
ANYTHING = re.compile(r"([a-z][a-z0-9+.-]*://)?\*([:/].*)?|(https?|wss?):|'unsafe-(inline|eval)'")
SCHEMES_THAT_CARRY_SCRIPT = {"data:", "blob:", "filesystem:"}
SOURCE = re.compile(r"[!-+\--:<-~]+")  # what a header can hold, without , and ;

REPORTING = f'csp="{REPORTS}"'
PAGE = "text/html"
HASHED = re.compile(r"\.[0-9a-f]{8,64}\.")  # style.3f9a2c1b.css
A_YEAR_S = 31_536_000


class PagePolicy(Talisman):  # type: ignore[misc]  # Flask-Talisman has no types
    """Talisman, for the nonce and the policy of pages; what else it would send is the floor's."""

    def _force_https(self) -> None:
        """Redirect nothing: https.py does, and not a POST, which would be lost."""

    def _set_response_headers(self, response: Response) -> Response:
        if response.mimetype == PAGE:
            self._set_content_security_policy_headers(response.headers, self._get_local_options())
        return response


def init_app(app: Flask) -> None:
    """Install Talisman for pages, and the floor of every answer."""
    production = not app.config["DEBUG"]
    page_policy = _page_policy(app.config["CSP_EXTRA"], production)
    app.wsgi_app = _floor(app, page_policy)  # type: ignore[assignment,method-assign]
    app.after_request(_let_be_kept)
    PagePolicy(  # one object per app: a shared one has the last app's policy for all
        app,
        content_security_policy=_in_few(page_policy),
        content_security_policy_nonce_in=[NONCE_IN],
        x_content_type_options=False,  # the floor sends it
    )


def problems(config: Config) -> Iterator[Problem]:
    """Yield what would open the policy to everyone."""
    embedder_policies = ("require-corp", "credentialless", "unsafe-none")
    if config["CROSS_ORIGIN_EMBEDDER_POLICY"] not in embedder_policies:
        yield Problem(
            "coep-unknown",
            f"CROSS_ORIGIN_EMBEDDER_POLICY is {config['CROSS_ORIGIN_EMBEDDER_POLICY']!r}.",
            f'One of {", ".join(embedder_policies)}: CROSS_ORIGIN_EMBEDDER_POLICY = "require-corp"',
        )
    for directive, sources in config["CSP_EXTRA"].items():
        if directive not in EXTENDABLE:
            yield Problem(
                "csp-extra-directive",
                f"CSP_EXTRA: {directive!r} is not a directive that can be widened.",
                f"One of {', '.join(EXTENDABLE)}: "
                'CSP_EXTRA = { img-src = ["https://images.example.com"] }',
            )
        for source in sources:
            opens = ANYTHING.fullmatch(source.lower()) or (
                directive in SCRIPTS and source.lower() in SCHEMES_THAT_CARRY_SCRIPT
            )
            if opens or not SOURCE.fullmatch(source):
                yield Problem(
                    "csp-extra-open",
                    f"CSP_EXTRA: {directive} {source!r} lets in what the policy keeps out.",
                    "Name one host, such as https://images.example.com; "
                    "move an inline script to a file and give its tag the nonce, csp_nonce().",
                )


def promised(config: Mapping[str, Any], *, page: bool) -> dict[str, str]:
    """Return what a page, or data that is no error, carries in production over https.

    The policy of a page has a nonce besides.
    """
    sent = {
        **FIXED,
        "Content-Security-Policy": DATA_POLICY,
        "Cross-Origin-Embedder-Policy": config["CROSS_ORIGIN_EMBEDDER_POLICY"],
        "Strict-Transport-Security": _transport(config),
    }
    if page:
        sent["Content-Security-Policy"] = _text(_page_policy(config["CSP_EXTRA"], production=True))
        sent["Reporting-Endpoints"] = REPORTING
    return sent


def _page_policy(extra: Mapping[str, list[str]], production: bool) -> OrderedDict[str, str]:
    policy = OrderedDict(PAGE_POLICY)
    for directive, sources in extra.items():
        policy[directive] = " ".join([policy.get(directive, ""), *sources]).strip()
    if production:
        policy["upgrade-insecure-requests"] = ""
    policy |= {"report-uri": REPORTS, "report-to": "csp"}
    return policy


def _in_few(policy: Mapping[str, str]) -> OrderedDict[str, str]:
    """Return the directive that gets the nonce, and what stands before and after it as one each.

    Talisman joins them anew for every answer, so that it pays to give it few.
    """
    few: OrderedDict[str, str] = OrderedDict()
    for _, part in groupby(policy.items(), key=lambda item: item[0] == NONCE_IN):
        name, _, sources = _text(dict(part)).partition(" ")
        few[name] = sources
    return few


def _text(policy: Mapping[str, str]) -> str:
    return "; ".join(" ".join(filter(None, item)) for item in policy.items())


def _transport(config: Mapping[str, Any]) -> str:
    subdomains = "; includeSubDomains" if config["HSTS_INCLUDE_SUBDOMAINS"] else ""
    return f"max-age={HSTS_MAX_AGE_S}{subdomains}"


def _let_be_kept(response: Response) -> Response:
    """Let a browser keep a file with a hash in its name: what it holds is always the same."""
    if request.endpoint == "static" and response.status_code == 200 and HASHED.search(request.path):
        response.headers["Cache-Control"] = f"public, max-age={A_YEAR_S}, immutable"
    return response


def _floor(app: Flask, page_policy: Mapping[str, str]) -> "WSGIApplication":
    """Add what is missing to every answer, outside of Flask.

    An after_request function that raises makes Flask answer without any header of Talisman's.
    """
    wsgi_app = app.wsgi_app
    error = {**FIXED, "Content-Security-Policy": DATA_POLICY}
    embedder = {"Cross-Origin-Embedder-Policy": app.config["CROSS_ORIGIN_EMBEDDER_POLICY"]}
    page_only = {"Content-Security-Policy": _text(page_policy), "Reporting-Endpoints": REPORTING}
    # An error that is no page embeds nothing.
    for_error, for_data, for_page = (
        [(name.lower(), (name, value)) for name, value in floor.items()]
        for floor in (error, {**error, **embedder}, {**error, **embedder, **page_only})
    )
    production = not app.config["DEBUG"]
    transport = ("Strict-Transport-Security", _transport(app.config))

    def application(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        def start(
            status: str, header_list: list[tuple[str, str]], exc_info: "OptExcInfo | None" = None
        ) -> Callable[[bytes], object]:
            sent = {name.lower(): value for name, value in header_list}
            is_page = sent.get("content-type", "").startswith(PAGE)
            floor = for_page if is_page else for_data if status < "4" else for_error
            missing = [header for name, header in floor if name not in sent]
            # What the proxies said of the scheme is known by now.
            is_secure = production and environ["wsgi.url_scheme"] == "https"
            if is_secure and "strict-transport-security" not in sent:
                missing.append(transport)
            return start_response(status, header_list + missing, exc_info)

        return wsgi_app(environ, start)

    return application
