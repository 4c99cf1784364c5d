"""Smooth light over the focal plane: clouds, ghosts, flat-field errors, glows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from simulator.camera import CCDS, Camera, Ccd

Array = NDArray[np.float64]
Shape = Callable[[Array, Array], Array]

# Nodes of the grid, per CCD, on which light is computed before it is interpolated to pixels.
_NODES_X, _NODES_Y = 41, 81
# Pupil of the Blanco telescope with DECam: the prime-focus cage hides the middle.
OBSCURATION = 0.33


def _clouds(rng: np.random.Generator) -> Shape:
    """Random waves with a red spectrum, from the whole field down to half a CCD."""
    count = 36
    wavelength = np.exp(rng.uniform(np.log(0.15), np.log(2.0), count))
    angle = rng.uniform(0, 2 * np.pi, count)
    phase = rng.uniform(0, 2 * np.pi, count)
    ku = 2 * np.pi / wavelength * np.cos(angle)
    kv = 2 * np.pi / wavelength * np.sin(angle)

    def shape(u: Array, v: Array) -> Array:
        total = np.zeros_like(u)
        for index in range(count):
            total += wavelength[index] * np.cos(ku[index] * u + kv[index] * v + phase[index])
        return total

    return shape


def _disc(u: Array, v: Array, u0: float, v0: float, radius: float) -> Array:
    """A disc of height 1 with an edge softened over 0.008 of the field's radius."""
    return 1 / (1 + np.exp(np.clip((np.hypot(u - u0, v - v0) - radius) / 0.004, -60, 60)))


def _ghost(rng: np.random.Generator) -> Shape:
    """Pupil images of a bright star, on the line through star and optical axis, and an arc.

    Each is the out-of-focus image of the pupil: a disc with the shadow of the prime-focus cage,
    which moves off its middle as the light is vignetted (Kent 2013). Its surface brightness falls
    with its area.
    """
    r_star, angle = rng.uniform(0.15, 0.9), rng.uniform(0, 2 * np.pi)
    direction = np.array([np.cos(angle), np.sin(angle)])
    star = r_star * direction
    images = []
    for _ in range(int(rng.integers(2, 5))):
        radius = rng.uniform(0.12, 0.38)
        centre = star * rng.uniform(-0.6, 1.1)
        shadow = centre + direction * radius * rng.uniform(-0.3, 0.3)
        images.append((centre, shadow, radius, (0.15 / radius) ** 2 * rng.uniform(0.7, 1.3)))
    arc_radius, arc_angle = r_star + rng.uniform(0.1, 0.3), angle + rng.uniform(-0.5, 0.5)

    def shape(u: Array, v: Array) -> Array:
        total = np.zeros_like(u)
        for centre, shadow, radius, height in images:
            total += height * (
                _disc(u, v, centre[0], centre[1], radius)
                - _disc(u, v, shadow[0], shadow[1], radius * OBSCURATION)
            )
        away = np.angle(np.exp(1j * (np.arctan2(v, u) - arc_angle)))
        across = (np.hypot(u, v) - arc_radius) / 0.03
        return total + 0.8 * np.exp(-(across**2) / 2 - (away / 0.35) ** 2 / 2)

    return shape


def _wrong_flat(rng: np.random.Generator) -> Shape:
    """What a flat field of another night leaves: rings about the axis, shadows of dust."""
    period, phase = rng.uniform(0.06, 0.12), rng.uniform(0, 2 * np.pi)
    dust = rng.uniform(-1, 1, (60, 2))
    size = rng.uniform(0.02, 0.05, 60)

    def shape(u: Array, v: Array) -> Array:
        total = np.cos(2 * np.pi * np.hypot(u, v) / period + phase)
        for (u0, v0), radius in zip(dust, size, strict=True):
            if np.hypot(u.mean() - u0, v.mean() - v0) < 0.3:
                total -= 1.5 * (_disc(u, v, u0, v0, radius) - _disc(u, v, u0, v0, radius / 2))
        return total

    return shape


def _mesh(rng: np.random.Generator) -> Shape:
    """A sky model whose mesh was not smoothed: a patchwork of cells, each with its own level."""
    cell = rng.uniform(0.04, 0.07)
    levels = rng.standard_normal((101, 101))

    def shape(u: Array, v: Array) -> Array:
        row = np.clip(np.floor(u / cell).astype(int) + 50, 0, 100)
        column = np.clip(np.floor(v / cell).astype(int) + 50, 0, 100)
        return levels[row, column]

    return shape


def _flat_response(rng: np.random.Generator) -> Shape:
    """The circular pattern that a strong twilight sky leaves after a dark-sky flat field."""
    tilt = rng.uniform(0, 2 * np.pi)

    def shape(u: Array, v: Array) -> Array:
        radius2 = u**2 + v**2
        return radius2 - 0.5 + 0.3 * (u * np.cos(tilt) + v * np.sin(tilt))

    return shape


_SHAPES: dict[str, Callable[[np.random.Generator], Shape]] = {
    "clouds": _clouds,
    "ghost": _ghost,
    "wrong_flat": _wrong_flat,
    "mesh": _mesh,
    "flat_response": _flat_response,
}


@dataclass(frozen=True)
class Pattern:
    """Light of a named shape: ``mean + amplitude * shape(u, v)`` in ADU.

    ``kind`` is one of clouds, ghost, wrong_flat, mesh, flat_response, or glow: a round glow at
    ``centre`` (focal-plane radii) with an rms width of ``width``. It falls on ``ccdnums`` alone
    where they are given.
    """

    kind: str
    seed: int
    amplitude: float = 1.0
    mean: float = 0.0
    ccdnums: tuple[int, ...] | None = None
    centre: tuple[float, float] = (0.0, 0.0)
    width: float = 0.05

    def evaluate(self, ccd: Ccd, u: Array, v: Array) -> Array:
        """Light [ADU] at focal-plane positions that lie on a CCD."""
        if self.ccdnums is not None and ccd.num not in self.ccdnums:
            return np.zeros_like(u)
        return self.mean + self.amplitude * self._shape()(u, v)

    def _shape(self) -> Shape:
        if self.kind == "glow":
            u0, v0 = self.centre
            return lambda u, v: np.exp(-((u - u0) ** 2 + (v - v0) ** 2) / (2 * self.width**2))
        return _SHAPES[self.kind](np.random.default_rng(self.seed))

    def rms_inside(self, camera: Camera, ccd: Ccd) -> float:
        """Rms [ADU] of the light inside one CCD, about its mean there."""
        u, v = grid(camera, ccd)
        return float(self.evaluate(ccd, u, v).std())

    def scaled(self, camera: Camera, rms: float, ccds: Iterable[Ccd] = CCDS) -> Pattern:
        """The same pattern with a given rms [ADU] inside the CCDs (their quadratic mean)."""
        squares = [self.rms_inside(camera, ccd) ** 2 for ccd in ccds]
        factor = rms / float(np.sqrt(np.mean(squares)))
        return replace(self, amplitude=self.amplitude * factor, mean=self.mean * factor)


def grid(camera: Camera, ccd: Ccd) -> tuple[Array, Array]:
    """Focal-plane positions of a CCD's grid nodes, two arrays of shape (81, 41)."""
    x, y = np.meshgrid(np.linspace(1, camera.nx, _NODES_X), np.linspace(1, camera.ny, _NODES_Y))
    return camera.focal_plane(ccd, x, y)


def _weights(pixels: int, nodes: int) -> NDArray[np.float32]:
    """Matrix (pixels, nodes) of linear interpolation."""
    place = np.linspace(0, nodes - 1, pixels)
    left = np.minimum(place.astype(int), nodes - 2)
    matrix = np.zeros((pixels, nodes), dtype=np.float32)
    rows = np.arange(pixels)
    matrix[rows, left] = 1 - (place - left)
    matrix[rows, left + 1] = place - left
    return matrix


def to_pixels(camera: Camera, nodes: Array) -> NDArray[np.float32]:
    """Interpolate light on a CCD's grid nodes to its pixels, shape (ny, nx)."""
    across = _weights(camera.nx, _NODES_X)
    along = _weights(camera.ny, _NODES_Y)
    return along @ nodes.astype(np.float32) @ across.T
