"""KMA's forecast grid: cells of 5 km in a Lambert conformal conic projection.

Source: the sample program in the service's guide, https://www.data.go.kr/data/15084084/openapi.do. Its numbers
define the grid.
"""

from __future__ import annotations

from math import cos, floor, log, pi, radians, sin, tan

__all__ = ["COLUMNS", "ROWS", "cell"]

COLUMNS, ROWS = 149, 253
_EARTH_KM = 6371.00877
_CELL_KM = 5.0
_PARALLEL_1, _PARALLEL_2 = radians(30.0), radians(60.0)
_ORIGIN_LATITUDE, _ORIGIN_LONGITUDE = radians(38.0), radians(126.0)
_ORIGIN_X, _ORIGIN_Y = 43, 136


def _colatitude(latitude: float) -> float:
    return tan(pi * 0.25 + latitude * 0.5)


_CONE = log(cos(_PARALLEL_1) / cos(_PARALLEL_2)) / log(_colatitude(_PARALLEL_2) / _colatitude(_PARALLEL_1))
_SCALE = (_colatitude(_PARALLEL_1) ** _CONE) * cos(_PARALLEL_1) / _CONE * _EARTH_KM / _CELL_KM
_ORIGIN_RADIUS = _SCALE / _colatitude(_ORIGIN_LATITUDE) ** _CONE


def cell(latitude: float, longitude: float) -> tuple[int, int] | None:
    """Return ``nx`` and ``ny`` of a place given in degrees; ``None`` outside the grid."""
    # Far from Korea, the projection has no value or a meaningless one.
    if not (20 < latitude < 60 and 110 < longitude < 145):
        return None
    radius = _SCALE / _colatitude(radians(latitude)) ** _CONE
    angle = (radians(longitude) - _ORIGIN_LONGITUDE) * _CONE
    nx = floor(radius * sin(angle) + _ORIGIN_X + 0.5)
    ny = floor(_ORIGIN_RADIUS - radius * cos(angle) + _ORIGIN_Y + 0.5)
    return (nx, ny) if 1 <= nx <= COLUMNS and 1 <= ny <= ROWS else None
