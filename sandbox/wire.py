"""Frames between the supervisor and a session. The code lives in `interpreter`, which is mounted alone in a session."""

from sandbox.interpreter.wire import MAX_FRAME, Decoder, WireError, pack

__all__ = ["MAX_FRAME", "Decoder", "WireError", "pack"]
