"""What the agent's code changed in the interpreter itself is undone while our own code runs."""

import builtins
import signal
import sys
from contextlib import suppress
from threading import get_ident
from typing import Any

_settrace, _setprofile, _setitimer = sys.settrace, sys.setprofile, signal.setitimer
_getrecursionlimit, _setrecursionlimit = sys.getrecursionlimit, sys.setrecursionlimit
_BUILTINS = vars(builtins)
_ORIGINAL = dict(_BUILTINS)
_LEAST_RECURSION = 1000


class Guard:
    """Stands between the agent's code and the loop: `leave` before the agent's code runs, `enter` after it.

    Changed built-in names are the agent's state, so they come back with the next call; trace hooks and alarms do not.
    """

    def __init__(self) -> None:
        self._changed: dict[str, Any] = {}
        self._removed: list[str] = []
        self._main = get_ident()

    def leave(self) -> None:
        """Put the agent's changes in place, except for background work: the loop runs beside it."""
        if get_ident() != self._main:
            return
        changed, removed = self._changed, self._removed
        self._changed, self._removed = {}, []
        _BUILTINS.update(changed)
        for name in removed:
            del _BUILTINS[name]

    def enter(self) -> None:
        """Put back what Python had. Nothing here may look up a built-in name before that is done."""
        _settrace(None)
        _setprofile(None)
        now = _BUILTINS.copy()
        _BUILTINS.update(_ORIGINAL)
        self._changed |= {name: now[name] for name in _ORIGINAL if name in now and now[name] is not _ORIGINAL[name]}
        self._removed += [name for name in _ORIGINAL if name not in now and name not in self._removed]
        if _getrecursionlimit() < _LEAST_RECURSION:
            _setrecursionlimit(_LEAST_RECURSION)
        if get_ident() == self._main:
            with suppress(Exception):
                _setitimer(signal.ITIMER_REAL, 0)
