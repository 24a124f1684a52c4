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

# The provider that the tests of signing in start there, if people sign in at one.
ISSUER = f"http://127.0.0.1:{free_port()}"
PROVIDER: Mapping[str, str] = {
    name: value
    for name, value in {
        "OIDC_ISSUER": ISSUER,
        "OIDC_CLIENT_ID": "the-client",
        "OIDC_CLIENT_SECRET": "the-secret-of-the-client",
    }.items()
    if name in config.SETTINGS or name in config.SECRETS
}

SETTINGS: Mapping[str, object] = {
    **config.SETTINGS,
    **PROVIDER,
    "TRUSTED_HOSTS": [HOST],
    "PROXY_HOPS": 1,
    "CORS_ALLOWED_ORIGINS": [FRONT_END],
    "SECURITY_CONTACT": "mailto:security@example.com",
    "SECURITY_TXT_EXPIRES": f"{datetime.now(UTC) + timedelta(days=300):%Y-%m-%d}",
}

# The same for a process of its own.
VARIABLES: Mapping[str, str] = {
    **{
        name if name in config.SECRETS else f"APP_{name}": value
        if isinstance(value, str)
        else json.dumps(value)
        for name, value in SETTINGS.items()
    },
    "APP_SECRET_KEY_SOURCE": "environment",
    "SECRET_KEY": KEY,
}
