"""Write one JSON line for each request that gunicorn answered.

No query, no Referer and no other header: they may hold secrets. JSON, because a path may hold
line breaks and quotes, and gunicorn's own format would let them forge a line (ASVS 16.2.5, 16.4.1).
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from gunicorn.glogging import Logger

from .request_id import KEY

if TYPE_CHECKING:
    from gunicorn.http import Request
    from gunicorn.http.wsgi import Response


class AccessLog(Logger):
    """gunicorn's logger, with a line of its own for each request.

    https://gunicorn.org/reference/settings/#logger_class
    """

    def access(
        self,
        resp: "Response",
        _req: "Request",
        environ: Mapping[str, Any],
        request_time: timedelta,
    ) -> None:
        """Write when, which request, from whom, what was asked, and how it was answered.

        The client is the one that app/security/proxy.py has found behind the counted proxies.
        """
        line = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "event": "request",
            "request_id": environ.get(KEY, "-"),
            "client": environ.get("REMOTE_ADDR", "-"),
            "scheme": environ.get("wsgi.url_scheme"),
            "method": environ.get("REQUEST_METHOD"),
            "path": environ.get("PATH_INFO"),
            "status": int(str(resp.status).split(maxsplit=1)[0]),
            "bytes": resp.sent,
            "duration_ms": request_time // timedelta(milliseconds=1),
        }
        self.access_log.info("%s", json.dumps(line))
