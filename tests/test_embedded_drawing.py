import pytest
from PIL import ImageChops

from illume_plugin.embedded.drawing import BACKGROUND, COLORS, RADII, blank, draw
from illume_plugin.embedded.scene import PLACES, VALUES, Attribute, Scene, Thing

CENTRES = {place: (40 + 80 * (place % 3), 40 + 80 * (place // 3)) for place in range(len(PLACES))}


@pytest.mark.parametrize("px", [24, 72, 241, 720])
def test_a_picture_is_square_rgb_and_the_same_every_time(px: int) -> None:
    scene = Scene((Thing(0, "large", "red", "circle", 3.0, -4.0), Thing(5, "small", "blue", "triangle")))
    picture = draw(scene, px)
    assert (picture.size, picture.mode) == ((px, px), "RGB")
    assert picture.tobytes() == draw(scene, px).tobytes()


@pytest.mark.parametrize("place", range(len(PLACES)))
def test_a_thing_stands_in_its_place_and_nowhere_else(place: int) -> None:
    picture = draw(Scene((Thing(place, "large", "green", "circle"),)), 240)
    seen = {p: picture.getpixel(centre) for p, centre in CENTRES.items()}
    assert seen == {p: COLORS["green"] if p == place else BACKGROUND for p in CENTRES}


@pytest.mark.parametrize("color", VALUES[Attribute.COLOR])
@pytest.mark.parametrize("shape", VALUES[Attribute.SHAPE])
@pytest.mark.parametrize("size", VALUES[Attribute.SIZE])
def test_a_thing_has_its_color_and_its_size(size: str, color: str, shape: str) -> None:
    picture = draw(Scene((Thing(4, size, color, shape, 9.0, -9.0),)), 240)
    assert picture.getpixel((129, 111)) == COLORS[color]
    left, _, right, _ = ImageChops.difference(picture, blank(240)).getbbox() or (0, 0, 0, 0)
    narrower = 0.9 if shape == "square" else 1.0
    assert right - left == pytest.approx(2 * narrower * RADII[size], abs=3)
    assert (left + right) / 2 == pytest.approx(129, abs=1.5)


def test_shapes_look_different() -> None:
    pictures = {
        draw(Scene((Thing(4, "small", "red", shape),)), 72).tobytes() for shape in VALUES[Attribute.SHAPE]
    }
    assert len(pictures) == 3


def test_a_larger_picture_is_the_same_picture() -> None:
    scene = Scene((Thing(0, "large", "red", "triangle"), Thing(8, "small", "yellow", "square", -9.0, 9.0)))
    shrunk = draw(scene, 720).resize((72, 72))
    difference = ImageChops.difference(shrunk, draw(scene, 240).resize((72, 72)))
    assert max(difference.tobytes()) <= 16  # of 255: edges fall on other pixels


def test_a_blank_picture_shows_no_thing() -> None:
    assert {blank(240).getpixel(centre) for centre in CENTRES.values()} == {BACKGROUND}
