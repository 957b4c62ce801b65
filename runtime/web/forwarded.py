"""What reverse proxies say about the client, by X-Forwarded-For and X-Forwarded-Proto.

uvicorn believes the proxies of FRAUD_TRUSTED_PROXIES, but reads X-Forwarded-Proto only if it is a
single word. Where several proxies append to it (`https,http`), the first word is the client's.
"""

from __future__ import annotations

from typing import Any, Final

from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from runtime.web.asgi import Application, Receive, Scope, Send

PROTO: Final = b"x-forwarded-proto"


def behind_proxies(app: Any, trusted: str) -> Any:
    """Return `app` as it is served behind the proxies with these IP addresses or networks."""
    return FirstProto(ProxyHeadersMiddleware(app, trusted))  # type: ignore[arg-type]


class FirstProto:
    """ASGI middleware that reduces X-Forwarded-Proto to its first word, in lower case.

    It trusts nobody by that: whoever reads the header afterwards decides whom to believe.
    """

    def __init__(self, app: Application) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        given = [value for name, value in scope.get("headers", ()) if name == PROTO]
        if given:
            first = given[0].partition(b",")[0].strip().lower()
            others = [each for each in scope["headers"] if each[0] != PROTO]
            scope = {**scope, "headers": [*others, (PROTO, first)]}
        await self._app(scope, receive, send)
