"""The networks behind an attention explorer: what the page and the widget ask of them."""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from aacn_lib.data import normalise
from aacn_lib.expect import expect
from aacn_lib.explorer.data import LARGEST_ERROR, floats, largest_error, layer_data, png_address
from aacn_lib.layers import AAConv2d
from aacn_lib.models import LogitParts, SelfAttention, attention_layers, evaluation_mode, logit_parts

TOP = 5


class Networks:
    """One network or two, and how to look into them. They are left as they were.

    Args:
        models, mean, std, classes, layers: of `explore`.
        shape: (C, H, W), of the pictures that they get.
    """

    def __init__(
        self,
        models: nn.Module | Sequence[nn.Module] | Mapping[str, nn.Module],
        *,
        mean: Tensor,
        std: Tensor,
        classes: Sequence[str] | None,
        layers: str | Iterable[str] | Mapping[str, Iterable[str]] | None,
        shape: Sequence[int],
    ):
        self.named = named_networks(models)
        self.mean, self.std, self.classes, self.shape = mean, std, classes, tuple(shape)
        # Asked again for each picture: what can be read once only is kept.
        if isinstance(layers, Mapping):
            self._layers = {name: _kept(names) for name, names in layers.items()}
        else:
            self._layers = _kept(layers)

    def look(self, images: Tensor) -> tuple[list[dict[str, LogitParts]], list[list], int]:
        """What the networks give for uint8 (N, C, H, W).

        Returns:
            For each network {layer: its queries, keys and tables}; for each network and picture the TOP classes as
            [name, probability], best first; and the number of outputs of the first network.
        """
        seen, predictions = [], []
        for name, model in self.named.items():
            x = normalise(images.to(next(model.parameters()).device), self.mean, self.std)
            parts = _parts_of(name, model, x, self._layers)
            seen.append({layer: finite(layer, found) for layer, found in parts.items()})
            predictions.append(_predictions(name, model, x, self.classes))
        return seen, [found for found, _ in predictions], predictions[0][1]

    def one_more(self, data: dict, image: Tensor, label: int | None, name: str | None) -> dict:
        """A picture that joins those in `data`, what the page shows, with the layers and heads that are in it.

        Args:
            image: uint8 (C, H, W).
            label: its true class, if known.
            name: what the page calls it; None gives it its number.

        Returns:
            {picture, notes, models: [{prediction, maps: {layer: {q, k}}}]}.
        """
        seen, predictions, outputs = self.look(image[None])
        good = label is None or 0 <= label < outputs
        expect(good, "add_pictures", "labels", f"0 to {outputs - 1}", label)
        label = None if label is None else class_name(self.classes, label)
        models, notes = [], []
        for model, found, best in zip(data["models"], seen, predictions, strict=True):
            maps = {}
            for layer in model["layers"]:
                parts = found[layer["name"]]
                # The page has the tables of then: with other queries they would give maps of no network at all.
                same = [floats(parts.rel_h), floats(parts.rel_w)] == [layer["relH"], layer["relW"]]
                expect(same, model["name"], layer["name"], "the tables that explore() saw", "others: explore again")
                shown = layer_data(layer["name"], parts, 1, layer["heads"])
                maps[layer["name"]] = shown["maps"][0]
                notes += rounding_notes(parts, shown)
            models.append({"prediction": best[0], "maps": maps})
        return {
            "picture": {"source": png_address(image), "label": label, "name": name},
            "notes": notes,
            "models": models,
        }


def expect_pictures(owner: str, images: object) -> None:
    """Raise a `ValueError` unless `images` are what an explorer shows."""
    good = isinstance(images, Tensor) and images.ndim == 4 and images.dtype == torch.uint8
    good = good and images.shape[1] in (1, 3) and images.numel() > 0
    expect(good, owner, "images", "uint8 (N, C, H, W), N at least 1, C 1 or 3", shape_of(images))


def rounding_notes(parts: LogitParts, shown: dict) -> list[str]:
    """A sentence where 16 bits are too few for what is shown of a layer."""
    error = largest_error(parts, shown)
    if error <= LARGEST_ERROR:
        return []
    return [f"{shown['name']}: weights are off by up to {error:.1%} of their query's largest."]


def named_networks(models: nn.Module | Sequence[nn.Module] | Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    if isinstance(models, nn.Module):
        models = {type(models).__name__: models}
    elif not isinstance(models, Mapping):
        models = {f"network {number}": model for number, model in enumerate(models, start=1)}
    good = 1 <= len(models) <= 2 and all(isinstance(model, nn.Module) for model in models.values())
    expect(good, "explore", "models", "one network or two", [type(model).__name__ for model in models.values()])
    return {str(name): model for name, model in models.items()}


def _kept(layers: str | Iterable[str] | None) -> str | list[str] | None:
    return layers if layers is None or isinstance(layers, str) else list(layers)


def _parts_of(name: str, model: nn.Module, x: Tensor, layers) -> dict[str, LogitParts]:
    known = [n for n in attention_layers(model) if isinstance(model.get_submodule(n), AAConv2d | SelfAttention)]
    expect(bool(known), "explore", "models", "networks with AAConv2d or a vision transformer", name)
    if isinstance(layers, Mapping):
        expect(name in layers, "explore", "layers", f"an entry for {name!r}", list(layers))
        layers = layers[name]
    found = logit_parts(model, x, known if layers is None else layers)
    expect(bool(found), "explore", "layers", "at least one", layers)
    return found


def finite(name: str, parts: LogitParts) -> LogitParts:
    """The parts as float32 on the CPU."""
    parts = LogitParts(*(t.detach().float().cpu() if isinstance(t, Tensor) else t for t in parts))
    good = all(t.isfinite().all() for t in parts if isinstance(t, Tensor))
    expect(good, "explore", name, "finite queries, keys and tables", "infinite ones or NaN")
    return parts


@torch.no_grad()
def _predictions(name: str, model: nn.Module, x: Tensor, classes: Sequence[str] | None) -> tuple[list, int]:
    """The TOP classes of each picture as [name, probability], best first, and the number of outputs."""
    with evaluation_mode(model):
        logits = model(x)
    good = isinstance(logits, Tensor) and logits.ndim == 2 and bool(logits.isfinite().all())
    expect(good, "explore", name, "a network with finite outputs (N, K)", shape_of(logits))
    K = logits.shape[1]
    expect(classes is None or len(classes) == K, "explore", "classes", f"{K} names, one an output", classes)
    best = logits.float().softmax(dim=1).cpu().topk(min(TOP, K))
    rows = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return [[[class_name(classes, k), p] for k, p in zip(*row, strict=True)] for row in rows], K


def class_name(classes: Sequence[str] | None, number: int) -> str:
    return f"class {number}" if classes is None else str(classes[number])


def shape_of(x: object) -> str:
    return f"{x.dtype} {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
