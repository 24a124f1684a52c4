"""Take the browser's reports of what the Content-Security-Policy has stopped.

Anyone can post here and the browser sends no token: nothing is believed, little is kept,
the body is small and the limit strict.
"""

from flask import Blueprint, Flask, Request, abort, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import RequestEntityTooLarge, UnsupportedMediaType

from .security import csrf, events, rate_limits

blueprint = Blueprint("reports", __name__)

# The media types, and where a report of each has its fields.
TYPES = {"application/csp-report": "csp-report", "application/reports+json": "body"}
MOST_BYTES = 16 * 1024
MOST_REPORTS = 10
LONGEST_VALUE = 200
# The fields of both formats: report-uri (CSP 2) and the Reporting API.
FIELDS = {
    "document": ("document-uri", "documentURL"),
    "directive": ("effective-directive", "violated-directive", "effectiveDirective"),
    "blocked": ("blocked-uri", "blockedURL"),
}


@blueprint.post("/csp-report")
@csrf.exempt("browsers send reports without a token; it reads no session and changes nothing")
@rate_limits.strict("reports")
def csp_report() -> ResponseReturnValue:
    """Log a report and answer 204; 413, 415 and 422 for what is none."""
    for report in violations(request):
        details = {
            name: str(next((report[key] for key in keys if key in report), ""))
            for name, keys in FIELDS.items()
        }
        # An address may carry a secret in its query.
        events.record(
            "csp-violation",
            **{name: text.partition("?")[0][:LONGEST_VALUE] for name, text in details.items()},
        )
    return "", 204


def violations(request: Request) -> list[dict[str, object]]:
    """Return the bodies of the reports in a request, at most ten."""
    if request.mimetype not in TYPES:
        raise UnsupportedMediaType
    if len(request.get_data()) > MOST_BYTES:
        raise RequestEntityTooLarge
    try:
        body = request.get_json(force=True)
    except RecursionError:
        abort(400)
    reports = body if isinstance(body, list) else [body]
    name = TYPES[request.mimetype]
    found = [report[name] for report in reports if isinstance(report, dict) and name in report]
    if not found or not all(isinstance(report, dict) for report in found):
        abort(422, "This is no report.")
    return found[:MOST_REPORTS]


def init_app(app: Flask) -> None:
    """Register the address that the policy names."""
    app.register_blueprint(blueprint)
