"""`python -m tests.conformance`: every leg and the inspector, a line each; what failed is shown in full."""

import sys

from tests.conformance.suite import LEGS, Unavailable, run_inspector, run_leg


def main() -> int:
    try:
        outcomes = [run_leg(leg) for leg in LEGS] + [run_inspector(era) for era in ("modern", "legacy")]
    except Unavailable as error:
        print(f"Not run: {error}", file=sys.stderr)
        return 2
    for outcome in outcomes:
        if not outcome.ok:
            print(outcome.output)
    for outcome in outcomes:
        print(outcome.line())
    return 0 if all(outcome.ok for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
