"""Build wheel and sdist into dist/ and try the wheel as somebody else's installation: `python scripts/make_dist.py`.

The wheel is installed into an empty environment and used from another folder: a layer, a trained network that ships, a
recipe of seconds, an explorer. So a file that the wheel lacks is missed here and not by a reader.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DIST = ROOT / "dist"

TRIAL = """
import torch, aacn_lib
from pathlib import Path
assert "site-packages" in aacn_lib.__file__, aacn_lib.__file__
layer = aacn_lib.AAConv2d(3, 16, 3, depth_k=8, depth_v=8, num_heads=2, feature_size=8)
assert layer(torch.randn(2, 3, 8, 8)).shape == (2, 16, 8, 8)
trained = aacn_lib.load_pretrained("compass_aa_cnn", "cpu")
data = aacn_lib.load_dataset(trained.data)
accuracy = aacn_lib.evaluate(trained.model, data.validation, data.mean, data.std).accuracy
assert accuracy > 0.99, accuracy
images, labels = data.validation.images[:2], data.validation.labels[:2]
explorer = aacn_lib.explore(trained.model, images, labels=labels, classes=data.classes, mean=data.mean, std=data.std)
page = explorer.save("explorer.html")
assert "aacn-explorer" in page.read_text(encoding="utf-8")
print(f"a layer, a trained network ({accuracy:.2%} on validation), an explorer ({explorer.size_bytes / 1e6:.2f} MB)")
"""
COMMANDS = (
    ["train", "compass_plain_cnn", "--set", "training.epochs=1", "--set", "training.train_subset=640"],
    ["eval", "runs/compass_plain_cnn/seed0"],
    ["recipes"],
    ["records"],
)


def main() -> int:
    shutil.rmtree(DIST, ignore_errors=True)
    run(sys.executable, "-m", "build", "--outdir", DIST, ROOT, stdout=subprocess.DEVNULL)
    (wheel,), (sdist,) = DIST.glob("*.whl"), DIST.glob("*.tar.gz")
    for file in (wheel, sdist):
        print(f"{file.relative_to(ROOT)}: {file.stat().st_size / 1e6:.1f} MB")
    with tempfile.TemporaryDirectory() as folder:
        venv.create(Path(folder) / "venv", with_pip=True)
        scripts = Path(folder) / "venv" / ("Scripts" if os.name == "nt" else "bin")
        run(scripts / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check", wheel)
        run(scripts / "python", "-c", TRIAL, cwd=folder)
        for command in COMMANDS:
            print(f"aacn {' '.join(command)}", flush=True)
            run(scripts / "aacn", *command, cwd=folder, stdout=subprocess.DEVNULL)
    print("the wheel works in an empty environment")
    return 0


def run(*command, **options) -> None:
    # The environment of a surrounding one would lend the wheel what it lacks.
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    subprocess.run([str(word) for word in command], check=True, env=plain, **options)


if __name__ == "__main__":
    sys.exit(main())
