"""The settings that the attacks meet, whatever settings.toml says today."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from app import config

HOST = "app.example.com"
ORIGIN = f"https://{HOST}"
FRONT_END = "https://www.example.com"
KEY = "production-key-" + "0123456789abcdef" * 3

SETTINGS: Mapping[str, object] = {
    **config.SETTINGS,
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
    },
    "APP_SECRET_KEY_SOURCE": "environment",
    "SECRET_KEY": KEY,
}
