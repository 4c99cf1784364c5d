"""Where the weights of a DINOv2 model are: named by the person, in a local cache, or on the hub."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from lake.errors import BadInput, NotFound

_ORIGIN = "https://dl.fbaipublicfiles.com/dinov2"
#: Files of a folder in transformers' own format, in the order they are looked for.
_TRANSFORMERS = ("model.safetensors", "pytorch_model.bin", "model.safetensors.index.json")


@dataclass(frozen=True)
class Published:
    """Where a model's weights are published: by its makers, and on Hugging Face's hub."""

    folder: str
    file: str
    repository: str

    @property
    def url(self) -> str:
        """Address of the makers' file."""
        return f"{_ORIGIN}/{self.folder}/{self.file}"


def find(name: str, published: Published, given: Path | None) -> Path:
    """Return the file (the makers' format) or folder (transformers') with the weights of a model.

    Looks at what was `given` and nowhere else; without it in torch hub's cache, in Hugging
    Face's, and at last on the hub itself.

    Raises `SurveyError` saying what to download and where to put it.
    """
    if given is not None:
        return _given(given, published)
    cached = hub_folder() / published.file
    if cached.is_file():
        return cached
    folder = _cached_snapshot(published.repository) or _download(published.repository)
    if folder is None:
        raise NotFound(
            f"no weights for {name}, and the hub does not answer: download {published.url} and "
            f"put it into {hub_folder()}, or name the file with --weights"
        )
    return folder


def checksum(weights: Path) -> str:
    """Return the SHA-256 of the weights (of each file of a folder in turn)."""
    files = [weights]
    if weights.is_dir():
        files = sorted(p for p in weights.iterdir() if p.suffix in (".safetensors", ".bin"))
    total = hashlib.sha256()
    for file in files:
        with file.open("rb") as handle:
            total.update(hashlib.file_digest(handle, "sha256").digest())
    return total.hexdigest()


def hub_folder() -> Path:
    """Return the folder where torch hub keeps what it downloads."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = os.environ.get("TORCH_HOME", str(Path(cache) / "torch"))
    return Path(home).expanduser() / "hub" / "checkpoints"


def _given(given: Path, published: Published) -> Path:
    if given.is_file():
        return given
    if not given.is_dir():
        raise NotFound(f"--weights {given}: no such file or folder")
    if _is_snapshot(given):
        return given
    if (given / published.file).is_file():
        return given / published.file
    raise BadInput(
        f"--weights {given}: the folder has neither {published.file} nor config.json with "
        "model.safetensors"
    )


def _is_snapshot(folder: Path) -> bool:
    return (folder / "config.json").is_file() and any(
        (folder / name).is_file() for name in _TRANSFORMERS
    )


def _cached_snapshot(repository: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repository, "config.json")
    if not isinstance(found, str):  # not cached, or known not to exist
        return None
    folder = Path(found).parent
    return folder if _is_snapshot(folder) else None


def _download(repository: str) -> Path | None:
    """Return the folder the hub's files were downloaded to, None when it cannot be reached."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        found = snapshot_download(
            repository, allow_patterns=["config.json", "model.safetensors"], etag_timeout=10
        )
    except (OSError, HfHubHTTPError):
        return None
    return Path(found)
