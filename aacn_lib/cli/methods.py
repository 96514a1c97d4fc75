"""How commands predict: one pass, or one of the methods of `evaluation.predict`, fitted on validation pictures."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from aacn_lib import evaluation
from aacn_lib.cli.networks import chunks, own_data
from aacn_lib.weights import Trained

Predictor = Callable[[Tensor], tuple[Tensor, float]]  # pictures (N, C, H, W) → probabilities (N, K), passes a picture


def predict_all(pictures: Iterator[Tensor], predictor: Predictor) -> tuple[Tensor, float]:
    """Probabilities (N, K) of all pictures, and the mean number of passes."""
    rows, passes = [], 0.0
    for images in pictures:
        probabilities, cost = predictor(images)
        rows.append(probabilities)
        passes += cost * len(images)
    probabilities = torch.cat(rows)
    return probabilities, passes / len(probabilities)


def single_pass(network: Trained) -> Predictor:
    """One forward pass a picture."""
    return lambda images: (
        evaluation.predict_probabilities(network.model, images, network.mean, network.std),
        1,
    )


def make_predictor(method: str, networks: Sequence[Trained], views: str | None = None) -> Predictor:
    """The function from pictures to probabilities that a method stands for.

    What has to be chosen is chosen here, on the validation part of the network's own data set, before any picture to
    be predicted is looked at; what was chosen is printed.
    """
    network = networks[0]
    if method == "single":
        return single_pass(network)
    if method == "ensemble":
        each = [single_pass(network) for network in networks]
        return lambda images: (evaluation.ensemble([one(images)[0] for one in each]), len(each))
    flips = _trained_with_flips(network.recipe["training"])
    views = views or ("flip-shift" if flips else "shift")
    if method == "tta":
        chosen = evaluation.METHODS[views]
        print(f"views: {views}, {chosen.passes} of each picture")
        how = (network.mean, network.std, chosen.views)
        return lambda images: (evaluation.tta(network.model, images, *how, average=chosen.average), chosen.passes)
    # A network that never saw mirrored pictures may be wrong about them with confidence: then no flips are tried.
    names = [name for name in evaluation.METHODS if flips or "flip" not in name]
    return _fitted(method, network, names if method == "class-specialised" else ["single", views])


def _fitted(method: str, network: Trained, names: list[str]) -> Predictor:
    """Predict "class-specialised" or "adaptive", which choose among methods by what they do to validation pictures."""
    validation = own_data(network).validation
    methods = {name: evaluation.METHODS[name] for name in names}
    how = (network.mean, network.std, methods)
    said: dict[str, list[Tensor]] = {name: [] for name in names}
    for images in chunks(validation):
        for name, probabilities in evaluation.candidate_probabilities(network.model, images, *how).items():
            said[name].append(probabilities)
    candidates = {name: torch.cat(rows) for name, rows in said.items()}
    before = evaluation.measure(candidates["single"], validation.labels, network.classes).top1
    print(f"fitted on {before.count:,} validation pictures of {network.data}, one pass: {before.value:.2%} correct")
    if method == "class-specialised":
        by_class = evaluation.fit_class_specialised(candidates, validation.labels)
        for name in names:
            of_name = [k for k, each in zip(network.classes, by_class.methods, strict=True) if each == name]
            if of_name:
                print(f"  {name} ({methods[name].passes} passes): {', '.join(of_name)}")
        return lambda images: evaluation.class_specialised(by_class, network.model, images, *how)
    views = names[-1]
    by_confidence = evaluation.fit_adaptive(candidates["single"], candidates[views], validation.labels, views)
    passes = methods[views].passes
    print(f"  {views} ({passes} passes) where one pass is at most {by_confidence.threshold:.4f} confident")
    return lambda images: evaluation.adaptive(by_confidence, network.model, images, *how)


def _trained_with_flips(training: dict) -> bool:
    """Whether training mirrored pictures: augment is true or false, or a table with an entry for flips."""
    augment = training.get("augment", False)
    if isinstance(augment, dict):
        return any(bool(value) for key, value in augment.items() if "flip" in key)
    return bool(augment)
