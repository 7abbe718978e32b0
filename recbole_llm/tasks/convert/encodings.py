"""Encodings of text files: which one a file has, and signs of a wrong one."""

from __future__ import annotations

import codecs
from typing import IO

_BLOCK = 1 << 20  # bytes
_STARTS = {  # first bytes of files that are no texts
    b"PK\x03\x04": "an Excel file or an archive; save the table as CSV, or unpack it",
    b"\xd0\xcf\x11\xe0": "an Excel file; save the table as CSV",
    b"PAR1\x15": "a Parquet file; let its name end in .parquet",
    b"\x1f\x8b": "compressed by gzip; let its name end in .gz",
    b"BZh": "compressed by bzip2; unpack it",
    b"\xfd7zXZ": "compressed by xz; unpack it",
}


def check_text(file: IO[bytes], name: object) -> None:
    """Refuse files that are no texts, although some encodings would silently decode them."""
    head = file.read(max(map(len, _STARTS)))
    for start, what in _STARTS.items():
        if head.startswith(start):
            raise ValueError(f"'{name}' is {what}")


def is_utf_8(file: IO[bytes], named: str) -> bool:
    """Whether a file is UTF-8 after all; texts in other encodings are hardly ever valid UTF-8.

    Args:
        named: the encoding that the user gave. It is kept for a file of ASCII bytes alone, since
            encodings such as ISO-2022 look like that, but not if it is a wide encoding such as
            UTF-16, whose texts have zero bytes.
    """
    decoder, plain = codecs.getincrementaldecoder("utf-8")(), True
    try:
        while block := file.read(_BLOCK):
            decoder.decode(block)
            if b"\0" in block:
                return False
            plain = plain and block.isascii()
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return not plain or "a".encode(named) != b"a"


def check_known(encoding: str) -> None:
    """Refuse the name of an unknown encoding."""
    try:
        "".encode(encoding)  # codecs.lookup also takes codecs that are not for text, such as hex
    except LookupError:
        raise ValueError(
            f"--encoding: '{encoding}' is unknown; utf-8, utf-16, cp1252 and latin-1 are usual"
        ) from None


def decode_error(file: object, encoding: str, error: UnicodeDecodeError) -> ValueError:
    """The error for a file that cannot be decoded. It suggests Windows' cp1252 first, which latin-1
    would silently misread; latin-1 is the way out for the few bytes that cp1252 lacks."""
    other = "latin-1" if encoding == "cp1252" else "cp1252"
    if error.object[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        other = "utf-16"
    return ValueError(
        f"'{file}' is not {encoding.removesuffix('-sig')}; name its encoding, such as "
        f"--encoding={other}"
    )
