"""Draw the pictures of three pages again: run their code, and keep the files that it writes.

    python docs/draw_plots.py

The two pictures of the report are screenshots; where Chromium is installed,
`.ci/browser-report --keep FOLDER` takes them.
"""

import os
import re
import shutil
import tempfile
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
PAGES = {"plots.md": "plots", "symmetric-points.md": "", "curvature.md": ""}


def main():
    for name, target in PAGES.items():
        draw(FOLDER / name, FOLDER / "images" / target)


def draw(page, target):
    """Run the Python of a page in an empty folder, and copy the pictures from there."""
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        names = {}
        for block in re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL):
            exec(compile(block, page.name, "exec"), names)
        for picture in sorted(Path(folder).glob("*.png")):
            shutil.copy(picture, target)
            print(f"{picture.name}: {picture.stat().st_size / 1000:.0f} kB")
        os.chdir(FOLDER)


if __name__ == "__main__":
    main()
