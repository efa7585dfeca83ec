"""The quick versions of the experiments."""

import json
import time
from pathlib import Path
from typing import NamedTuple

from click.testing import CliRunner, Result

from papers.__main__ import main


class Quick(NamedTuple):
    """What the command has printed, its folder, and the seconds of processor time."""

    outcome: Result
    folder: Path
    seconds: float

    def document(self):
        """Return the content of the file."""
        assert self.outcome.exit_code == 0, self.outcome.output
        (file,) = self.folder.glob("*.json")
        return json.loads(file.read_text())


def run_quick(name, folder):
    began = time.process_time()
    outcome = CliRunner().invoke(main, [name, "--out", str(folder), "--quick"])
    return Quick(outcome, folder, time.process_time() - began)
