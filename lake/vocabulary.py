"""One vocabulary: classes of bad exposures, and the words that lists use for them.

The words are data (`vocabulary.toml`), so that a person can read and extend them; here is only how
they are applied.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from lake.errors import BadInput, NotFound
from lake.paths import shortened

Origin = Literal["paper", "project"]
_ORIGINS: tuple[Origin, ...] = ("paper", "project")
#: File in a lake that extends the vocabulary.
USER_FILE = "vocabulary.toml"


@dataclass(frozen=True)
class BadClass:
    """A class: its name, meaning, and place in training.

    Attributes
    ----------
    number : place in the paper's order; 0 is good.
    training : whether classifiers learn it.
    keep : share of its images that a balanced training sample draws.
    weight : how many times each drawn image counts.
    aliases : reason of a list -> who maps it here, the paper or this project.
    """

    number: int
    name: str
    meaning: str = ""
    training: bool = True
    keep: float = 1.0
    weight: float = 1.0
    aliases: Mapping[str, Origin] = field(default_factory=dict)


@dataclass(frozen=True)
class Rule:
    """A regular expression, searched for in the words of some sources; see `vocabulary.toml`.

    `result` is the class that a match gives (rules) or whether it is bad (verdicts).
    """

    sources: tuple[str, ...]
    pattern: re.Pattern[str]
    result: str | bool
    origin: Origin
    below: float | None = None
    at_least: float | None = None

    def matches(self, sources: Iterable[str], words: str) -> bool:
        """Tell whether the rule applies to `words` of a list of one of `sources`."""
        if not any(source in self.sources for source in sources):
            return False
        found = self.pattern.search(words)
        if found is None or (self.below is None and self.at_least is None):
            return found is not None
        try:
            value = float(found[1])
        except (TypeError, ValueError):  # a user's expression may capture anything, or nothing
            return False
        return (self.below is None or value < self.below) and (
            self.at_least is None or value >= self.at_least
        )


@dataclass(frozen=True)
class Vocabulary:
    """Classes in order, rules for free text, verdicts, and the precedence of classes.

    Parameters
    ----------
    origins : whose entries apply; ``("paper",)`` repeats the paper's selection.
    """

    table: tuple[BadClass, ...]
    rules: tuple[Rule, ...]
    verdicts: tuple[Rule, ...]
    precedence: tuple[str, ...]
    origins: tuple[Origin, ...] = _ORIGINS

    @classmethod
    def load(cls, path: Path | None = None) -> Vocabulary:
        """Return the vocabulary, extended by the user's file `path` where one is given.

        Raises
        ------
        SurveyError : the file is missing, is not TOML, or holds an entry that cannot be used.
        """
        packaged = files("lake").joinpath("vocabulary.toml").read_text(encoding="utf-8")
        documents = [("vocabulary.toml", tomllib.loads(packaged))]
        if path is not None:
            documents.append((str(path), _read_user_file(path)))
        return _build(documents)

    @classmethod
    def of_lake(cls, root: Path) -> Vocabulary:
        """Return the vocabulary of a lake: extended by its ``vocabulary.toml``, where it has one.

        Raises `SurveyError` as `load` does.
        """
        path = root / USER_FILE
        return cls.load(path if path.exists() else None)

    def of_paper(self) -> Vocabulary:
        """Return the vocabulary without this project's own entries."""
        return Vocabulary(self.table, self.rules, self.verdicts, self.precedence, ("paper",))

    @property
    def classes(self) -> list[str]:
        """Names of all classes in order, good first, those left out of training last."""
        return [entry.name for entry in self.table]

    @property
    def training_classes(self) -> list[str]:
        """Names of the classes that classifiers learn, in order."""
        return [entry.name for entry in self.table if entry.training]

    def describe(self, name: str) -> BadClass:
        """Return the class `name`; raises `SurveyError` naming the classes."""
        for entry in self.table:
            if entry.name == name:
                return entry
        raise NotFound(f"no class {name!r}; the classes are {', '.join(self.classes)}")

    def classes_of(self, source: str, text: str, form: str = "") -> list[str]:
        """Return the classes that the words of a list of `source` mean, in order; maybe none.

        Rules of the source `form` apply too: a survey's own list may be written as another's.

        A class's own name and its aliases are compared as a whole, then (in words of the form
        ``file: comment``, as DELVE's become) with what stands before the colon; rules are searched
        for in the words.
        """
        found: set[str] = set()
        head = text.partition(": ")[0]
        for words in (text, head) if head != text else (text,):
            name = self._aliases.get(fold(words))
            if name is None:
                folded = _joined(words)
                found.update(
                    str(rule.result)
                    for rule in self.rules
                    if rule.origin in self.origins and rule.matches((source, form), folded)
                )
            else:
                found.add(name)
            if found:
                break
        return [name for name in self.classes if name in found]

    def is_bad(self, source: str, text: str, form: str = "") -> bool:
        """Tell whether a line of a list of `source` with these words calls its subject bad.

        Verdicts of the source `form` apply too, as in `classes_of`.
        """
        words = _joined(text)
        for verdict in self.verdicts:
            if verdict.origin in self.origins and verdict.matches((source, form), words):
                return bool(verdict.result)
        return True

    def first(self, classes: list[str]) -> str | None:
        """Return the class that stands for several: the first by precedence."""
        return min(classes, key=self.precedence.index, default=None)

    def to_json(self) -> dict[str, Any]:
        """Return all that decides how words map, for a record's settings."""
        return {
            "classes": [[entry.name, sorted(entry.aliases.items())] for entry in self.table],
            "rules": [
                [rule.sources, rule.pattern.pattern, rule.result, rule.below, rule.at_least]
                for rule in (*self.rules, *self.verdicts)
                if rule.origin in self.origins
            ],
            "origins": self.origins,
        }

    @cached_property
    def _aliases(self) -> dict[str, str]:
        aliases = {fold(entry.name): entry.name for entry in self.table}
        for entry in self.table:
            for words, origin in entry.aliases.items():
                if origin in self.origins:
                    aliases[fold(words)] = entry.name
        return aliases


def fold(words: str) -> str:
    """Return `words` as they are compared: case and spaces at the ends do not matter."""
    return words.strip().casefold()


def _joined(words: str) -> str:
    return " ".join(words.split())


def _read_user_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NotFound(f"{path}: no such file") from None
    except UnicodeDecodeError:
        raise BadInput(f"{path}: not a vocabulary (it is not UTF-8)") from None
    except (OSError, ValueError, RecursionError) as error:  # not TOML, or too deep or long for it
        reason = getattr(error, "strerror", None) or error
        raise BadInput(f"{path}: not a vocabulary ({reason})") from error


def _build(documents: list[tuple[str, dict[str, Any]]]) -> Vocabulary:
    classes: dict[str, dict[str, Any]] = {}
    rules: list[Rule] = []
    verdicts: list[Rule] = []
    precedence: list[str] = []
    for where, document in documents:
        unknown = set(document) - {"class", "rule", "verdict", "precedence"}
        if unknown:
            raise NotFound(
                f"{where}: no such table: {', '.join(sorted(unknown))}; a vocabulary has "
                "[[class]], [[rule]], [[verdict]] and precedence"
            )
        for number, raw in enumerate(_tables(document, "class", where), 1):
            _merge_class(classes, raw, f"{where}, class {number}")
        rules += [
            _rule(raw, "class", f"{where}, rule {number}")
            for number, raw in enumerate(_tables(document, "rule", where), 1)
        ]
        verdicts[:0] = [
            _rule(raw, "bad", f"{where}, verdict {number}")
            for number, raw in enumerate(_tables(document, "verdict", where), 1)
        ]
        precedence = document.get("precedence", precedence)
        if not isinstance(precedence, list) or not all(isinstance(n, str) for n in precedence):
            raise BadInput(f"{where}: precedence is a list of names of classes")
    for rule in rules:
        if rule.result not in classes:
            raise BadInput(
                f"rule {rule.pattern.pattern!r}: no class {rule.result!r}; the classes are "
                f"{', '.join(classes)}"
            )
    # A class that a user adds and does not rank stands for little, but for more than good.
    ranked = [name for name in precedence if name in classes and name != "good"]
    ranked += [name for name in classes if name not in ranked and name != "good"]
    return Vocabulary(
        tuple(
            BadClass(number=number, name=name, **entry)
            for number, (name, entry) in enumerate(classes.items())
        ),
        tuple(rules),
        tuple(verdicts),
        (*ranked, "good"),
    )


def _tables(document: dict[str, Any], name: str, where: str) -> list[dict[str, Any]]:
    entries = document.get(name, [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise BadInput(f"{where}: {name} is a list of tables, each under [[{name}]]")
    return entries


def _merge_class(classes: dict[str, dict[str, Any]], raw: dict[str, Any], where: str) -> None:
    raw = dict(raw)
    name = raw.pop("name", None)
    if not isinstance(name, str) or not name.strip():
        raise BadInput(f"{where}: a class needs a name")
    entry = classes.setdefault(name, {"aliases": {}})
    for origin in _ORIGINS:
        words = raw.pop(origin, [])
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise BadInput(f"{where} ({name}): {origin} is a list of words")
        entry["aliases"] = {**entry["aliases"], **dict.fromkeys(words, origin)}
    kinds = {"meaning": (str,), "training": (bool,), "keep": (int, float), "weight": (int, float)}
    for key, value in raw.items():
        if key not in kinds:
            raise NotFound(
                f"{where} ({name}): no such entry {key!r}; a class has name, "
                f"{', '.join(_ORIGINS)}, {', '.join(kinds)}"
            )
        fits = isinstance(value, kinds[key])
        if key in ("keep", "weight"):
            fits = isinstance(value, int | float) and not isinstance(value, bool)
            fits = fits and 0 <= float(value) < math.inf
        if not fits:
            raise BadInput(f"{where} ({name}): {key} cannot be {shortened(repr(value))}")
        entry[key] = value


def _rule(raw: dict[str, Any], result: Literal["class", "bad"], where: str) -> Rule:
    for limit in ("below", "at_least"):
        if limit in raw and (
            isinstance(raw[limit], bool) or not isinstance(raw[limit], int | float)
        ):
            raise BadInput(f"{where}: {limit} is a number")
    known = {"sources", "pattern", "origin", "below", "at_least", result}
    if set(raw) - known:
        raise NotFound(f"{where}: no such entry: {', '.join(sorted(set(raw) - known))}")
    sources = raw.get("sources")
    if not isinstance(sources, list) or not all(isinstance(name, str) for name in sources):
        raise BadInput(f"{where}: sources is a list of sources, such as ['decals']")
    try:
        pattern = re.compile(raw["pattern"], re.IGNORECASE)
        rule = Rule(
            tuple(sources),
            pattern,
            raw[result],
            raw.get("origin", "project"),
            raw.get("below"),
            raw.get("at_least"),
        )
    except KeyError as error:
        raise BadInput(f"{where}: {error.args[0]} is missing") from None
    except (re.error, RecursionError, OverflowError) as error:
        shown = shortened(repr(raw.get("pattern")))
        raise BadInput(f"{where}: pattern {shown}: {error}") from None
    except TypeError:
        raise BadInput(f"{where}: pattern is a text, in quotes") from None
    if rule.origin not in _ORIGINS:
        raise BadInput(f"{where}: origin is {' or '.join(_ORIGINS)}")
    if not isinstance(rule.result, str if result == "class" else bool):
        raise BadInput(f"{where}: {result} cannot be {shortened(repr(rule.result))}")
    if (rule.below is not None or rule.at_least is not None) and pattern.groups != 1:
        raise BadInput(f"{where}: below and at_least need a pattern that captures one number")
    return rule
