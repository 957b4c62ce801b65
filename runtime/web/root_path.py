"""Serving an application under a sub-path, such as https://tools.example/fraud/ behind a proxy.

The proxy may pass the sub-path on or cut it off. The application sees a scope whose `path` begins
with `root_path`, as ASGI wants it, and redirects within itself by paths without it.
"""

from __future__ import annotations

from typing import Final

from runtime.web.asgi import Application, Event, Receive, Scope, Send

LOCATION: Final = b"location"


def path_within(scope: Scope) -> str:
    """Return the path of a request without the sub-path; it begins with a slash.

    >>> path_within({"path": "/fraud/queue", "root_path": "/fraud"})
    '/queue'
    """
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    return path.removeprefix(root) if _lies_under(path, root) else path


class RootPath:
    """ASGI middleware, the outermost one.

    Args:
        root: the sub-path, such as "/fraud"; "" for none.
    """

    def __init__(self, app: Application, root: str) -> None:
        self._app, self._root = app, root

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http" or not self._root:
            await self._app(scope, receive, send)
            return
        root, path = self._root, scope["path"]
        rest = path.removeprefix(root) if _lies_under(path, root) else path

        async def located(event: Event) -> None:
            if event["type"] == "http.response.start":
                event = {**event, "headers": [self._below(*each) for each in event["headers"]]}
            await send(event)

        await self._app(
            {**scope, "root_path": root, "path": root + (rest or "/")}, receive, located
        )

    def _below(self, name: bytes, value: bytes) -> tuple[bytes, bytes]:
        """Return a header; a redirect to a path of the application leads below the sub-path."""
        if name.lower() == LOCATION and value.startswith(b"/") and not value.startswith(b"//"):
            return name, self._root.encode() + value
        return name, value


def _lies_under(path: str, root: str) -> bool:
    return path == root or path.startswith(root + "/")
