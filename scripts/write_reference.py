"""Write docs/options.md and options/semanir_plugin.schema.json anew, of what the options' declarations say."""

from __future__ import annotations

import json
from pathlib import Path

from bootstrap import run_in_venv

ROOT = Path(__file__).resolve().parents[1]
HEAD = """\
# Options

Every option that an option file may give, as declared where it is read; made by `python3 scripts/write_reference.py`.
`~` (null) stands for the default, and whole numbers may be written as `!!float 5e3`, but for those of networks and
losses. Several problems are told at once, each with its file and line. Keys that nothing reads are errors for classes
of this package, and warnings for those of BasicSR and of users, which ignore them.

Editors with a YAML language server complete and check option files by `options/semanir_plugin.schema.json`, which a
file names in its first line:

```yaml
# yaml-language-server: $schema=semanir_plugin.schema.json
```

BasicSR's own networks, datasets and metrics, and torch's optimisers and schedulers, take the arguments of their
constructors: `basicsr list` has them with their defaults.
"""


def make_reference() -> dict[Path, str]:
    """Return the content of each file."""
    from semanir_plugin.basicsr_host.engine.reference import format_part, run_parts, run_schema
    from semanir_plugin.evaluation.leaderboard.reference import board_parts, board_schema

    parts = [format_part(part) for part in (*run_parts(), *board_parts())]
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Option file of semanir_plugin",
        "if": {"required": ["test_sets"]},
        "then": board_schema(),
        "else": run_schema(),
    }
    return {
        ROOT / "docs" / "options.md": "\n".join([HEAD, *parts]),
        ROOT / "options" / "semanir_plugin.schema.json": json.dumps(schema, indent=1) + "\n",
    }


if __name__ == "__main__":
    run_in_venv()
    for path, text in make_reference().items():
        path.write_text(text, encoding="utf-8")
