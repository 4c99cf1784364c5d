"""The picture in the place of an image that cannot be drawn: it says why.

A browser shows it whatever the status of the answer, where text would leave a broken-image sign.
"""

from __future__ import annotations

import textwrap
from html import escape

#: Type of the picture: text stays text, and is sharp at the size of a thumbnail.
MEDIA_TYPE = "image/svg+xml"
#: Size of the picture in pixels: the shape of a thumbnail.
_WIDTH, _HEIGHT = 320, 286
_MARGIN = 12
_HEADING = 34
#: Sizes that the reason is set in: the largest that it fits in, else the last, cut short.
_SIZES = (28, 24, 20, 17, 14)
#: Width of a character and height of a line, as parts of the size of the type.
_ACROSS, _DOWN = 0.62, 1.25


def draw_notice(reason: str) -> bytes:
    """Return a picture that says that there is no image, and why, as SVG."""
    size, lines = _fit(_printable(reason))
    top = _MARGIN + _HEADING + 10
    spans = "".join(
        f'<tspan x="{_MARGIN}" y="{top + (place + 1) * _DOWN * size:.0f}">{escape(line)}</tspan>'
        for place, line in enumerate(lines)
    )
    # Attributes alone: the page's security policy lets no style stand in a picture.
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" '
        f'viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="system-ui, sans-serif">'
        f"<title>no image: {escape(_printable(reason))}</title>"
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#06080b"/>'
        f'<text x="{_MARGIN}" y="{_MARGIN + _HEADING}" font-size="{_HEADING}" font-weight="600" '
        f'fill="#e2795b">no image</text>'
        f'<text font-size="{size}" fill="#d6dde6">{spans}</text></svg>'
    ).encode()


def _fit(reason: str) -> tuple[int, list[str]]:
    """Return the size of the type and the lines of a reason."""
    for size in _SIZES:
        across = int((_WIDTH - 2 * _MARGIN) / (_ACROSS * size))
        down = int((_HEIGHT - 2 * _MARGIN - _HEADING - 10) / (_DOWN * size))
        lines = textwrap.wrap(reason, across)
        if len(lines) <= down:
            break
    return size, lines[:down]


def _printable(text: str) -> str:
    """Return text without what XML cannot hold: file names may hold anything."""
    return "".join(c if c.isprintable() else "\ufffd" for c in " ".join(text.split()))
