"""The models of a lake as files: a file that holds the estimator, and the card that describes it.

``models/NAME/model.skops`` is a zip archive, the estimator and inside it the card; ``model.json``
is the card as people and later stages read it, with the hash of the file. A card that differs from
the one inside is refused, so that nobody is misled by classes in another order or by scores that
were improved. The card comes last, and a run that is killed in between leaves it beside its place,
from where the next reader takes it.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lake.errors import BadInput, Damaged, NotFound, SurveyError
from lake.paths import MODEL_CARD, MODEL_FILE, MODELS, check_name
from lake.record import digest
from lake.store import Lake, write_atomically

#: The card inside of the model file.
_INSIDE = "card.json"
#: A card whose model file may have been committed, while it was not.
_NEXT_CARD = "_model.json"
#: Entries that the card inside lacks: the hash cannot be in what it is of, and equal models of two
#: names or days are to be equal files.
_OUTSIDE = ("sha256", "name", "date")
#: Bytes that a card may have.
_LARGEST = 64 << 20
_EPOCH = (1980, 1, 1, 0, 0, 0)
#: Parts of the card that decide what a model predicts; with the model file they are its identity.
_DECISIVE = ("classes", "embedders", "classifier", "exposures")


def model_folder(lake: Lake, name: str) -> Path:
    """Return the folder of a model, whether or not it exists."""
    return lake.root / MODELS / check_name("model", name)


def model_names(lake: Lake) -> list[str]:
    """Return the models of a lake, those with damaged cards among them."""
    folders = (lake.root / MODELS).glob("*/")
    files = (MODEL_FILE, MODEL_CARD)
    return sorted(
        folder.name for folder in folders if any((folder / file).is_file() for file in files)
    )


def model_identity(card: Mapping[str, Any]) -> str:
    """Return a hash of everything that decides a prediction of the model that `card` describes.

    Raises `KeyError` or `TypeError` for what is no card.
    """
    decisive = {key: card[key] for key in _DECISIVE}
    features = {
        "embedders": [one["name"] for one in card["embedders"]],
        "context": card["context"],
        "columns": card["columns"],
        "release": card["training"]["release"],
    }
    return digest([card["sha256"], decisive, features])


def stored_identity(lake: Lake, name: str) -> str | None:
    """Return the identity of a model of the lake; None where it has none that can be read."""
    try:
        card = json.loads((lake.root / MODELS / name / MODEL_CARD).read_bytes())
        return model_identity(card)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_model(
    lake: Lake,
    name: str,
    archive: bytes,
    card: Mapping[str, Any],
    first: Callable[[dict[str, Any]], object],
) -> dict[str, Any]:
    """Commit a model and return its card as it can be read back.

    Parameters
    ----------
    archive : zip archive of the estimator.
    card : what describes it, without the hash of the file.
    first : called with the whole card before the model is there, to commit what belongs to it.
    """
    folder = model_folder(lake, name)
    covered = {key: value for key, value in card.items() if key not in _OUTSIDE}
    content = _with_member(archive, _INSIDE, _to_json(covered))
    text = _to_json({**card, "sha256": hashlib.sha256(content).hexdigest()})
    first(json.loads(text))
    write_atomically(folder / _NEXT_CARD, lambda path: _write(path, text))
    write_atomically(folder / MODEL_FILE, lambda path: _write(path, content))
    (folder / _NEXT_CARD).replace(folder / MODEL_CARD)
    return dict(json.loads(text))


def read_card(lake: Lake, name: str) -> dict[str, Any]:
    """Return the card of a model.

    Raises `SurveyError` when there is none, it is damaged, or it is not that of its model file.
    """
    return read_model(lake, name)[0]


def read_model(lake: Lake, name: str) -> tuple[dict[str, Any], bytes]:
    """Return the card of a model and the content of its file, which belong together.

    Raises `SurveyError` as `read_card` does.
    """
    folder = _existing(lake, name)
    path = folder / MODEL_FILE
    card = _parse(folder / MODEL_CARD)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror or error}") from error
    inside = _inside(path, content)
    sha256 = hashlib.sha256(content).hexdigest()
    if card["sha256"] == sha256 and (inside is None or _covered(card) == inside):
        return card, content
    return _finish(folder, inside, sha256), content


def _existing(lake: Lake, name: str) -> Path:
    folder = model_folder(lake, name)
    if not (folder / MODEL_FILE).is_file() and not (folder / MODEL_CARD).is_file():
        raise NotFound(
            f"no model {name!r} in {lake.root}; train it with `survey-qa train --model {name}` "
            f"(the lake has {', '.join(model_names(lake)) or 'none'})"
        )
    return folder


def _finish(folder: Path, inside: dict[str, Any] | None, sha256: str) -> dict[str, Any]:
    """Return the card that a killed run left beside its place, having put it there.

    Raises `SurveyError` when there is none that belongs to the model file: the card was changed.
    """
    path = folder / MODEL_CARD
    try:
        card = _parse(folder / _NEXT_CARD)
    except SurveyError:
        card = None
    if card is None or inside is None or _covered(card) != inside or sha256 != card["sha256"]:
        raise Damaged(
            f"{path}: not the card of {MODEL_FILE} beside it (one of them was changed or is "
            "damaged); restore them from a copy, or train the model again with --force"
        )
    (folder / _NEXT_CARD).replace(path)
    return card


def _parse(path: Path) -> dict[str, Any]:
    """Return a card whose entries are of the kinds that readers rely on."""
    try:
        card = json.loads(path.read_bytes())
        problem = _problem(card)
    except (OSError, ValueError, RecursionError) as error:
        problem = str(error) or type(error).__name__
    if problem is not None:
        raise BadInput(f"{path}: not a model card ({problem}); train the model again")
    return dict(card)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _are_classes(value: Any) -> bool:
    return _are_texts(value) and len(value) > 1 and value[0] == "good"


def _are_embedders(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(
            isinstance(one, dict) and _are_texts([one.get("name"), one.get("settings")])
            for one in value
        )
    )


def _is_rule(value: Any) -> bool:
    return value is None or isinstance(value, dict)


def _is_training(value: Any) -> bool:
    return isinstance(value, dict) and _is_text(value.get("release"))


#: What the entries that every card has must be.
_KINDS: dict[str, Callable[[Any], bool]] = {
    "sha256": _is_text,
    "classes": _are_classes,
    "context": _is_text,
    "columns": _are_texts,
    "classifier": _is_text,
    "exposures": _is_rule,
    "embedders": _are_embedders,
    "training": _is_training,
}


def _problem(card: Any) -> str | None:
    """Return what is wrong with a card, None where nothing is."""
    if not isinstance(card, dict):
        return "it is no object"
    for name, is_right in _KINDS.items():
        if name not in card:
            return f"it lacks {name}"
        if not is_right(card[name]):
            return f"its {name} cannot be {json.dumps(card[name])[:60]}"
    return None


def _covered(card: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in card.items() if key not in _OUTSIDE}


def _inside(path: Path, content: bytes) -> dict[str, Any] | None:
    """Return the card inside of a model file; None for a file of version 0.1.0."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as file:
            if _INSIDE not in file.namelist():
                return None
            if file.getinfo(_INSIDE).file_size > _LARGEST:
                raise BadInput(f"{path}: its card is too large; refused")
            return dict(json.loads(file.read(_INSIDE)))
    except (zipfile.BadZipFile, ValueError, TypeError, EOFError, RuntimeError, OSError) as error:
        raise Damaged(
            f"{path}: not a model file ({error}); restore it from a copy, or train the model again"
        ) from error


def _with_member(archive: bytes, name: str, data: bytes) -> bytes:
    buffer = io.BytesIO(archive)
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED) as file:
        file.writestr(zipfile.ZipInfo(name, _EPOCH), data, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _to_json(card: Mapping[str, Any]) -> bytes:
    return (json.dumps(card, indent=1, default=_plain, allow_nan=False) + "\n").encode()


def _plain(value: Any) -> Any:
    """Return what numpy's values and arrays are in JSON."""
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value)


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
