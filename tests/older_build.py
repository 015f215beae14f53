"""An older build of ours to measure against: exported from the repository, imported by processes of its own."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
OLDER = "ee6ce03"


def exported(folder: Path) -> Path | None:
    """Return the folder with the older build; None where the repository has no history."""
    archive = subprocess.run(["git", "-C", ROOT, "archive", OLDER], capture_output=True, check=False)
    if archive.returncode:
        print(f"{OLDER} is not in this clone, so it is left out")
        return None
    subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
    return folder
