"""What the base model sees of a picture is what a real Chromium shows."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Page, sync_playwright
from test_bad_input_pictures import (
    animated,
    half_seen,
    palette,
    quartered,
    swapped_profile,
    turned,
    with_profile,
    written,
)

from illume_plugin.images import open_picture

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
#: Draws a picture on white and reads it back as PNG: exactly what is on screen.
SHOW = """async url => {
  const image = new Image(); image.src = url; await image.decode();
  const canvas = document.createElement('canvas');
  canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;
  const pen = canvas.getContext('2d');
  pen.fillStyle = 'white'; pen.fillRect(0, 0, canvas.width, canvas.height); pen.drawImage(image, 0, 0);
  return canvas.toDataURL('image/png');
}"""
FILES = {
    **{
        f"{kind} turned {turn}": turned(kind, turn)
        for kind in ("JPEG", "PNG", "WEBP")
        for turn in range(1, 9)
    },
    **{f"{kind} with a profile": with_profile(swapped_profile(), kind) for kind in ("JPEG", "PNG", "WEBP")},
    "broken profile": with_profile(b"no profile at all"),
    "CMYK": written(Image.new("CMYK", (16, 16), (0, 200, 255, 20)), "JPEG", quality=100),
    "16 bits": written(Image.new("I;16", (16, 16), 30000), "PNG"),
    "palette": palette(),
    "RGBA": half_seen("RGBA"),
    "LA": half_seen("LA"),
    "half seen": written(Image.new("RGBA", (16, 16), (255, 0, 0, 128)), "PNG"),
    "GIF": written(quartered("P"), "GIF"),
    "animated GIF": animated("GIF"),
}


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    if not Path(CHROMIUM).is_file():
        pytest.fail(f"Chromium is not installed at {CHROMIUM}: install it, or name it in CHROMIUM")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--disable-gpu", "--no-sandbox"])
        yield browser.new_page()
        browser.close()


@pytest.mark.parametrize("name", FILES)
def test_the_same_pixels(page: Page, tmp_path: Path, name: str) -> None:
    (tmp_path / "picture").write_bytes(FILES[name])
    with Image.open(tmp_path / "picture") as header:
        kind = (header.format or "").lower()
    url = f"data:image/{kind};base64,{base64.b64encode(FILES[name]).decode()}"
    shown = Image.open(io.BytesIO(base64.b64decode(page.evaluate(SHOW, url).partition(",")[2]))).convert(
        "RGB"
    )
    ours = open_picture(tmp_path / "picture")
    assert ours.size == shown.size
    pairs = zip(ours.tobytes(), shown.tobytes(), strict=True)
    assert max(abs(a - b) for a, b in pairs) <= 8, "decoders of JPEG differ a little"
