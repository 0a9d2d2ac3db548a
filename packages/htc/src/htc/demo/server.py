"""A page's server: one address, one process, and an end at Ctrl-C."""

import errno
import ipaddress
import socket
import threading
from collections.abc import Callable
from typing import Any

from rlkl_htc_common.errors import InputError

GRACE = 30.0  # seconds at most until what is being computed has ended
HIGHEST_PORT = 65535


def opened(host: str, port: int) -> socket.socket:
    """A socket that listens: from here on, no other program can take the port.

    Args:
        host: a name or an address of this machine.
        port: 0 for any free one.

    Raises:
        InputError: for a port that is in use or may not be used, and for a host that is not of this machine.
    """
    if not 0 <= port <= HIGHEST_PORT:
        raise InputError(f"port must be from 0 (any free one) to {HIGHEST_PORT}, not {port}.")
    name = host.strip().removeprefix("[").removesuffix("]")
    if not name:
        raise InputError("host is empty; give an address of this machine, such as 127.0.0.1, or 0.0.0.0 for all of them.")
    try:
        found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise InputError(f"host={host}: there is no such host ({getattr(error, 'strerror', None) or error}).") from error
    family, kind, protocol, _, address = min(found, key=lambda each: each[0] != socket.AF_INET)
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen()
    except OSError as error:
        listening.close()
        raise InputError(_why_not(error, host, port)) from error
    return listening


def _why_not(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} of {host} is in use; give another one, or port=0 for any that is free."
    if error.errno == errno.EACCES:
        return f"port {port} needs the rights of an administrator; give one from 1024 on."
    if error.errno == errno.EADDRNOTAVAIL:
        return f"host={host} is not an address of this machine; give one of its own, or 0.0.0.0 for all of them."
    return f"cannot listen on port {port} of {host}: {error.strerror or error}."


def address_of(listening: socket.socket) -> str:
    """The page's address for a browser on this machine."""
    host, port = listening.getsockname()[:2]
    if ipaddress.ip_address(host).is_unspecified:
        host = "localhost"
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


def is_private(listening: socket.socket) -> bool:
    """Whether only programs on this machine can reach it."""
    return ipaddress.ip_address(listening.getsockname()[0]).is_loopback


def serve(app: Any, listening: socket.socket, announce: Callable[[], object], ending: threading.Event) -> None:
    """Serve an ASGI application until the process is interrupted.

    Args:
        announce: called when it can be reached.
        ending: set at the end, for what takes long: the socket may be closed only after the server has ended.
    """
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, log_config=None, log_level="warning", timeout_graceful_shutdown=1))
    ended = threading.Event()  # and no `join`: an interrupted one takes the thread for ended (Python 3.11 and 3.12)

    def run() -> None:
        try:
            server.run([listening])
        finally:
            ended.set()

    threading.Thread(target=run, daemon=True, name="page").start()  # in the main thread, uvicorn would answer signals
    try:
        while not server.started and not ended.wait(0.02):
            pass
        if not server.started:
            raise RuntimeError("the page's server has not started.")
        announce()
        ended.wait()
    finally:
        ending.set()
        server.should_exit = True
        ended.wait(GRACE)
