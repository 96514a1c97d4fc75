"""What can be chosen in an explorer, as a plain dict, and what a change of it leads to.

The same keys as `choose` in static/explorer.js and tables.js. A change need not name them all: what it leaves
out stays, and so does the place of the picture when the new layer's map is larger or smaller.
"""

from collections.abc import Mapping, Sequence
from numbers import Integral

from aacn_lib.expect import expect

OWNER = "selection"
VIEWS = ("attention", "content", "position")


def first_selection(data: dict) -> dict:
    """Of the attention explorer: the middle of the first picture, in the first layer of the first network."""
    layer = data["models"][0]["layers"][0]
    row, column = (count // 2 for count in layer["size"])
    return {
        "picture": 0,
        "view": VIEWS[0],
        "row": row,
        "column": column,
        "layer": layer["name"],
        "head": "mean",
        "pinned": False,
        "panel": 0,
    }


def first_panels(data: dict) -> list[dict]:
    """The layer and head that each network starts with."""
    return [{"layer": model["layers"][0]["name"], "head": "mean"} for model in data["models"]]


def changed_selection(data: dict, pictures: int, panels: Sequence[Mapping], old: Mapping, wanted: object) -> dict:
    """Of the attention explorer: `old` with the changes `wanted`.

    Args:
        data: what the page shows.
        pictures: how many there are, with own ones.
        panels: {layer, head} that each network stands at; a change of the panel takes them.

    Raises:
        ValueError: for keys and values that the page does not have.
    """
    new = _merged(old, wanted)
    panel = new["panel"] = _place("panel", new["panel"], len(data["models"]))
    if panel != old["panel"]:
        new |= {key: panels[panel][key] for key in ("layer", "head") if key not in wanted}
    layers = {layer["name"]: layer for layer in data["models"][panel]["layers"]}
    known = isinstance(new["layer"], str) and new["layer"] in layers
    expect(known, OWNER, "layer", f"one of {list(layers)}", new["layer"])
    before = next(one for one in data["models"][old["panel"]]["layers"] if one["name"] == old["layer"])
    layer = layers[new["layer"]]

    for axis, key in enumerate(("row", "column")):
        count = layer["size"][axis]
        if key not in wanted:  # the same place of the picture
            new[key] = int((old[key] + 0.5) / before["size"][axis] * count)
        new[key] = _place(key, new[key], count)
    heads = layer["heads"]
    if "head" not in wanted and new["head"] != "mean" and new["head"] >= heads:
        new["head"] = "mean"
    if not (isinstance(new["head"], str) and new["head"] == "mean"):
        expect(not isinstance(new["head"], str), OWNER, "head", f"'mean' or 0 to {heads - 1}", new["head"])
        new["head"] = _place("head", new["head"], heads)
    new["picture"] = _place("picture", new["picture"], pictures)
    expect(isinstance(new["view"], str) and new["view"] in VIEWS, OWNER, "view", f"one of {list(VIEWS)}", new["view"])
    expect(isinstance(new["pinned"], bool), OWNER, "pinned", "True or False", new["pinned"])
    return new


def first_tables_selection(data: dict) -> dict:
    """Of the position explorer: the middle of the map, the first head."""
    row, column = (count // 2 for count in data["size"])
    return {"row": row, "column": column, "head": 0, "mean": False, "pinned": False}


def changed_tables_selection(data: dict, old: Mapping, wanted: object) -> dict:
    """Of the position explorer: `old` with the changes `wanted`.

    Raises:
        ValueError: for keys and values that the page does not have.
    """
    new = _merged(old, wanted)
    for key, count in zip(("row", "column", "head"), (*data["size"], data["heads"]), strict=True):
        new[key] = _place(key, new[key], count)
    for key in ("mean", "pinned"):
        expect(isinstance(new[key], bool), OWNER, key, "True or False", new[key])
    good = data["ownQueries"] or not new["mean"]
    expect(good, OWNER, "mean", "False, because every place asks with the query of the layer's bias", new["mean"])
    return new


def _merged(old: Mapping, wanted: object) -> dict:
    expect(isinstance(wanted, Mapping), OWNER, "value", f"a dict with keys of {list(old)}", wanted)
    unknown = [key for key in wanted if key not in old]
    expect(not unknown, OWNER, "keys", f"some of {list(old)}", unknown)
    return {**old, **wanted}


def _place(key: str, value: object, count: int) -> int:
    good = isinstance(value, Integral) and not isinstance(value, bool) and 0 <= value < count
    expect(good, OWNER, key, f"0 to {count - 1}", value)
    return int(value)
