"""Other people's programs, by which tests read back what was written; where one is missing they are skipped."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from html import escape, unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

_TYPES = {".avif": "image/avif", ".jpg": "image/jpeg", ".jxl": "image/jxl"}
_SECONDS = 120


def program(*names: str) -> str:
    """Path of the first of these programs that is installed."""
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"{' or '.join(names)} is not installed")
    return found


def said(*command: object) -> str:
    """Standard output of a program, which must succeed."""
    finished = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=_SECONDS, check=False
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def exiftool(path: Path) -> dict[str, Any]:
    """Metadata by the names of ExifTool's groups and tags, numbers as numbers."""
    found = json.loads(said(program("exiftool"), "-json", "-G1", "-n", path))
    return dict(found[0])


def openimageio(path: Path) -> NDArray[np.float32]:
    """Pixels (H, W, 3), values as they are in the file."""
    back = path.with_name(f"{path.name}.back.tif")
    said(program("oiiotool"), path, "-d", "float", "-o", back)
    pixels: NDArray[np.float32] = tifffile.imread(back)
    return pixels


def imagemagick(path: Path, height: int, width: int) -> NDArray[np.uint16]:
    """Pixels (H, W, 3) in 16 bits."""
    convert = program("magick", "convert")
    version = subprocess.run([convert, "-version"], capture_output=True, timeout=_SECONDS, check=False)
    if version.returncode != 0 or b"ImageMagick" not in version.stdout:  # other programs have the second name, too
        pytest.skip(f"{convert} is not ImageMagick")
    finished = subprocess.run(
        [convert, str(path), "-depth", "16", "-endian", "LSB", "rgb:-"],
        capture_output=True,
        timeout=_SECONDS,
        check=True,
    )
    return np.frombuffer(finished.stdout, "<u2").reshape(height, width, 3)


def browser(page: Path, *options: str) -> str:
    """The page's elements after it was loaded, as Chromium without a window writes them."""
    # Its sandbox wants more than containers give.
    words = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={page.parent / 'profile'}", *options]
    return said(program("chromium", "chromium-browser", "google-chrome"), *words, "--dump-dom", page.as_uri())


def asked_in_browser(page: str, question: str, folder: Path, width: int = 1200) -> Any:
    """What a page says in a window of that width, once it is loaded; it must run without an error.

    ``question`` is the body of a JavaScript function of ``window`` and ``document``.
    """
    watched = page.replace("<head>", "<head><script>window.errors = []; onerror = (e) => errors.push(e);</script>", 1)
    assert watched != page
    outer = folder / "outer.html"
    outer.write_text(
        f"""<!DOCTYPE html><meta charset="utf-8">
        <iframe style="width: {width}px; height: 900px; border: 0" srcdoc="{escape(watched)}"></iframe>
        <script>
          const frame = document.querySelector("iframe");
          frame.addEventListener("load", () => {{
            const ask = (window, document) => {{ {question} }};
            const told = [frame.contentWindow.errors, ask(frame.contentWindow, frame.contentDocument)];
            document.body.dataset.told = JSON.stringify(told);
            frame.remove();
          }});
        </script>""",
        encoding="utf-8",
    )
    told = re.search(r'data-told="([^"]*)"', browser(outer))
    assert told is not None
    errors, answer = json.loads(unescape(told[1]))
    assert errors == []
    return answer


LAYOUT = """
    const box = (element) => element.getBoundingClientRect();
    const shown = [...document.images].filter((image) => box(image).height > 0);
    return {
      beyond: document.documentElement.scrollWidth - document.documentElement.clientWidth,
      broken: [...document.images].filter((image) => !image.naturalWidth).map((image) => image.alt),
      shown: shown.map((image) => image.alt),
      squeezed: [...document.querySelectorAll("td:first-child")].map(box).filter((cell) => cell.width < 80).length,
    };
"""
"""A question: pixels by which the page is too wide, images that are broken, those that are seen, cells too narrow."""


def light_in_browser(path: Path, headroom: float) -> NDArray[np.float32]:
    """Light (H, W, 3) that Chromium makes of a picture for a display with so many stops above white, which is 1."""
    source = f"data:{_TYPES[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode()}"
    page = path.with_name(f"{path.name}.html")
    # The picture's own event comes before that of the page, after which Chromium writes the page.
    page.write_text(
        f"""<!DOCTYPE html><meta charset="utf-8"><script>
        function read(picture) {{
          const canvas = document.createElement("canvas");
          [canvas.width, canvas.height] = [picture.naturalWidth, picture.naturalHeight];
          let told = "cannot";
          if (canvas.configureHighDynamicRange) {{
            canvas.configureHighDynamicRange({{ mode: "extended" }});
            const context = canvas.getContext("2d",
              {{ colorSpace: "srgb-linear", colorType: "float16", toneMapping: {{ mode: "extended" }} }});
            context.globalHDRHeadroom = {headroom};
            context.drawImage(picture, 0, 0);
            const area = [0, 0, canvas.width, canvas.height];
            const pixels = context.getImageData(...area, {{ pixelFormat: "rgba-float16" }}).data;
            told = JSON.stringify([canvas.height, canvas.width, Array.from(pixels)]);
          }}
          document.body.dataset.told = told;
          picture.remove();
        }}</script><body><img src="{source}" onload="read(this)" onerror="document.body.dataset.told = 'cannot'">""",
        encoding="utf-8",
    )
    told = re.search(r'data-told="([^"]*)"', browser(page, "--enable-experimental-web-platform-features"))
    assert told is not None
    if told[1] == "cannot":
        pytest.skip(f"this Chromium does not draw {path.suffix} as HDR")
    height, width, values = json.loads(unescape(told[1]))
    return np.array(values, np.float32).reshape(height, width, 4)[..., :3]
