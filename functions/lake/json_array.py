"""The objects of a JSON file that is one array, as text, one after the other: an array may be larger than memory."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn, TextIO

from lake.raw_file import UnreadableFileError

_READ_CHARACTERS = 1 << 20
_WHITE = re.compile(r"[ \t\r\n]*")


def objects(path: Path, most_characters: int) -> Iterator[str]:
    """The text of each object of the array in the UTF-8 file ``path``.

    Raises:
        UnreadableFileError: with the line that is no JSON, or the row that is no object or longer than
            ``most_characters``.
    """
    with path.open(encoding="utf-8", newline="") as file:
        window = _Window(file)
        window.take("[")
        row = 0
        while window.peek() != "]":
            if row:
                window.take(",")
            row += 1
            yield window.object(row, most_characters)
        window.take("]")
        if found := window.peek():
            raise UnreadableFileError(f"line {window.line}: {found!r} stands behind the end of the array")


class _Window:
    """What is looked at of a text: what lies before is forgotten but for its lines, what lies behind not read yet."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._text = ""
        self._at = 0
        self._lines_before = 0
        self._decoder = json.JSONDecoder(parse_constant=_refuse_constant)

    @property
    def line(self) -> int:
        """The number of the line that is looked at."""
        return self._line_at(self._at)

    def peek(self) -> str:
        """The next character that is no blank; empty at the file's end."""
        while True:
            self._at = _WHITE.match(self._text, self._at).end()  # type: ignore[union-attr] # matches nothing, too
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._read(_READ_CHARACTERS):
                return ""

    def take(self, wanted: str) -> None:
        """Go on behind the next character, which must be ``wanted``."""
        found = self.peek()
        if found != wanted:
            shown = repr(found) if found else "the end of the file"
            raise UnreadableFileError(f"line {self.line}: not JSON: {shown}, where {wanted!r} should be")
        self._at += 1

    def object(self, row: int, most_characters: int) -> str:
        """Go on behind the next value, which must be an object; gives its text."""
        if self.peek() != "{":
            raise UnreadableFileError(f"line {self.line}: row {row} of the array is no object")
        while True:
            try:
                _, end = self._decoder.raw_decode(self._text, self._at)
            except RecursionError as error:
                raise UnreadableFileError(f"row {row} of the array is nested too deep") from error
            except _ConstantError as error:
                raise UnreadableFileError(f"row {row} of the array: {error} is not JSON") from error
            except json.JSONDecodeError as error:
                # What is wrong may be no more than that the rest is not read yet.
                seen = len(self._text) - self._at
                if seen > most_characters:
                    raise UnreadableFileError(
                        f"row {row} of the array, from line {self.line} on: "
                        f"not JSON, or longer than {most_characters:,} characters"
                    ) from error
                if not self._read(max(seen, _READ_CHARACTERS)):
                    raise UnreadableFileError(f"line {self._line_at(error.pos)}: not JSON: {error.msg}") from error
            else:
                text = self._text[self._at : end]
                self._at = end
                return text

    def _read(self, characters: int) -> bool:
        """Forget what lies before and read on; False at the file's end."""
        more = self._file.read(characters)
        if more:
            self._lines_before += self._text.count("\n", 0, self._at)
            self._text, self._at = self._text[self._at :] + more, 0
        return bool(more)

    def _line_at(self, place: int) -> int:
        return self._lines_before + self._text.count("\n", 0, place) + 1


class _ConstantError(ValueError):
    """``NaN`` or ``Infinity``, which Python reads and JSON has not."""


def _refuse_constant(name: str) -> NoReturn:
    raise _ConstantError(name)
