"""Colors of topics by their place on the map: neighbors have related hues, and differ in lightness.

A reader tells topics apart by their names and places; the colors hold them together. Of nearby topics the colors differ
for every type of color vision as far as the brightness that the background allows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from skytells_nb.plots.theme import Theme

LIGHTNESS: dict[Theme | None, tuple[float, ...]] = {
    "light": (0.58, 0.46, 0.68),
    "print": (0.52, 0.40, 0.64),
    "dark": (0.74, 0.62, 0.84),
    None: (0.60, 0.55, 0.65),
}
"""Lightness (OKLab) of the colors by background; where that is not known it is one that both allow."""
TEXT_LIGHTNESS: dict[Theme | None, float] = {"light": 0.42, "print": 0.36, "dark": 0.86, None: 0.58}
CHROMA = 0.145
NEAR = 4
# Machado, Oliveira and Fernandes (2009), A Physiologically-based Model for Simulation of Color Vision Deficiency.
VISION = np.array(
    [
        np.eye(3),
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
    ]
)
# Ottosson (2020), A perceptual color space for image processing.
_LAB_TO_LMS = np.array(
    [
        [1.0, 0.3963377774, 0.2158037573],
        [1.0, -0.1055613458, -0.0638541728],
        [1.0, -0.0894841775, -1.2914855480],
    ]
)
_LMS_TO_RGB = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)


def place_colors(centers: Any, sizes: Any, theme: Theme | None) -> list[tuple[str, str]]:
    """Return two colors as ``#rrggbb`` for each center (k, 2), for points and for text.

    The hue is the direction from the middle of the map.

    >>> [points for points, text in place_colors(np.array([[1.0, 0.0], [-1.0, 0.0]]), [1, 1], "light")]
    ['#c15152', '#06adb6']
    """
    centers = np.asarray(centers, dtype=np.float64).reshape(-1, 2)
    if not len(centers):
        return []
    spread = np.maximum(np.ptp(centers, axis=0), 1e-9)
    places = (centers - centers.mean(axis=0)) / spread
    angles = np.arctan2(places[:, 1], places[:, 0]) % (2 * np.pi)
    # Half by angle and half by rank: topics on one side of the map still differ.
    ranks = np.argsort(np.argsort(angles, kind="stable"), kind="stable") * (2 * np.pi / len(centers))
    start = angles.min()
    hues = start + ((angles - start) + ranks) / 2 + np.deg2rad(25) if len(centers) > 2 else angles + np.deg2rad(22)
    colors = [("", "")] * len(centers)
    shades: dict[int, NDArray[np.float64]] = {}
    for topic in np.argsort(-np.asarray(sizes), kind="stable").tolist():
        distances = np.linalg.norm(places - places[topic], axis=1)
        near = [other for other in np.argsort(distances, kind="stable").tolist() if other in shades][:NEAR]
        candidates = [_to_srgb(lightness, float(hues[topic])) for lightness in LIGHTNESS[theme]]
        seen = [_seen_lab(candidate) for candidate in candidates]
        differences = [
            min((float(np.linalg.norm(shade - shades[other], axis=1).min()) for other in near), default=1.0)
            for shade in seen
        ]
        best = int(np.argmax(differences))
        shades[topic] = seen[best]
        colors[topic] = (_hex(candidates[best]), _hex(_to_srgb(TEXT_LIGHTNESS[theme], float(hues[topic]))))
    return colors


def _hex(srgb: NDArray[np.float64]) -> str:
    return "#" + bytes(np.rint(255 * srgb).astype(int).tolist()).hex()


def text_color(color: str, theme: Theme | None) -> str:
    """A color of the hue of ``#rrggbb`` in which text can be read on the background.

    >>> text_color("#E69F00", "light")
    '#674606'
    """
    srgb = np.array(list(bytes.fromhex(color[1:]))) / 255
    _, green, blue = _seen_lab(srgb)[0]
    if np.hypot(green, blue) < 0.02:
        return {"dark": "#dddddd", None: "#7a7a7a"}.get(theme, "#333333")
    return _hex(_to_srgb(TEXT_LIGHTNESS[theme], float(np.arctan2(blue, green))))


def _to_srgb(lightness: float, hue: float) -> NDArray[np.float64]:
    """The color of a lightness and a hue in OKLCh, with as much chroma as the screen has."""
    chroma = CHROMA
    while True:
        lms = (_LAB_TO_LMS @ [lightness, chroma * np.cos(hue), chroma * np.sin(hue)]) ** 3
        rgb = _LMS_TO_RGB @ lms
        if chroma < 0.01 or ((rgb >= -1e-4) & (rgb <= 1 + 1e-4)).all():
            rgb = rgb.clip(0, 1)
            srgb: NDArray[np.float64] = np.where(rgb <= 0.0031308, 12.92 * rgb, 1.055 * rgb ** (1 / 2.4) - 0.055)
            return srgb
        chroma -= 0.005


def _seen_lab(srgb: NDArray[np.float64]) -> NDArray[np.float64]:
    """The color (4, 3) in OKLab as each type of color vision sees it."""
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    lms = np.clip(VISION @ linear, 0, 1) @ np.linalg.inv(_LMS_TO_RGB).T
    lab: NDArray[np.float64] = np.cbrt(lms) @ np.linalg.inv(_LAB_TO_LMS).T
    return lab
