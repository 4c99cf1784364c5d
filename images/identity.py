"""What tells one content of a file from another, whatever its folder and its time.

Of a FITS file this is the pixels as they are stored: by the checksum that an HDU carries of its
data (``DATASUM`` of the FITS standard) where it has one, which costs its header alone, else by a
hash of its data. What else a header says (history, astrometry) does not matter.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import BinaryIO

import fitsio

from lake.record import digest

_FITS = b"SIMPLE  ="
_CARD = 80
_CHUNK = 1 << 20
#: Cards that decide how stored bytes become pixels, and of which CCD.
_DECISIVE = re.compile(
    rb"^(XTENSION|EXTNAME|BITPIX|NAXIS\d*|PCOUNT|GCOUNT|TFIELDS|TFORM\d+|TTYPE\d+|TSCAL\d+|TZERO\d+|"
    rb"BSCALE|BZERO|BLANK|ZIMAGE|ZBITPIX|ZNAXIS\d*|ZTILE\d+|ZCMPTYPE|ZNAME\d+|ZVAL\d+|ZSCALE|"
    rb"ZZERO|ZBLANK|ZQUANTIZ|ZDITHER0|ZMASKCMP) *="
)
_SUM = re.compile(rb"^DATASUM *= *'? *(\d+)")


def file_identity(path: Path) -> str:
    """Return the identity of the content of an image file.

    Raises `OSError` when the file cannot be read.
    """
    with path.open("rb") as file:
        if file.read(len(_FITS)) == _FITS:
            try:
                return _of_fits(path, file)
            except (OSError, ValueError):  # as much of it as cannot be understood is bytes
                pass
        file.seek(0)
        return _hash(file, None)


def _of_fits(path: Path, file: BinaryIO) -> str:
    size = file.seek(0, 2)
    parts = []
    with fitsio.FITS(str(path)) as fits:
        for hdu in fits:
            place = hdu.get_offsets()
            start, end = place["data_start"], place["data_end"]
            if end > size:
                raise ValueError("it ends before its data")
            file.seek(place["header_start"])
            header = file.read(start - place["header_start"])
            cards = [header[at : at + _CARD] for at in range(0, len(header), _CARD)]
            decisive = b"".join(card.partition(b"/")[0] for card in cards if _DECISIVE.match(card))
            sums = [found[1].decode() for card in cards if (found := _SUM.match(card))]
            file.seek(start)
            content = sums[0] if sums and sums[0] != "0" else _hash(file, end - start)
            parts.append([hashlib.blake2b(decisive, digest_size=8).hexdigest(), content])
    if not parts:
        raise ValueError("it has no HDU")
    return digest(parts)


def _hash(file: BinaryIO, length: int | None) -> str:
    """Return a hash of the next `length` bytes, of all when None."""
    hasher = hashlib.blake2b(digest_size=8)
    while length is None or length > 0:
        chunk = file.read(_CHUNK if length is None else min(_CHUNK, length))
        if not chunk:
            break
        hasher.update(chunk)
        length = None if length is None else length - len(chunk)
    return hasher.hexdigest()
