"""Drawn images on disk, within a size limit."""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from pathlib import Path
from threading import Lock

from lake.paths import temporary_path
from lake.record import digest

#: How a JPEG begins and ends: a machine that goes down may leave a file without its content.
_BEGINS, _ENDS = b"\xff\xd8", b"\xff\xd9"


class ImageCache:
    """JPEG images under opaque keys; the least recently used go when there is no more room.

    It holds nothing that cannot be drawn again, so that a file that cannot be written, has gone or
    is damaged is no error. Safe to share between threads; two servers may share the folder.

    Parameters
    ----------
    folder : made where missing.
    limit : bytes that the images may take.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder = folder
        self.limit = limit
        self._lock = Lock()
        self._sizes: OrderedDict[str, int] = OrderedDict()
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
        files = []
        with contextlib.suppress(OSError):
            for path in folder.glob("*.jpg"):
                with contextlib.suppress(OSError):  # another server has just removed it
                    files.append((path, path.stat()))
        for path, status in sorted(files, key=lambda item: item[1].st_mtime):
            self._sizes[path.stem] = status.st_size

    @staticmethod
    def key(*parts: object) -> str:
        """Return the key of an image: a hash of everything that decides what it shows."""
        return digest([str(part) for part in parts])

    @property
    def size(self) -> int:
        """Bytes that the images take."""
        return sum(self._sizes.values())

    def get(self, key: str) -> bytes | None:
        """Return an image, or None when it is not there."""
        with self._lock:
            known = key in self._sizes
            if known:
                self._sizes.move_to_end(key)
        if not known:
            return None
        path = self._path(key)
        try:
            data = path.read_bytes()
            path.touch()  # so that the order survives a restart
            whole = data.startswith(_BEGINS) and data.endswith(_ENDS)
        except OSError:
            whole = False
        if not whole:
            with self._lock:
                self._sizes.pop(key, None)
            return None
        return data

    def has(self, key: str) -> bool:
        """Tell whether an image is there."""
        return key in self._sizes

    def put(self, key: str, image: bytes) -> None:
        """Keep an image, making room for it."""
        path = self._path(key)
        temporary = temporary_path(path)
        try:
            temporary.write_bytes(image)
            temporary.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink()
            return
        with self._lock:
            self._sizes[key] = len(image)
            self._sizes.move_to_end(key)
            excess = self.size - self.limit
            while excess > 0 and self._sizes:
                oldest, size = self._sizes.popitem(last=False)
                with contextlib.suppress(OSError):
                    self._path(oldest).unlink()
                excess -= size

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.jpg"
