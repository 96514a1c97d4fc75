import math

import pytest
import torch
from torch import nn

from aacn_lib.layers import AAConv1d, AAConv2d
from aacn_lib.models import VisionTransformer, attention_layers, attention_maps, feature_maps, logit_parts
from aacn_lib.weights import create_model

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_forward_hooks_with_kwargs")


def vit(pool="token") -> nn.Module:
    return VisionTransformer(3, 5, (6, 10), patch_size=2, depth=2, width=10, num_heads=2, mlp_width=7, pool=pool).eval()


def three_layers() -> nn.Module:
    return create_model("three_aa_conv", 5, (12, 20)).eval()


def state(model: nn.Module) -> list:
    """All that a call could leave behind: tensors, attributes, hooks, modes."""
    modules = [
        (name, sorted(vars(module)), module.training, [len(getattr(module, kind)) for kind in HOOKS])
        for name, module in model.named_modules()
    ]
    return [modules, {name: tensor.clone() for name, tensor in model.state_dict().items()}]


def same(before: list, after: list) -> bool:
    return (
        before[0] == after[0]
        and before[1].keys() == after[1].keys()
        and all(torch.equal(after[1][name], tensor) for name, tensor in before[1].items())
    )


def test_feature_maps_are_what_the_layers_put_out():
    model, x = create_model("aa_cnn", 5, (11, 13)).eval(), torch.randn(2, 3, 11, 13)
    maps = feature_maps(model, x, ["mix", "stem.0", "stem"])
    assert list(maps) == ["mix", "stem.0", "stem"]
    torch.testing.assert_close(maps["stem.0"], model.stem[0](x))
    torch.testing.assert_close(maps["stem"], model.stem(x))
    torch.testing.assert_close(maps["mix"], model.mix(model.stem(x)))
    assert not any(found.requires_grad for found in maps.values())
    assert list(feature_maps(model, x, "head")) == ["head"]


def test_feature_maps_are_copies_that_a_later_layer_in_place_does_not_change():
    model = nn.Sequential(nn.Linear(3, 7), nn.ReLU(inplace=True)).eval()
    x = torch.randn(5, 3)
    found = feature_maps(model, x, "0")["0"]
    assert found.min() < 0
    torch.testing.assert_close(found, model[0](x))


def test_attention_maps_of_augmented_convolutions():
    model, x = three_layers(), torch.randn(2, 3, 12, 20)
    names = ["features.0", "features.4", "features.8"]
    assert attention_layers(model) == names
    maps = attention_maps(model, x)
    assert list(maps) == names
    for name, size in zip(names, [(12, 20), (6, 10), (3, 5)], strict=True):
        found, pixels = maps[name], math.prod(size)
        assert found.size == size
        assert found.tokens == 0
        assert found.weights.shape == (2, 4, pixels, pixels)
        layer = model.get_submodule(name)
        before = model.features[: int(name.split(".")[1])](x)
        torch.testing.assert_close(found.weights, layer.attention_weights(before))
        assert found.between_pixels.data_ptr() == found.weights.data_ptr()


@pytest.mark.parametrize(("pool", "size"), [(1, (4, 7)), (2, (2, 4))])
def test_the_size_is_that_of_the_strided_and_pooled_map(pool, size):
    layer = AAConv2d(3, 8, depth_k=4, depth_v=4, num_heads=2, feature_size=(4, 7), stride=2, attention_pool=pool)
    found = attention_maps(nn.Sequential(layer), torch.randn(2, 3, 7, 13))["0"]
    assert found.size == size
    assert found.weights.shape == (2, 2, math.prod(size), math.prod(size))


def test_attention_of_a_sequence_is_that_of_a_map_of_one_row():
    layer, x = AAConv1d(3, 8, depth_k=4, depth_v=4, num_heads=2, feature_size=7, stride=2), torch.randn(2, 3, 13)
    found = attention_maps(nn.Sequential(layer), x)["0"]
    assert found.size == (1, 7)
    torch.testing.assert_close(found.weights, layer.attention_weights(x))


@pytest.mark.parametrize("pool", ["token", "mean"])
@pytest.mark.parametrize("size", [(6, 10), (4, 14)])
@pytest.mark.parametrize("wrapped", [True, False])
def test_attention_maps_of_a_vision_transformer(pool, size, wrapped):
    model, x = vit(pool), torch.randn(3, 3, *size)
    network, prefix = (nn.Sequential(nn.Identity(), model), "1.") if wrapped else (model, "")
    names = [f"{prefix}layers.{i}.attention" for i in range(2)]
    assert attention_layers(network) == names
    maps = attention_maps(network, x)
    assert list(maps) == names
    H, W = size[0] // 2, size[1] // 2
    for found in maps.values():
        assert found.size == (H, W)
        assert found.tokens == (pool == "token")
        assert found.weights.shape == (3, 2, found.tokens + H * W, found.tokens + H * W)
        assert found.between_pixels.shape == (3, 2, H * W, H * W)
        torch.testing.assert_close(found.weights.sum(-1), torch.ones(found.weights.shape[:3]))
    grid = model._grid_of(*size)
    tokens = model.patches(x).flatten(2).transpose(1, 2)
    if pool == "token":
        tokens = torch.cat([model.token.expand(3, 1, -1), tokens], dim=1)
    first = model.layers[0]
    expected = first.attention.attention_weights(first.norm1(tokens + model.positions_for(grid)))
    torch.testing.assert_close(maps[names[0]].weights, expected)


@pytest.mark.parametrize("options", [{}, {"stride": 2}, {"attention_pool": 2}, {"relative": False}])
def test_the_parts_of_the_logits_give_the_attention(options):
    torch.manual_seed(3)
    layer = AAConv2d(3, 8, depth_k=10, depth_v=4, num_heads=2, feature_size=(5, 7), **options)
    x = torch.randn(2, 3, 5, 7)
    parts, found = logit_parts(nn.Sequential(layer), x)["0"], attention_maps(nn.Sequential(layer), x)["0"]
    assert (parts.size, parts.tokens) == (found.size, 0)
    assert parts.content.shape == parts.position.shape == found.weights.shape
    torch.testing.assert_close((parts.content + parts.position).softmax(-1), found.weights)
    assert (parts.position.abs().max() > 0.1) == ("relative" not in options)
    if not options:  # one entry by hand: query (3, 1), key (4, 6)
        i, j = 3 * 7 + 1, 4 * 7 + 6
        q = parts.q[1, 1, i]
        torch.testing.assert_close(parts.content[1, 1, i, j], q @ parts.k[1, 1, j] / math.sqrt(5))
        by_hand = q @ (layer.rel_h[4 - 3 + 4] + layer.rel_w[6 - 1 + 6]) / math.sqrt(5)
        torch.testing.assert_close(parts.position[1, 1, i, j], by_hand)


def test_the_parts_of_sequences_and_transformers():
    layer, x = AAConv1d(3, 8, depth_k=4, depth_v=4, num_heads=2, feature_size=7), torch.randn(2, 3, 7)
    parts = logit_parts(nn.Sequential(layer), x)["0"]
    torch.testing.assert_close((parts.content + parts.position).softmax(-1), layer.attention_weights(x))
    model, x = vit(), torch.randn(2, 3, 6, 10)
    parts, maps = logit_parts(model, x), attention_maps(model, x)
    assert list(parts) == list(maps)
    for name, found in parts.items():
        assert (found.size, found.tokens) == ((3, 5), 1)
        assert not found.position.any()
        torch.testing.assert_close((found.content + found.position).softmax(-1), maps[name].weights)


def test_a_transformers_attention_outside_a_network_is_a_row_of_tokens():
    layer = vit().layers[0]
    found = attention_maps(layer, torch.randn(2, 7, 10))["attention"]
    assert (found.size, found.tokens) == ((1, 7), 0)


def test_chosen_layers_only_and_in_the_order_asked_for():
    model, x = three_layers(), torch.randn(1, 3, 12, 20)
    assert list(attention_maps(model, x, ["features.8", "features.0"])) == ["features.8", "features.0"]
    assert list(attention_maps(model, x, "features.4")) == ["features.4"]
    assert list(attention_maps(vit(), torch.randn(1, 3, 6, 10), "layers.1.attention")) == ["layers.1.attention"]
    assert attention_maps(create_model("plain_cnn", 5, 11), torch.randn(1, 3, 11, 11)) == {}


@pytest.mark.parametrize("make", [three_layers, vit])
def test_the_network_is_left_as_it_was(make):
    """In training mode too, where running the network as it stands would change what batch normalisation remembers."""
    model = make().train()
    next(module for module in model.modules() if not list(module.children())).eval()  # one layer frozen by its user
    x = torch.randn(2, 3, 12, 20)
    before, random_state = state(model), torch.get_rng_state()
    names = attention_layers(model)
    maps = attention_maps(model, x)
    feature_maps(model, x, names)
    logit_parts(model, x)
    assert same(before, state(model))
    assert torch.equal(torch.get_rng_state(), random_state)
    torch.testing.assert_close(attention_maps(model.eval(), x)[names[0]].weights, maps[names[0]].weights)


@pytest.mark.parametrize("look", [attention_maps, feature_maps, logit_parts])
def test_the_network_is_left_as_it_was_when_it_raises(look):
    model = three_layers().train()
    before = state(model)
    with pytest.raises(ValueError, match=r"expected input of shape \(B, 3, H, W\)"):
        look(model, torch.randn(2, 4, 12, 20), ["features.0"])
    assert same(before, state(model))


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.unused, self.pair = nn.Linear(3, 3), nn.Linear(3, 3), Pair()

    def forward(self, x):
        return self.pair(self.layer(self.layer(x)))[0]


class Pair(nn.Module):
    def forward(self, x):
        return x, x


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("layer", "'layer' runs more than once"),
        ("unused", "'unused' does not run"),
        ("pair", "'pair': expected a module that puts out a tensor, got tuple"),
        ("layr", "expected layers of the network, got 'layr'; did you mean 'layer'"),
        ("zzz", r"got 'zzz'; there are \['layer', 'unused', 'pair'\]"),
        ("", "expected layers of the network, got ''"),
    ],
)
def test_layers_that_cannot_be_shown_are_named(name, message):
    model = Twice()
    before = state(model)
    with pytest.raises(ValueError, match=message):
        feature_maps(model, torch.randn(2, 3), [name])
    assert same(before, state(model))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("features.1", "expected layers with attention, got 'features.1'; did you mean 'features.[048]'"),
        ("features.11", "got 'features.11'; did you mean"),
        ("stem", r"got 'stem'; there are \['features.0', 'features.4', 'features.8'\]"),
    ],
)
def test_layers_without_attention_are_named(name, message):
    with pytest.raises(ValueError, match=message):
        attention_maps(three_layers(), torch.randn(1, 3, 12, 20), ["features.0", name])
