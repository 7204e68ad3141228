"""``python -m api``: serves the API on one address until SIGTERM or Ctrl-C."""

import argparse
import resource
import socket
import sys
from contextlib import suppress

import uvicorn

from api.main import create_app
from api.protocol import Protocol
from common.settings import Settings, read_settings
from common.telemetry import log_as


class _Server(uvicorn.Server):
    """Ends the streams of events first: it waits for every request that is open, and theirs would not end."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self.config.app.state.kiln.hub.close()  # type: ignore[union-attr]  # it is create_app's
        await super().shutdown(sockets)


def _allow_many_connections() -> None:
    """Raise the soft limit of open files, 1024 by default, to the hard one: each request that is open is a file."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # macOS has a limit below the one it tells
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m api", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    parser.add_argument("--port", type=int, default=8000)
    arguments = parser.parse_args()
    settings = read_settings(Settings)
    log_as(settings)
    _allow_many_connections()
    config = uvicorn.Config(
        create_app(settings),
        host=arguments.host,
        port=arguments.port,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=5,
        http=Protocol,
    )
    server = _Server(config)
    with suppress(KeyboardInterrupt):
        server.run()
    if not server.started:
        sys.exit(1)


if __name__ == "__main__":
    main()
