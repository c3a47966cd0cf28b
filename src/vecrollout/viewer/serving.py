"""The server of the viewer: a socket of this machine, a secret in the URL, and the end by Ctrl-C."""

from __future__ import annotations

import errno
import secrets
import socket
import sys
import webbrowser
from collections.abc import Callable

import uvicorn

from vecrollout.data.checks import whole_number
from vecrollout.errors import OptionError
from vecrollout.storage.dataset import open_traces
from vecrollout.storage.reading.reader import Paths
from vecrollout.viewer.application import application

HOST = "127.0.0.1"


def serve(
    path: Paths, *, port: int = 0, open_browser: bool = True, announce: Callable[[str], object] | None = None
) -> None:
    """Show a trace in the browser until Ctrl-C.

    The server answers this machine only (127.0.0.1), and only requests whose URL contains a random token. The pages
    load nothing from other hosts. A trace that is being recorded grows in the browser. The trace is never changed:
    flags of episodes are kept in `~/.local/state/vecrollout/flags`, or below `XDG_STATE_HOME` if that is set.

    Args:
        path: What `open_traces` opens: a directory, a URL, or several of them.
        port: TCP port in `[0, 65535]`; 0: any free one.
        open_browser: Whether to open the page in the browser of the desktop.
        announce: Called once with the URL when the server accepts requests. None: writes it to the standard output.

    Raises:
        OptionError: If the port is out of range, in use, or reserved, or if a file of flags holds something else.
        TraceNotFoundError: If there is no such directory.
        DamagedTraceError: If a journal is damaged, or a shard is missing or cut off.
        TraceVersionError: If a newer version of the package wrote one of the files.
        ArgumentTypeError: If `path` is neither a path nor a URL, or `port` is no integer.
        StoreError: If an object store fails.
        MissingDependencyError: If the extra `viewer` or `traces` is not installed.
    """
    dataset = open_traces(path)
    with _bound(whole_number("port", port, 0)) as listener:
        token = secrets.token_urlsafe(16)
        url = f"http://{HOST}:{listener.getsockname()[1]}/{token}/"
        config = uvicorn.Config(
            application(dataset, token),
            log_level="warning",
            access_log=False,
            lifespan="off",
            server_header=False,
            ws="none",
            # Browsers keep connections open, and nothing is lost with them.
            timeout_graceful_shutdown=1,
        )
        (announce or _say)(url)
        if open_browser:
            webbrowser.open(url)
        try:
            uvicorn.Server(config).run(sockets=[listener])
        except KeyboardInterrupt:
            # The way to end it. uvicorn raises it once all connections are closed.
            return


def _say(url: str) -> None:
    sys.stdout.write(f"{url}  (Ctrl-C ends the viewer)\n")
    sys.stdout.flush()


def _bound(port: int) -> socket.socket:
    """A socket that takes connections to a port of this machine. Requests wait in it until the server runs."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        if sys.platform != "win32":
            # There it would share the port with another program.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        listener.listen(128)
    except (OSError, OverflowError) as error:
        listener.close()
        is_used = isinstance(error, OSError) and error.errno in (errno.EADDRINUSE, errno.EACCES)
        reason = f"got {port}, which is in use or reserved" if is_used else f"got {port}: {error}"
        raise OptionError(f"port: expected a free port in [0, 65535], {reason}; 0 takes any free one") from error
    return listener
