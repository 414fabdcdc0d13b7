"""Names, colours and steps."""

from __future__ import annotations

import numpy as np

from eigenforget.report.figures import style


def test_long_names_keep_both_their_ends() -> None:
    assert [style.shown(n, 7) for n in ("seven_7", "eight_88", "<" * 9)] == [
        "seven_7",
        "eig…_88",
        "<<<…<<<",
    ]


def test_steps_and_colours_double() -> None:
    limits_of_steps = {
        0.0: 0,
        1.0: 0,
        1.0 + 1e-12: 0,
        1.01: 1,
        2.0: 1,
        2.01: 2,
        4.01: 3,
        8.0: 3,
        8.01: 4,
        1e9: 4,
    }
    for units, wanted in limits_of_steps.items():
        assert style.band_step(units) == wanted and style.band_step(-units) == -wanted
    shades = [style.band_colour(u) for u in (-9, -5, -3, -1.5, 0, 1.5, 3, 5, 9)]
    assert shades == [*reversed(style.BELOW), style.INSIDE, *style.ABOVE] and len(set(shades)) == 9

    def luminance(colour: str) -> float:
        parts = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        return float(
            np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
            @ (0.2126, 0.7152, 0.0722)
        )

    # WCAG's 4.5 to 1 for the numbers in the cells.
    assert all((luminance(shade) + 0.05) / (luminance("#111111") + 0.05) >= 4.5 for shade in shades)
