"""Texts that fit: clipping to a budget, and text that can always be encoded."""

import re


def clean(text: str) -> str:
    """The text with lone surrogates written as escapes, so that it is valid Unicode."""
    return text.encode("utf-8", "backslashreplace").decode()


def lines_of(code: str) -> list[str]:
    """The lines of source code as Python and editors count them (`str.splitlines` also splits at form feeds)."""
    return re.split("\r\n|\r|\n", code)


def left_out(count: int) -> str:
    """The line that stands for `count` characters in the middle of a clipped text."""
    return f"\n[... {count} characters left out ...]\n"


def shares(total: int, limit: int) -> tuple[int, str, int]:
    """How a text of `total` characters fits `limit`: characters of its head, a marker, characters of its tail."""
    if total <= limit:
        return total, "", 0
    marker = left_out(total)  # as long as the marker gets
    room = limit - len(marker)
    if room < 20:
        return max(limit, 0), "", 0
    head = room - room // 2
    return head, left_out(total - room), room // 2


def clip(text: str, limit: int) -> tuple[str, bool]:
    """Head and tail of a text within `limit` characters, clean, and whether something was left out."""
    if len(text) <= limit:
        cleaned = clean(text)
        if len(cleaned) <= limit:
            return cleaned, False
        text = cleaned
    head, marker, tail = shares(len(text), limit)
    clipped = text[:head] + marker + (text[-tail:] if tail else "")
    return clean(clipped)[:limit], True


def shorten(text: str, limit: int) -> str:
    """The beginning of a text on one line."""
    text = clean(text[: limit + 1]).replace("\n", "\\n").replace("\r", "\\r")
    return text if len(text) <= limit else text[: max(limit - 3, 0)] + "..."
