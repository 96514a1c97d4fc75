"""Write the parts of README.md that come from elsewhere: results from run records, the picture from lesson 04.

`python scripts/write_readme.py` rewrites what stands between `<!-- NAME begin -->` and `<!-- NAME end -->`. A test
fails while README.md and the records differ.
"""

import base64
import json
import re
import sys
from pathlib import Path

from aacn_lib.training import list_records, read_record
from aacn_lib.whole_file import whole_file

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
PICTURE = ROOT / "notebooks" / "img" / "attention.png"
PICTURE_SOURCE = ROOT / "notebooks" / "04_relative_positions.ipynb"


def results_table() -> str:
    """One row a recipe: mean accuracy over its seeds, what it cost, and where it was run."""
    runs: dict[str, list[dict]] = {}
    for entry in list_records():
        name, seed = entry.rsplit("/seed", 1)
        runs.setdefault(name, []).append(read_record(name, int(seed)))
    rows = [
        "| recipe | data | parameters | epochs | accuracy | seeds | s an epoch | machine |",
        "|---|---|--:|--:|--:|--:|--:|---|",
    ]
    for name, records in runs.items():
        first = records[0]
        done = min(record["epochs_done"] for record in records)
        planned = first["recipe"]["training"]["epochs"]
        machine = first["machine"]
        place = f"{machine['name']}, {machine['threads']} thread{'s' if machine['threads'] > 1 else ''}"
        rows.append(
            f"| `{name}` | {first['recipe']['data']} | {first['parameters']:,} "
            f"| {done if done == planned else f'{done} of {planned}'} | {_accuracy(records)} | {len(records)} "
            f"| {sum(record['seconds_per_epoch'] for record in records) / len(records):.0f} | {place} |"
        )
    return "\n".join(rows)


def _accuracy(records: list[dict]) -> str:
    """Test accuracy of finished runs; of an unfinished one the last validation accuracy, said so."""
    if not all(record["complete"] for record in records):
        shares = [record["epochs"][-1]["validation_accuracy"] for record in records]
        return f"{_percent(shares)} (validation, unfinished)"
    if len(records) > 1:
        return f"{_percent([record['test']['accuracy'] for record in records])} (test)"
    low, high = records[0]["test"]["interval_95"]
    return f"{records[0]['test']['accuracy']:.2%} ({low:.2%}–{high:.2%}) (test)"


def _percent(shares: list[float]) -> str:
    text = f"{sum(shares) / len(shares):.2%}"
    return text if len(shares) == 1 else f"{text} ({min(shares):.2%}–{max(shares):.2%})"


def picture() -> bytes:
    """The PNG of the cell tagged `readme` in lesson 04."""
    notebook = json.loads(PICTURE_SOURCE.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        if "readme" in cell["metadata"].get("tags", []):
            for output in cell["outputs"]:
                if "image/png" in output.get("data", {}):
                    return base64.b64decode(output["data"]["image/png"])
    raise ValueError(f"{PICTURE_SOURCE.name}: expected a cell tagged 'readme' with a picture in its outputs")


def fill(text: str, parts: dict[str, str]) -> str:
    """`text` with each marked part replaced."""
    for name, content in parts.items():
        marked = re.compile(rf"(<!-- {name} begin -->\n).*?(\n?<!-- {name} end -->)", re.DOTALL)
        if not marked.search(text):
            raise ValueError(f"README.md: expected the markers <!-- {name} begin --> and <!-- {name} end -->")
        text = marked.sub(lambda found, content=content: found[1] + content + "\n" + found[2].lstrip("\n"), text)
    return text


def main() -> int:
    _replace(PICTURE, picture())
    _replace(README, fill(README.read_text(encoding="utf-8"), {"results": results_table()}).encode())
    return 0


def _replace(path: Path, content: bytes) -> None:
    with whole_file(path) as file:
        file.write(content)


if __name__ == "__main__":
    sys.exit(main())
