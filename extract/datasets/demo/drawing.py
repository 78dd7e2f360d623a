"""Draw the scenes of the demo data set: a few coloured, textured shapes in front of a landscape. No files.

Lengths and positions are fractions of the picture's side; x runs right, y runs down. Angles are radians.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

COLOURS = {
    "red": (0.86, 0.07, 0.09), "orange": (1.00, 0.50, 0.02), "yellow": (0.99, 0.87, 0.06), "green": (0.05, 0.66, 0.17),
    "blue": (0.06, 0.24, 0.92), "purple": (0.48, 0.09, 0.72), "pink": (1.00, 0.42, 0.70),
}  # fmt: skip
# range of the radius; gaps keep the words apart
SIZES = {"small": (0.085, 0.105), "medium": (0.145, 0.175), "large": (0.23, 0.28)}


@dataclass(frozen=True)
class Light:
    """Colours (red, green, blue in 0..1) of sky and clouds, tints of ground and things; haze 0..1 at the horizon."""

    top: tuple[float, float, float]
    horizon: tuple[float, float, float]
    cloud: tuple[float, float, float]
    ground: tuple[float, float, float]
    thing: tuple[float, float, float]
    haze: float


LIGHTS = {
    "day": Light(
        top=(0.25, 0.50, 0.80), horizon=(0.74, 0.86, 0.94), cloud=(0.97, 0.98, 1.00),
        ground=(1.00, 1.00, 1.00), thing=(1.00, 1.00, 1.00), haze=0.25,
    ),
    "sunset": Light(
        top=(0.30, 0.24, 0.46), horizon=(0.99, 0.60, 0.30), cloud=(0.90, 0.45, 0.38),
        ground=(0.86, 0.58, 0.46), thing=(1.00, 0.92, 0.84), haze=0.4,
    ),
    "night": Light(
        top=(0.02, 0.03, 0.10), horizon=(0.09, 0.13, 0.27), cloud=(0.11, 0.14, 0.24),
        ground=(0.20, 0.25, 0.38), thing=(0.80, 0.82, 0.90), haze=0.3,
    ),
    "misty": Light(
        top=(0.70, 0.73, 0.75), horizon=(0.85, 0.86, 0.86), cloud=(0.90, 0.90, 0.90),
        ground=(0.92, 0.94, 0.96), thing=(0.97, 0.97, 0.97), haze=0.85,
    ),
}  # fmt: skip
# colour of the ground nearby and far away, height of the hills on the horizon
PLACES = {
    "sky": ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0), 0.0),
    "grass": ((0.24, 0.37, 0.10), (0.42, 0.50, 0.24), 0.05),
    "sea": ((0.04, 0.24, 0.36), (0.22, 0.48, 0.58), 0.0),
    "sand": ((0.80, 0.66, 0.44), (0.88, 0.78, 0.58), 0.04),
    "snow": ((0.92, 0.95, 0.99), (0.80, 0.87, 0.95), 0.10),
}


@dataclass(frozen=True)
class Thing:
    """One object: the words that describe it, its centre, its circumscribed radius and its angle."""

    shape: str
    colour: str
    texture: str
    size: str
    x: float
    y: float
    radius: float
    angle: float


@dataclass(frozen=True)
class Scene:
    """What a picture shows: a place, its light and the things in front, drawn in order."""

    place: str
    light: str
    things: tuple[Thing, ...]


def draw_scene(scene: Scene, side: int, rng: np.random.Generator) -> np.ndarray:
    """Draw a scene as (side, side, 3) uint8 RGB; `rng` decides what labels do not name (clouds, grain, exposure)."""
    canvas = _background(scene.place, scene.light, side, rng)
    for thing in scene.things:
        _paint(canvas, thing, LIGHTS[scene.light], rng)
    across = np.linspace(-1, 1, side, dtype=np.float32) ** 2
    canvas *= (1 - 0.10 * (across[:, None] + across[None, :]))[..., None]
    canvas *= np.float32(rng.uniform(0.92, 1.06)) * rng.uniform(0.98, 1.02, 3).astype(np.float32)
    pixels = (np.clip(canvas, 0, 1) * 255).astype(np.uint8)
    picture = Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(side / 224 * rng.uniform(0.3, 0.7)))
    grain = rng.standard_normal((side, side, 1), dtype=np.float32) * np.float32(rng.uniform(1.0, 3.0))
    return np.clip(np.asarray(picture, np.float32) + grain, 0, 255).astype(np.uint8)


def _mix(a: np.ndarray, b: np.ndarray, share: np.ndarray | float) -> np.ndarray:
    mixed: np.ndarray = a + (b - a) * share
    return mixed


def _noise(rng: np.random.Generator, side: int, cells: tuple[int, int], octaves: int) -> np.ndarray:
    """Return fractal noise (side, side) float32, mean 0, deviation 1; `cells` (down, across) of the coarsest octave."""
    total = np.zeros((side, side), np.float32)
    for octave in range(octaves):
        shape = (min(cells[0] << octave, side), min(cells[1] << octave, side))
        grid = Image.fromarray(rng.standard_normal((shape[0] + 1, shape[1] + 1), dtype=np.float32))
        total += np.asarray(grid.resize((side, side), Image.Resampling.BICUBIC)) * np.float32(0.55**octave)
    standard: np.ndarray = (total - total.mean()) / (total.std() + np.float32(1e-6))
    return standard


def _background(place: str, light_name: str, side: int, rng: np.random.Generator) -> np.ndarray:
    """Paint sky, clouds and ground, (side, side, 3) float32 in 0..1."""
    light = LIGHTS[light_name]
    near, far, hills = PLACES[place]
    horizon = 1.15 if place == "sky" else rng.uniform(0.34, 0.50)
    down = ((np.arange(side, dtype=np.float32) + 0.5) / side)[:, None]
    top, low, cloud = (np.array(c, np.float32) * rng.uniform(0.94, 1.06, 3).astype(np.float32)
                       for c in (light.top, light.horizon, light.cloud))  # fmt: skip
    sky = _mix(top, low, (np.clip(down / horizon, 0, 1) ** 1.3)[..., None]) + np.zeros((side, side, 1), np.float32)
    cover = np.clip(_noise(rng, side, (5, 2), 5) * 0.5 - rng.uniform(-0.1, 0.5), 0, 0.85)
    sky = _mix(sky, cloud, cover[..., None])
    if light_name == "night":
        stars = rng.random((side, side), dtype=np.float32) > 0.9985
        sky += (stars * (1 - cover))[..., None] * np.float32(0.6)
    if place == "sky":
        return sky
    skyline = horizon - hills * 0.5 * np.abs(_noise(rng, side, (1, 3), 3)[0])
    depth = np.clip((down - skyline) / (1 - skyline), 0, 1)
    ground = _mix(np.array(far, np.float32), np.array(near, np.float32), (depth**0.6)[..., None])
    ground = ground * (1 + _relief(place, depth, side, rng))[..., None] * np.array(light.ground, np.float32)
    ground = _mix(ground, low, (light.haze * (1 - depth) ** 3)[..., None])
    edge = np.clip((down - skyline) * side / 1.5 + 0.5, 0, 1)[..., None]
    return _mix(sky, ground, edge).astype(np.float32)


def _relief(place: str, depth: np.ndarray, side: int, rng: np.random.Generator) -> np.ndarray:
    """Return the brightness of the ground (side, side): waves, blades, ripples or drifts, finer near the horizon."""
    cells, octaves, amount = {"sea": ((16, 3), 3, 0.17), "grass": ((7, 12), 5, 0.16), "sand": ((6, 2), 4, 0.07),
                              "snow": ((4, 2), 3, 0.05)}[place]  # fmt: skip
    flat = _noise(rng, side, cells, octaves)
    # perspective: rows near the horizon are taken from a narrower strip of noise
    source = np.minimum((depth.mean(axis=1) ** 0.5 * side).astype(int), side - 1)
    relief: np.ndarray = flat[source] * amount
    if place == "sea":
        relief += np.clip(relief - 0.22, 0, 1) * 3
    return relief


def _regular(points: int, inner: float = 0.0) -> np.ndarray:
    """Return the corners (n, 2) of a regular polygon, or of a star of inner radius `inner`; the first is on top."""
    turns = np.arange(points * (2 if inner else 1)) * (np.pi / points * (1 if inner else 2))
    radii = np.where(np.arange(len(turns)) % 2 == 0, 1.0, inner or 1.0)
    return np.stack([np.sin(turns) * radii, -np.cos(turns) * radii], 1)


def _crescent() -> np.ndarray:
    # a disc bitten by a smaller one; the angles and lengths make their outlines meet at the tips
    outer = np.linspace(0.75, 2 * np.pi - 0.75, 30)
    inner = np.linspace(2 * np.pi - 1.11, 1.11, 24)[1:-1]
    disc = 0.95 * np.stack([np.cos(outer), np.sin(outer)], 1)
    bite = 0.7234 * np.stack([np.cos(inner), np.sin(inner)], 1) + np.array([0.3734, 0])
    outline: np.ndarray = np.concatenate([disc, bite]) + np.array([0.12, 0])
    return outline


def _heart() -> np.ndarray:
    t = np.linspace(0, 2 * np.pi, 36, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([x / 17, -(y + 2.5) / 17], 1)


_ARM = 0.33
POLYGONS = {
    "square": 0.80 * np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)], float),
    "triangle": _regular(3) + np.array([0, 0.15]),
    "star": _regular(5, 0.42),
    "heart": _heart(),
    "crescent": _crescent(),
    "cross": 0.92 * np.array([(-_ARM, -1), (_ARM, -1), (_ARM, -_ARM), (1, -_ARM), (1, _ARM), (_ARM, _ARM), (_ARM, 1),
                              (-_ARM, 1), (-_ARM, _ARM), (-1, _ARM), (-1, -_ARM), (-_ARM, -_ARM)], float),
}  # fmt: skip


def _distance(thing: Thing, columns: np.ndarray, rows: np.ndarray, side: int) -> tuple[np.ndarray, ...]:
    """Return the signed distance to the outline in pixels (negative inside), and coordinates u, v in radii."""
    dx, dy = (columns - thing.x * side), (rows - thing.y * side)
    cos, sin = np.float32(np.cos(thing.angle)), np.float32(np.sin(thing.angle))
    scale = np.float32(thing.radius * side)
    u, v = (dx * cos + dy * sin) / scale, (dy * cos - dx * sin) / scale
    if thing.shape in POLYGONS:
        return _polygon(POLYGONS[thing.shape].astype(np.float32), u, v) * scale, u, v
    away = np.hypot(u, v)
    distance = away - 0.90 if thing.shape == "circle" else np.abs(away - 0.70) - 0.22
    return distance * scale, u, v


def _polygon(corners: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Return the signed distance from (u, v) to a closed polygon, negative inside (even-odd rule)."""
    nearest, within = np.full(u.shape, np.inf, np.float32), np.zeros(u.shape, bool)
    for (ax, ay), (bx, by) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        ex, ey = bx - ax, by - ay
        along = np.clip(((u - ax) * ex + (v - ay) * ey) / (ex * ex + ey * ey), 0, 1)
        nearest = np.minimum(nearest, (u - ax - ex * along) ** 2 + (v - ay - ey * along) ** 2)
        if ay != by:
            within ^= ((ay > v) != (by > v)) & (u < (v - ay) * (ex / ey) + ax)
    return np.sqrt(nearest) * np.where(within, -1, 1).astype(np.float32)


def _pattern(texture: str, u: np.ndarray, v: np.ndarray, radius: float) -> np.ndarray:
    """Return the share 0..1 of the second colour at (u, v), both in pixels; edges are blurred over a pixel."""
    period = 0.22 * radius + 6
    if texture == "plain":
        return np.zeros_like(u)
    if texture == "dotted":
        du, dv = (u / period + 0.5) % 1 - 0.5, (v / period + 0.5) % 1 - 0.5
        return np.clip(0.5 + (0.30 - np.hypot(du, dv)) * period, 0, 1)
    wave = np.sin(2 * np.pi / period * u)
    if texture == "checkered":
        wave = wave * np.sin(2 * np.pi / period * v)
    return np.clip(0.5 + wave * period / (2 * np.pi), 0, 1)


def _paint(canvas: np.ndarray, thing: Thing, light: Light, rng: np.random.Generator) -> None:
    """Paint a thing and its soft shadow onto the canvas (side, side, 3) float32, in place."""
    side, radius = len(canvas), thing.radius * len(canvas)
    reach, drop = radius * 1.35 + 3, radius * 0.16 + 1.5
    left, right = (int(np.clip(thing.x * side + d, 0, side)) for d in (-reach, reach + 1))
    upper, lower = (int(np.clip(thing.y * side + d, 0, side)) for d in (-reach, reach + 1))
    across, down = np.arange(left, right, dtype=np.float32) + 0.5, np.arange(upper, lower, dtype=np.float32) + 0.5
    columns, rows = np.meshgrid(across, down)
    view = canvas[upper:lower, left:right]

    shade, _, _ = _distance(thing, columns - drop * 0.7, rows - drop, side)
    view *= (1 - 0.45 * np.clip(0.5 - shade / (1.6 * drop), 0, 1))[..., None]

    distance, u, v = _distance(thing, columns, rows, side)
    base = np.array(COLOURS[thing.colour], np.float32) * rng.uniform(0.92, 1.06, 3).astype(np.float32)
    second = _mix(base, np.ones(3, np.float32), 0.82) if rng.random() < 0.7 else base * np.float32(0.28)
    colour = _mix(base, second, _pattern(thing.texture, u * radius, v * radius, radius)[..., None])
    # lit from the upper left: a slow fall over the whole thing, and a bevel along its outline
    slope_down, slope_right = np.gradient(distance)
    bevel = np.clip(1 + distance / (0.16 * radius + 1), 0, 1) * (slope_down * 0.8 + slope_right * 0.6)
    fall = ((columns - thing.x * side) * 0.6 + (rows - thing.y * side) * 0.8) / radius
    colour = colour * (1.0 - 0.14 * fall - 0.22 * bevel)[..., None] * np.array(light.thing, np.float32)
    cover = np.clip(0.5 - distance, 0, 1)[..., None]
    view[...] = _mix(view, colour.astype(np.float32), cover)
