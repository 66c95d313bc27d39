"""The card beside a bundled model: how it was made, hashes, and the figures measured on it."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any


def write_card(folder: Path, kind: str, options: dict[str, Any], training: dict[str, Any], commit: str) -> None:
    """Writes card.json: command, options, training figures, the commit it was begun at, machine, versions, file hashes.

    Paths among the options are written by their option's name: where a file lay is nobody's concern.
    """
    import torch
    import transformers

    card = {
        "kind": kind,
        "command": " ".join([f"python -m pipelines.train.{kind} FOLDER", *_words(options)]),
        "training": training,
        "commit": commit,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} thread(s), {options.get('device', 'cpu')}",
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        "sha256": {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.glob("*.safetensors"))},
        "figures": {},
    }
    (folder / "card.json").write_text(json.dumps(card, indent=2) + "\n")


def _words(options: dict[str, Any]) -> list[str]:
    """The options as they are written in a command: a switch bare, a list with blanks between."""
    out = []
    for key, value in options.items():
        if key == "folder" or value is None or value is False:
            continue
        values = (
            value if isinstance(value, list) else [] if value is True else [key.upper() if isinstance(value, Path) else value]
        )
        out.append(" ".join([f"--{key.replace('_', '-')}", *map(str, values)]))
    return out


def add_figures(folder: Path, figures: dict[str, Any]) -> None:
    """Merges measured figures into a folder's card."""
    path = folder / "card.json"
    card = json.loads(path.read_text())
    card["figures"].update(figures)
    path.write_text(json.dumps(card, indent=2) + "\n")


def commit_now() -> str:
    """The commit of this checkout, or why it is not known."""
    asked = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=Path(__file__).parent)
    return asked.stdout.strip() or f"unknown ({Path(sys.argv[0]).name})"
