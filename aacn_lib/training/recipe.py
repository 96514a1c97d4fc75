"""Recipes: a training run as data, in a TOML file of `assets/recipes` or anywhere."""

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path

from aacn_lib.expect import did_you_mean, is_count
from aacn_lib.training.settings import Training

FOLDER = Path(__file__).parents[1] / "assets" / "recipes"


@dataclass(frozen=True)
class Recipe:
    """One training run.

    Attributes:
        name: the file's name without ending.
        about: one sentence on what the run is for.
        model: a name of `list_models()`.
        data: a name that `load_dataset` knows.
        model_options: overrides for `create_model`.
        training: how it is trained; `training.seed` also seeds the weights.
        image_size: for `folder:PATH` only, the side in pixels that its pictures are brought to; 0 for other data.
        seeds: those that the course wants a record of.
        rank: of these records among those that are missing; 1 is wanted first.
    """

    name: str
    about: str
    model: str
    data: str
    model_options: dict = field(default_factory=dict)
    training: Training = field(default_factory=Training)
    image_size: int = 0
    seeds: tuple[int, ...] = (0,)
    rank: int = 9


def list_recipes() -> list[str]:
    """Names of the recipes that come with the library."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load_recipe(name: str | Path, changes: Iterable[str] = ()) -> Recipe:
    """Read a recipe.

    Args:
        name: one of `list_recipes()`, or the path of a `.toml` file.
        changes: lines such as `training.epochs=2`, values written as in TOML (a bare word is a string).

    Raises:
        ValueError: for an unknown recipe, an unknown key (the nearest is named) or a wrong value.
    """
    path = Path(name) if str(name).endswith(".toml") else FOLDER / f"{name}.toml"
    if not path.is_file():
        hint = did_you_mean(str(name), list_recipes()) or "; `aacn recipes` lists them"
        raise ValueError(f"recipe: expected the name of a recipe or a .toml file, got {str(name)!r}{hint}")
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: expected a TOML file, {error}") from error
    for change in changes:
        apply_change(table, change)
    _check_keys(table, Recipe, "", leave_out={"name"}, required={"about", "model", "data"})
    training = table.pop("training", {})
    _check_keys(training, Training, "training.")
    seeds = table.pop("seeds", [0])
    if not isinstance(seeds, list) or not seeds or not all(is_count(seed, 0) for seed in seeds):
        raise ValueError(f"recipe: seeds: expected a list of whole numbers of at least 0, got {seeds!r}")
    for key, floor in (("rank", 1), ("image_size", 0)):
        if not is_count(table.get(key, floor), floor):
            raise ValueError(f"recipe: {key}: expected a whole number of at least {floor}, got {table[key]!r}")
    return Recipe(name=path.stem, training=Training(**training), seeds=tuple(seeds), **table)


def apply_change(table: dict, change: str) -> None:
    """Change a nested table in place by a line such as `training.epochs=2`.

    Raises:
        ValueError: for a line without a key or an equals sign, and for a key below a value.
    """
    key, equals, text = change.partition("=")
    if not equals or not key.strip():
        raise ValueError(f"expected KEY=VALUE, got {change!r}")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    *parents, last = key.strip().split(".")
    for parent in parents:
        table = table.setdefault(parent, {})
        if not isinstance(table, dict):
            raise ValueError(f"{change!r}: {parent!r} is a value, not a table")
    table[last] = value


def _check_keys(
    table: object, cls: type, prefix: str, leave_out: set = frozenset(), required: set = frozenset()
) -> None:
    if not isinstance(table, dict):
        raise ValueError(f"recipe: {prefix.rstrip('.')}: expected a table, got {table!r}")
    known = {f.name: f.type for f in fields(cls) if f.name not in leave_out}
    for key in table:
        if key not in known:
            paths = [prefix + name for name in known]
            if not prefix:  # a setting written without its table: learning_rate=0.1
                paths += [f"training.{f.name}" for f in fields(Training)]
            exact = [path for path in paths if path.endswith(f".{key}")]
            hint = f"; did you mean {exact[0]!r}?" if exact else did_you_mean(prefix + key, paths, 1)
            raise ValueError(f"recipe: unknown key {prefix}{key}{hint or f'; expected one of {sorted(known)}'}")
    for key in sorted(required - table.keys()):
        raise ValueError(f"recipe: {prefix}{key} is missing")
    for key, value in table.items():
        if known[key] is str and not isinstance(value, str):
            raise ValueError(f"recipe: {prefix}{key}: expected text, got {value!r}")
        if known[key] is dict and not isinstance(value, dict):
            raise ValueError(f"recipe: {prefix}{key}: expected a table, got {value!r}")
