"""Ports on a session's own loopback, at which services of the operator's are reached."""

import socket

_BACKLOG = 16
"""Connections that wait."""
_BUFFER = 1 << 17
"""Bytes that the kernel may hold of one connection, each way; doubled by it for its own needs (socket(7)). Left to
itself it grows them with what is passed on, to megabytes."""


def listen(port: int) -> socket.socket:
    """A listening socket, whose connections have the bounds of above. Raises OSError: the port is taken."""
    listener = socket.create_server(("127.0.0.1", port), backlog=_BACKLOG)
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        listener.setsockopt(socket.SOL_SOCKET, option, _BUFFER)
    return listener
