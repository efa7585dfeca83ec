"""Draw the pictures of plots.md again: run its code, and keep the files that it writes.

    python docs/draw_plots.py

The two pictures of the report are screenshots; where Chromium is installed,
`.ci/browser-report --keep FOLDER` takes them.
"""

import os
import re
import shutil
import tempfile
from pathlib import Path

PAGE = Path(__file__).with_name("plots.md")


def main():
    text = PAGE.read_text(encoding="utf-8")
    target = PAGE.parent / "images" / "plots"
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        names = {}
        for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
            exec(compile(block, PAGE.name, "exec"), names)
        for picture in sorted(Path(folder).glob("*.png")):
            shutil.copy(picture, target)
            print(f"{picture.name}: {picture.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
