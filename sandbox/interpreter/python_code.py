"""Python of the agent: one namespace for the whole session, and the value of the last expression as in a REPL."""

import ast
import builtins
import linecache
import sys
from types import CodeType, ModuleType
from typing import Any

from .facts import gather
from .guard import Guard
from .outcome import Outcome, Setting
from .text import clip, lines_of

_FINDERS = sys.path_importer_cache


class PythonCode:
    """The session's `__main__` module and what runs in it."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._guard = Guard()
        self._module = ModuleType("__main__")
        self._pandas_is_set = False
        self.namespace: dict[str, Any] = self._module.__dict__
        self.namespace["__builtins__"] = builtins
        sys.modules["__main__"] = self._module

    def run(self, code: str, number: int) -> Outcome:
        """Run `code` as call `number`. Whatever it raises becomes the facts of an error."""
        name = f"<call {number}>"
        tree: ast.Module | None = None
        text: str | None = None
        caught: BaseException | None = None
        self._set_pandas()
        for folder in self._setting.changing:
            # A module that another call wrote is found, however soon after one that looked for it in vain.
            _FINDERS.pop(folder, None)
        # A warning of an earlier call must not silence the same line number of this one.
        self.namespace.pop("__warningregistry__", None)
        linecache.cache[name] = (len(code), None, [f"{line}\n" for line in lines_of(code)], name)
        try:
            tree = ast.parse(code, name)
            body, end = list(tree.body), tree.body[-1] if tree.body else None
            last = ast.Expression(end.value) if isinstance(end, ast.Expr) else None
            if last is not None:
                body.pop()
            first = compile(ast.Module(body, []), name, "exec", dont_inherit=True)
            second = None if last is None else compile(last, name, "eval", dont_inherit=True)
            value = self._execute(first, second)
            self._set_pandas()
            text = None if value is None else str.__str__(repr(value))
        except BaseException as error:
            caught = error
        if caught is not None:
            return Outcome(error=gather(caught, code, name, tree, self._setting))
        if text is None:
            return Outcome()
        return Outcome(*clip(text, self._setting.output))

    def _execute(self, first: CodeType, second: CodeType | None) -> Any:
        run, evaluate = exec, eval  # before the agent's own come back
        self._guard.leave()
        try:
            run(first, self.namespace)
            return None if second is None else evaluate(second, self.namespace)
        finally:
            self._guard.enter()

    def _set_pandas(self) -> None:
        """Tables as wide as a wide terminal; set once, so that the agent's own settings stay."""
        pandas = sys.modules.get("pandas")
        if self._pandas_is_set or not hasattr(pandas, "set_option"):
            return
        self._pandas_is_set = True
        try:
            for option, setting in (("width", 160), ("max_columns", 40), ("max_colwidth", 80)):
                pandas.set_option(f"display.{option}", setting)  # type: ignore[union-attr]
        except Exception:
            return
