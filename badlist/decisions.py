"""The numbers by which single CCDs are called bad: `decisions.toml`, for votes and lists alike."""

from __future__ import annotations

import tomllib
from importlib.resources import files

_NUMBERS = tomllib.loads(files("badlist").joinpath("decisions.toml").read_text(encoding="utf-8"))

#: Least probability of being bad at which a CCD confirms that its exposure has bad ones.
CONFIRMS = float(_NUMBERS["confirms"])
#: Classes that strike at least this share of an exposure's CCDs make it bad as a whole.
WHOLE = float(_NUMBERS["whole"])
