"""The settings that the attacks meet, whatever settings.toml says today."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from app import config
from tests.servers import free_port

HOST = "app.example.com"
ORIGIN = f"https://{HOST}"
FRONT_END = "https://www.example.com"
KEY = "production-key-" + "0123456789abcdef" * 3

# Where people sign in at a provider: the environment names one that nothing asks, the settings
# of the attacks the one that its tests start there.
PROVIDER: Mapping[str, str] = {
    "APP_OIDC_ISSUER": "https://login.example.com",
    "APP_OIDC_CLIENT_ID": "the-client",
    "OIDC_CLIENT_SECRET": "the-secret-of-the-client",
}
ISSUER = f"http://127.0.0.1:{free_port()}"
GIVEN = PROVIDER if "OIDC_ISSUER" in config.SETTINGS else {}
ASKED = {**GIVEN, "APP_OIDC_ISSUER": ISSUER} if GIVEN else {}

SETTINGS: Mapping[str, object] = {
    **config.SETTINGS,
    **{name.removeprefix("APP_"): value for name, value in ASKED.items()},
    "TRUSTED_HOSTS": [HOST],
    "PROXY_HOPS": 1,
    "CORS_ALLOWED_ORIGINS": [FRONT_END],
    "SECURITY_CONTACT": "mailto:security@example.com",
    "SECURITY_TXT_EXPIRES": f"{datetime.now(UTC) + timedelta(days=300):%Y-%m-%d}",
}

# The same for a process of its own.
VARIABLES: Mapping[str, str] = {
    **{
        f"APP_{name}": value if isinstance(value, str) else json.dumps(value)
        for name, value in SETTINGS.items()
        if name in config.SETTINGS
    },
    **GIVEN,
    "APP_SECRET_KEY_SOURCE": "environment",
    "SECRET_KEY": KEY,
}
