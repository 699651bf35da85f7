"""A raw text file as plain UTF-8 on disk: decompressed, decoded, and looked through to its last byte.

gzip and zstd are known by their first bytes. The file is read in chunks, so that memory stays flat; what is not in the
declared encoding is refused with the line and the bytes of the first place, wherever in the file that is.
"""

from __future__ import annotations

import codecs
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

from backports import zstd

from lake.file_schema import ENCODINGS, JSON, FileSchema
from lake.raw_file import EmptyFileError, TooMuchTextError, UnreadableFileError

_CHUNK_BYTES = 1 << 20
_MIB = 1 << 20
_ZSTD_WINDOW_LOG = 27
"""A zstd frame may ask for a window of gigabytes. 128 MiB is the decoder's own default, which `zstd -19` keeps."""
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_SIGNATURES = {
    b"\xff\xd8\xff": "a JPEG image",
    b"\x89PNG": "a PNG image",
    b"GIF8": "a GIF image",
    b"%PDF": "a PDF document",
    b"PK\x03\x04": "a ZIP archive or a workbook",
    _GZIP: "gzip-compressed twice",
    _ZSTD: "zstd-compressed twice",
    b"BZh": "bzip2-compressed",
    b"PAR1": "a Parquet file",
}
_UTF_16 = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
_C1 = bytes(range(0x80, 0xA0))
"""Control characters in latin-1, which no text file holds; letters and quotes in windows-1252, and parts of UTF-8."""
_NEAR = 8


class _DamagedError(Exception):
    """The compressed stream is cut off, or not what its first bytes say."""


def plain_text(raw: Path, plain: Path, schema: FileSchema, most_mib: int) -> Path:
    """The file's text as UTF-8 without a byte order mark: ``raw`` itself where it is that, else ``plain``, made here.

    Raises:
        EmptyFileError: nothing but blanks.
        UnreadableFileError: the declared encoding does not hold, the compression is broken, or it is no text at all.
        TooMuchTextError: what would be written is larger than ``most_mib`` (MiB), as of a decompression bomb.
    """
    chunks, compression = _chunks(raw)
    text = _Text(schema, compression)
    try:
        head = _head(chunks)
        mark = text.begin(head)
        if compression is None and text.codec == "utf-8" and not mark:
            target, blank, returns = raw, True, False
            for decoded in text.of(_with(head, chunks)):
                blank &= not decoded.strip()
                returns |= "\r" in decoded
            if returns and schema.file_type == JSON:
                target, again = plain, _Text(schema, None)
                again.begin(head)
                _write(plain, again.of(_read(raw)), schema, most_mib)
        else:
            target, blank = plain, _write(plain, text.of(_with(head[mark:], chunks)), schema, most_mib)
    except _DamagedError as error:
        raise UnreadableFileError(f"line {text.line}: {error}") from error
    if blank:
        raise EmptyFileError("the file is empty")
    return target


def _write(plain: Path, text: Iterator[str], schema: FileSchema, most_mib: int) -> bool:
    """Write the decoded text; gives whether it is nothing but blanks."""
    size, blank = 0, True
    with plain.open("wb") as file:
        for decoded in text:
            blank &= not decoded.strip()
            # In JSON a carriage return is a blank like another, and DuckDB wants all lines to end alike.
            kept = decoded.replace("\r", " ") if schema.file_type == JSON else decoded
            size += file.write(kept.encode())
            if size > most_mib * _MIB:
                raise TooMuchTextError(f"its text is more than {most_mib:,} MiB, though the file itself is smaller")
    return blank


def _head(chunks: Iterator[bytes]) -> bytes:
    """The first bytes, enough of them to know a file by."""
    head = b""
    while len(head) < 8 and (more := next(chunks, b"")):
        head += more
    return head


def _with(head: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
    yield head
    yield from chunks


def _chunks(raw: Path) -> tuple[Iterator[bytes], str | None]:
    """The file's decompressed bytes, and the compression's name."""
    with raw.open("rb") as file:
        first = file.read(4)
    if first.startswith(_GZIP):
        return _unzipped(raw), "gzip"
    if first == _ZSTD:
        return _unzstandard(raw), "zstd"
    return _read(raw), None


def _read(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk


def _unzipped(path: Path) -> Iterator[bytes]:
    """gzip's members one after the other, with zeros between and behind them, as tapes and block devices leave them."""
    member = zlib.decompressobj(wbits=31)
    begun = False
    for chunk in _read(path):
        rest = chunk
        while rest:
            if member.eof:
                rest = rest.lstrip(b"\0")
                if not rest:
                    break
                member, begun = zlib.decompressobj(wbits=31), False
            begun = True
            try:
                decoded = member.decompress(rest, _CHUNK_BYTES)
            except zlib.error as error:
                raise _DamagedError(f"the gzip file is damaged from here on ({error})") from error
            rest = member.unused_data if member.eof else member.unconsumed_tail
            if decoded:
                yield decoded
    if begun and not member.eof:
        # What zlib still holds back once its input is used up.
        if decoded := member.flush():
            yield decoded
        raise _DamagedError("the gzip file is cut off here")


def _unzstandard(path: Path) -> Iterator[bytes]:
    """zstd's frames one after the other."""
    options = {int(zstd.DecompressionParameter.window_log_max): _ZSTD_WINDOW_LOG}
    frame = zstd.ZstdDecompressor(options=options)
    for chunk in _read(path):
        rest = chunk
        while rest or not (frame.needs_input or frame.eof):
            if frame.eof:
                frame = zstd.ZstdDecompressor(options=options)
            try:
                decoded = frame.decompress(rest, _CHUNK_BYTES)
            except zstd.ZstdError as error:
                raise _DamagedError(f"the zstd file is damaged from here on ({error})") from error
            rest = frame.unused_data if frame.eof else b""
            if decoded:
                yield decoded
    if not frame.eof:
        raise _DamagedError("the zstd file is cut off here")


class _Text:
    """A decoder that knows the line it is in."""

    def __init__(self, schema: FileSchema, compression: str | None) -> None:
        self.line = 1
        self.codec = ENCODINGS[schema.encoding]
        self._schema = schema
        self._inside = f"the file in the {compression} is" if compression else "the file is"
        # Text of one byte a letter is UTF-8 when all of it can be read so: by chance that does not happen.
        self._utf_8 = codecs.getincrementaldecoder("utf-8")() if self._is_bytewise else None
        self._first_foreign: tuple[int, bytes, int] | None = None

    @property
    def _is_bytewise(self) -> bool:
        return self._schema.encoding in ("latin-1", "windows-1252")

    def begin(self, head: bytes) -> int:
        """Settle the ``codec`` of the file that begins with ``head``; gives the length of its byte order mark."""
        for signature, what in _SIGNATURES.items():
            if head.startswith(signature):
                raise UnreadableFileError(f"{self._inside} {what}, not {self._schema.file_type.upper()}")
        declared = self._schema.encoding
        codec, mark = self._marked(head) or (self.codec, 0)
        if codec == "utf-16":
            raise UnreadableFileError(f"{self._inside} not utf-16 text: it begins with {_hex(head[:_NEAR])}")
        if not codec.startswith(ENCODINGS[declared]):
            raise UnreadableFileError(f"{self._inside} {codec[:6].rstrip('-')} text; {declared} is declared")
        self.codec = codec
        self._decoder = codecs.getincrementaldecoder(codec)()
        return mark

    def _marked(self, head: bytes) -> tuple[str, int] | None:
        """The codec that the first bytes tell, with the length of the mark; without a mark, UTF-16 has a zero byte."""
        if head.startswith(codecs.BOM_UTF8):
            return "utf-8", len(codecs.BOM_UTF8)
        for mark, codec in _UTF_16.items():
            if head.startswith(mark):
                return codec, len(mark)
        if self._schema.encoding == "utf-16" and head[:2].count(0) == 1:
            return ("utf-16-be" if head[0] == 0 else "utf-16-le"), 0
        return None

    def of(self, chunks: Iterator[bytes]) -> Iterator[str]:
        """The text of all chunks; ``line`` is always the line in which the last one ended."""
        for chunk in chunks:
            yield self._decode(chunk)
        self._decode(b"", final=True)
        self._end()

    def _decode(self, chunk: bytes, final: bool = False) -> str:
        try:
            text = self._decoder.decode(chunk, final)
        except UnicodeDecodeError as error:
            line = self.line + error.object[: error.start].decode(error.encoding, "ignore").count("\n")
            raise self._refusal(line, error.object, error.start) from error
        if "\0" in text:
            line = self.line + text[: text.index("\0")].count("\n")
            raise UnreadableFileError(f"line {line}: a NUL byte; {self._inside} binary")
        if self._is_bytewise and not text.isascii():
            self._look_at(chunk)
        self.line += text.count("\n")
        return text

    def _look_at(self, chunk: bytes) -> None:
        """Text of one byte a letter can nearly always be decoded; what tells that it should not be is told here."""
        if self._schema.encoding == "latin-1" and len(chunk) != len(chunk.translate(None, _C1)):
            found = re.search(b"[\x80-\x9f]", chunk)
            assert found is not None  # noqa: S101 - translate() has just removed it
            raise self._refusal(self.line + chunk[: found.start()].count(b"\n"), chunk, found.start())
        if self._first_foreign is None:
            foreign = re.search(b"[\x80-\xff]", chunk)
            assert foreign is not None  # noqa: S101 - the chunk is not ASCII
            start = foreign.start()
            self._first_foreign = self.line + chunk[:start].count(b"\n"), chunk, start
        if self._utf_8 is not None:
            try:
                self._utf_8.decode(chunk)
            except UnicodeDecodeError:
                self._utf_8 = None

    def _end(self) -> None:
        """What can only be said once all was read."""
        if self._first_foreign is None or self._utf_8 is None:
            return
        try:
            self._utf_8.decode(b"", final=True)
        except UnicodeDecodeError:
            return
        line, chunk, start = self._first_foreign
        raise UnreadableFileError(
            f"line {line}: bytes {_near(chunk, start)}; {self._inside} utf-8 text; {self._schema.encoding} is declared"
        )

    def _refusal(self, line: int, found: bytes, start: int) -> UnreadableFileError:
        return UnreadableFileError(
            f"line {line}: byte 0x{found[start]:02x} in {_near(found, start)}; "
            f"{self._inside} not {self._schema.encoding} text"
        )


def _near(found: bytes, start: int) -> str:
    """The bytes about ``start``, of its line alone."""
    begin = max(found.rfind(b"\n", 0, start) + 1, start - _NEAR)
    end = found.find(b"\n", start + 1)
    return _hex(found[begin : min(len(found) if end < 0 else end, start + _NEAR)])


def _hex(some: bytes) -> str:
    return some.hex(" ") or "nothing"
