"""What some rewards of the sample shop look like: still lifes of a few shapes, drawn when the shop is built."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import lru_cache

from PIL import Image, ImageDraw, ImageFilter

SIDE = 480
_SHARP = 1.5
"""The shapes stand on a ground of 640 by 640. It is drawn so many times larger than that and then made smaller, so that
edges have no steps."""
Shapes = Callable[[ImageDraw.ImageDraw], None]
Color = str


def _scaled(*numbers: float) -> list[float]:
    return [number * _SHARP for number in numbers]


def _tote_bag(draw: ImageDraw.ImageDraw) -> None:
    draw.arc(_scaled(240, 110, 400, 390), 180, 360, fill="#b08a5b", width=27)
    draw.polygon(_scaled(160, 240, 480, 240, 510, 540, 130, 540), fill="#f3e9d8")
    draw.polygon(_scaled(160, 240, 480, 240, 483, 268, 157, 268), fill="#e4d5bd")
    draw.ellipse(_scaled(250, 330, 390, 470), fill="#d9573f")
    draw.ellipse(_scaled(302, 382, 338, 418), fill="#f3e9d8")


def _gift(draw: ImageDraw.ImageDraw) -> None:
    draw.rectangle(_scaled(150, 290, 490, 530), fill="#3f7f8c")
    draw.rectangle(_scaled(130, 230, 510, 300), fill="#4c97a6")
    draw.rectangle(_scaled(130, 296, 510, 304), fill="#356d78")
    draw.rectangle(_scaled(290, 230, 350, 530), fill="#f6c85f")
    for left, right in ((200, 320), (320, 440)):
        draw.ellipse(_scaled(left, 140, right, 230), outline="#f6c85f", width=39)
    draw.rounded_rectangle(_scaled(292, 176, 348, 236), 21, fill="#e0b04a")


def _poster(draw: ImageDraw.ImageDraw) -> None:
    draw.rectangle(_scaled(180, 100, 460, 530), fill="#fbf7ef")
    draw.rectangle(_scaled(204, 124, 436, 440), fill="#22304a")
    draw.ellipse(_scaled(264, 160, 376, 272), fill="#f0a33f")
    draw.polygon(_scaled(204, 440, 204, 366, 290, 290, 352, 360, 392, 322, 436, 372, 436, 440), fill="#3d5a80")
    draw.polygon(_scaled(204, 440, 204, 410, 320, 372, 436, 418, 436, 440), fill="#98c1d9")
    draw.line(_scaled(330, 492, 346, 470, 356, 496, 372, 468, 382, 494, 398, 474, 428, 488), fill="#22304a", width=7)


def _coffee(draw: ImageDraw.ImageDraw) -> None:
    draw.ellipse(_scaled(110, 470, 530, 560), fill="#dfe6e3")
    draw.ellipse(_scaled(150, 476, 490, 540), fill="#c9d3cf")
    draw.ellipse(_scaled(400, 290, 520, 420), outline="#fdfdfb", width=39)
    draw.rounded_rectangle(_scaled(180, 250, 440, 520), 165, fill="#fdfdfb")
    draw.rectangle(_scaled(180, 250, 440, 350), fill="#fdfdfb")
    draw.ellipse(_scaled(180, 216, 440, 286), fill="#eef0ec")
    draw.ellipse(_scaled(200, 226, 420, 276), fill="#5a3a29")
    draw.ellipse(_scaled(250, 236, 350, 262), fill="#a9765a")


_DRAWN: dict[str, tuple[Shapes, Color, Color]] = {
    "Tote bag": (_tote_bag, "#cfe0d4", "#dfece2"),
    "Gift wrapping": (_gift, "#f3d9cf", "#f9e7e0"),
    "Signed poster": (_poster, "#d8d3e6", "#e6e2f0"),
    "A coffee next door": (_coffee, "#9db8ad", "#b2c9bf"),
}
"""Name of the reward → its shapes, the wall and the light on it."""

WORDS = {
    "Tote bag": "A cream cotton bag with a red disc printed on it",
    "Gift wrapping": "A blue box with a yellow ribbon and bow",
    "Signed poster": "A poster of a mountain lake at sunset, signed below",
    "A coffee next door": "A white cup of coffee on a saucer",
}


@lru_cache
def drawing(name: str) -> bytes:
    """The picture of that reward as a PNG file."""
    shapes, wall, light = _DRAWN[name]
    side = int(640 * _SHARP)
    ground = Image.new("RGB", (side, side), wall)
    ImageDraw.Draw(ground).ellipse(_scaled(40, 20, 600, 580), fill=light)
    shade = Image.new("RGBA", (side, side), (0, 0, 0, 0))
    ImageDraw.Draw(shade).ellipse(_scaled(120, 500, 520, 570), fill=(40, 40, 40, 90))
    shade = shade.resize((SIDE, SIDE)).filter(ImageFilter.GaussianBlur(10))
    shown = Image.new("RGBA", (side, side), (0, 0, 0, 0))
    shapes(ImageDraw.Draw(shown))
    small = ground.resize((SIDE, SIDE), Image.Resampling.LANCZOS).convert("RGBA")
    small.alpha_composite(shade)
    small.alpha_composite(shown.resize((SIDE, SIDE), Image.Resampling.LANCZOS))
    file = io.BytesIO()
    small.convert("RGB").save(file, "PNG")
    return file.getvalue()
