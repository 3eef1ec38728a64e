"""Outlines of the world's shapes, as polygons inside the unit circle."""

import numpy as np


def _arc(start: float, stop: float, points: int, radius: float = 1.0) -> list[tuple[float, float]]:
    angles = np.radians(np.linspace(start, stop, points))
    return [(radius * float(np.cos(a)), radius * float(np.sin(a))) for a in angles]


def _regular(corners: int) -> list[tuple[float, float]]:
    return _arc(-90.0, 270.0, corners + 1)[:-1]


def _star() -> list[tuple[float, float]]:
    outer, inner = _regular(5), [(0.42 * x, 0.42 * y) for x, y in _arc(-54.0, 306.0, 6)[:-1]]
    return [point for pair in zip(outer, inner, strict=True) for point in pair]


def _heart() -> list[tuple[float, float]]:
    t = np.linspace(0.0, 2.0 * np.pi, 29)[:-1]
    x = 16.0 * np.sin(t) ** 3
    y = -(13.0 * np.cos(t) - 5.0 * np.cos(2 * t) - 2.0 * np.cos(3 * t) - np.cos(4 * t))
    return [(float(a) / 17.0, float(b) / 17.0) for a, b in zip(x, y, strict=True)]


def _crescent() -> list[tuple[float, float]]:
    inner = [(0.45 + 0.78 * x, 0.78 * y) for x, y in _arc(250.0, 110.0, 12)]
    return _arc(55.0, 305.0, 18) + inner


_ARM = 0.32

UNIT_OUTLINES: dict[str, np.ndarray] = {
    name: np.asarray(points, dtype=np.float64)
    for name, points in {
        "circle": _arc(0.0, 360.0, 25)[:-1],
        "square": [(-0.75, -0.75), (0.75, -0.75), (0.75, 0.75), (-0.75, 0.75)],
        "triangle": _regular(3),
        "rectangle": [(-0.92, -0.46), (0.92, -0.46), (0.92, 0.46), (-0.92, 0.46)],
        "oval": [(x, 0.55 * y) for x, y in _arc(0.0, 360.0, 25)[:-1]],
        "diamond": [(0.0, -1.0), (0.66, 0.0), (0.0, 1.0), (-0.66, 0.0)],
        "star": _star(),
        "cross": [
            (-_ARM, -1), (_ARM, -1), (_ARM, -_ARM), (1, -_ARM), (1, _ARM), (_ARM, _ARM),
            (_ARM, 1), (-_ARM, 1), (-_ARM, _ARM), (-1, _ARM), (-1, -_ARM), (-_ARM, -_ARM),
        ],
        "pentagon": _regular(5),
        "heart": _heart(),
        "hexagon": _regular(6),
        "arrow": [
            (-1.0, -0.28), (0.1, -0.28), (0.1, -0.75), (1.0, 0.0), (0.1, 0.75), (0.1, 0.28),
            (-1.0, 0.28),
        ],
        "trapezoid": [(-0.45, -0.6), (0.45, -0.6), (0.98, 0.6), (-0.98, 0.6)],
        "crescent": _crescent(),
        "semicircle": [(x, y + 0.4) for x, y in _arc(180.0, 360.0, 16)],
        "chevron": [(-0.8, -0.9), (0.1, -0.9), (0.9, 0.0), (0.1, 0.9), (-0.8, 0.9), (0.0, 0.0)],
        "bolt": [(0.2, -1.0), (-0.65, 0.15), (-0.05, 0.15), (-0.3, 1.0), (0.65, -0.2), (0.1, -0.2)],
        "kite": [(0.0, -0.75), (0.6, -0.3), (0.0, 1.0), (-0.6, -0.3)],
    }.items()
}  # fmt: skip


def outline(shape: str, x: float, y: float, radius: float, angle: float) -> np.ndarray:
    """Places a shape's outline in the image.

    Args:
        shape: A key of `UNIT_OUTLINES`.
        x: Horizontal centre in pixels, to the right.
        y: Vertical centre in pixels, downwards.
        radius: Radius of the circumscribed circle in pixels.
        angle: Clockwise rotation in radians.

    Returns:
        The polygon's corners [P, 2] in pixels, float64.
    """
    cos, sin = np.cos(angle), np.sin(angle)
    rotation = np.array([[cos, sin], [-sin, cos]])
    return UNIT_OUTLINES[shape] @ rotation * radius + (x, y)
