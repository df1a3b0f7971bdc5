"""Small ICC profiles, written by hand from public figures."""

from __future__ import annotations

import struct

ADOBE = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
"""XYZ of Adobe RGB (1998)'s primaries, adapted to D50."""
P3 = ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407))
"""Those of Display P3."""
SRGB = ((0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141))
"""Those of sRGB, rounded as makers do."""
_SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)


def _profile(space: bytes, kind: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    offset, table, body = 132 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for name, data in tags.items():
        padded = data + b"\0" * (-len(data) % 4)
        table += name + struct.pack(">II", offset + len(body), len(data))
        body += padded
    header = struct.pack(">I4xI4s4s4s12x4s", 132 + 12 * len(tags) + len(body), 0x02400000, kind, space,
                         connection, b"acsp")  # fmt: skip
    white = struct.pack(">3i", *(round(v * 65536) for v in (0.9642, 1.0, 0.8249)))
    return (header.ljust(68, b"\0") + white).ljust(128, b"\0") + table + body


def _xyz(values: tuple[float, float, float]) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(v * 65536) for v in values))


def _gamma(value: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(value * 256))


def _srgb_curve() -> bytes:
    return b"para\0\0\0\0" + struct.pack(">HH5i", 3, 0, *(round(v * 65536) for v in _SRGB_CURVE))


def rgb_profile(primaries: tuple[tuple[float, float, float], ...], gamma: float | None = None) -> bytes:
    """A display of these primaries (columns XYZ); gamma None is sRGB's curve."""
    curve = _srgb_curve() if gamma is None else _gamma(gamma)
    tags = {b"wtpt": _xyz((0.9642, 1.0, 0.8249))}
    for name, primary in zip((b"r", b"g", b"b"), primaries, strict=True):
        tags |= {name + b"XYZ": _xyz(primary), name + b"TRC": curve}
    return _profile(b"RGB ", b"mntr", b"XYZ ", tags)


def grey_profile(gamma: float) -> bytes:
    """A grey display."""
    return _profile(b"GRAY", b"mntr", b"XYZ ", {b"wtpt": _xyz((0.9642, 1.0, 0.8249)), b"kTRC": _gamma(gamma)})


def cmyk_profile() -> bytes:
    """A press whose inks are all grey: paper is L* 100, one full ink 50, more than one 0."""
    ramp = bytes(range(256))
    light = [(100, 50)[inks] if inks < 2 else 0 for inks in (bin(corner).count("1") for corner in range(16))]
    table = b"".join(bytes((round(level * 2.55), 128, 128)) for level in light)
    matrix = struct.pack(">9i", *(65536 if k % 4 == 0 else 0 for k in range(9)))
    lut = b"mft1\0\0\0\0" + bytes((4, 3, 2, 0)) + matrix + ramp * 4 + table + ramp * 3
    return _profile(b"CMYK", b"prtr", b"Lab ", {b"wtpt": _xyz((0.9642, 1.0, 0.8249)), b"A2B0": lut})
