"""Shell code of the agent: one child per call. The working folder and exported variables carry over to later calls."""

import os
import re
import signal
from contextlib import suppress
from subprocess import DEVNULL, Popen

from .candidates import files, nearest_first
from .capture import Stream, unlinked
from .outcome import Outcome, Setting, plain_error

_MOST = 120_000  # Linux takes 128 KiB in one argument
_OWN = {b"_", b"PWD", b"OLDPWD", b"SHLVL"}
# `eval` keeps a syntax error in the agent's code from taking the trap with it.
_SCRIPT = "trap '__status=$?; { pwd; env -0; echo end; } >&%d 2>/dev/null; exit $__status' EXIT; eval \"$1\""


class ShellCode:
    """Runs shell code in the interpreter's own working folder and environment, and takes over what it changed."""

    def __init__(self, setting: Setting, stderr: Stream) -> None:
        self._setting = setting
        self._stderr = stderr
        self._shell = next((path for path in ("/bin/bash", "/usr/bin/bash") if os.access(path, os.X_OK)), "/bin/sh")

    def run(self, code: str, number: int) -> Outcome:
        """Run `code`; an exit status other than 0 is an error of type ShellError."""
        if len(code.encode("utf-8", "replace")) > _MOST:
            text = f"the script is longer than {_MOST} bytes: write it to a file, then run the file"
            return Outcome(error=plain_error("ShellError", text))
        if "\0" in code:
            return Outcome(error=plain_error("ShellError", "the script holds a NUL character"))
        end = -1
        try:
            end = self._end_file()
            status = self._wait(code, end)
            self._take_over(end)
        except OSError as error:
            return Outcome(error=plain_error("ShellError", f"the shell could not be started: {error}"))
        finally:
            with suppress(OSError):
                os.close(end)
        return Outcome(exit_code=status, error=self._facts(code, status) if status else None)

    def _end_file(self) -> int:
        try:
            return unlinked(self._setting.work)
        except OSError:  # no room: the code runs all the same, and what it changes is lost
            return os.open(os.devnull, os.O_RDWR)

    def _wait(self, code: str, end: int) -> int:
        script = _SCRIPT % end
        plain = ["--noprofile", "--norc"] if self._shell.endswith("bash") else []
        argv: list[str | bytes] = [self._shell, *plain, "-c", script, "sh", code.encode("utf-8", "replace")]
        with suppress(FileNotFoundError):
            os.getcwd()  # noqa: PTH109
            return Popen(argv, stdin=DEVNULL, stdout=1, stderr=2, pass_fds=(end,)).wait()
        os.chdir(self._setting.work)
        return Popen(argv, stdin=DEVNULL, stdout=1, stderr=2, pass_fds=(end,)).wait()

    def _take_over(self, end: int) -> None:
        size = min(os.fstat(end).st_size, 1 << 20)
        data = os.pread(end, size, 0)
        if not data.endswith(b"end\n"):  # the shell was replaced or killed, or the disk is full
            return
        folder, _, variables = data.partition(b"\n")
        with suppress(OSError, ValueError):
            os.chdir(folder)
        pairs = [entry.partition(b"=") for entry in variables.split(b"\0") if b"=" in entry]
        after = {name: value for name, _, value in pairs if name not in _OWN}
        if not after:
            return
        for name in [name for name in os.environb if name not in after and name not in _OWN]:
            del os.environb[name]
        with suppress(OSError, ValueError):
            os.environb.update(after)

    def _facts(self, code: str, status: int) -> dict[str, object]:
        if status < 0:
            try:
                cause = f"was ended by signal {signal.Signals(-status).name}"
            except ValueError:
                cause = f"was ended by signal {-status}"
        else:
            cause = f"ended with exit status {status}"
        total = self._stderr.total(True)
        tail = self._stderr.read(max(total - 2000, 0), 2000, True)
        last = tail.strip().rpartition("\n")[2][:500]
        facts = plain_error("ShellError", f"the command {cause}" + (f": {last}" if last else ""))
        lines = code.split("\n")
        numbers = re.findall(r"\bline (\d{1,6}): ", tail)
        if numbers and 1 <= int(numbers[-1]) <= len(lines):
            facts["line"] = int(numbers[-1])
            facts["source"] = lines[int(numbers[-1]) - 1][:500]
        absent = re.search(r"([^\s:'\"‘’]+)['\"’]?: No such file or directory", last)
        if absent:
            facts["missing"] = absent[1]
            facts["candidates"] = nearest_first(absent[1], files(self._setting), paths=True)
        return facts
