"""Show the site on this machine, with the server of Python."""

from __future__ import annotations

import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Quiet(SimpleHTTPRequestHandler):
    """Serves files and says nothing of each."""

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


def server(folder: Path, port: int = 0) -> ThreadingHTTPServer:
    """Return a server of the files of a folder, on this machine alone; a free port if none is given.

    Raises:
        ValueError: The port is taken.
    """
    try:
        return ThreadingHTTPServer(("127.0.0.1", port), partial(Quiet, directory=str(folder)))
    except OSError as error:
        raise ValueError(f"port: {port} cannot be used ({error.strerror}); give another --port") from None


def serve(running: ThreadingHTTPServer) -> None:
    """Serve until Ctrl-C."""
    print(f"http://localhost:{running.server_address[1]}/  (Ctrl-C ends it)")
    sys.stdout.flush()
    running.serve_forever()
