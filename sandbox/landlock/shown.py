"""What the agent reads of a session, with the session's real paths replaced by those of the contract."""

import dataclasses

from sandbox.base import Execution, Output
from sandbox.landlock.places import Places


def shown(done: Execution, places: Places) -> Execution:
    """The result with the session's real paths replaced. Lengths that are told are those of the raw texts."""
    outward = places.text_outward

    def stream(output: Output) -> Output:
        text = outward(output.text)
        total = output.total_chars if output.truncated else len(text)
        return dataclasses.replace(output, text=text, total_chars=total)

    error = done.error
    if error is not None:
        error = dataclasses.replace(
            error,
            message=outward(error.message),
            traceback=outward(error.traceback),
            names={name: outward(text) for name, text in error.names.items()},
            missing=None if error.missing is None else outward(error.missing),
            candidates=tuple(map(outward, error.candidates)),
        )
    value = None if done.value is None else outward(done.value)
    return dataclasses.replace(done, stdout=stream(done.stdout), stderr=stream(done.stderr), value=value, error=error)
