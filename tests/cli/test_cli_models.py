"""The command `aacn models`."""

import pytest

from aacn_lib.cli.main import main
from aacn_lib.models import list_models


def said(capsys, *arguments: str) -> list[str]:
    assert main(["models", *arguments]) == 0
    return capsys.readouterr().out.splitlines()


def test_without_a_name_it_lists_all(capsys):
    assert [line.split()[0] for line in said(capsys)] == list_models()


def test_a_pattern_lists_those_that_match(capsys):
    assert [line.rstrip() for line in said(capsys, "three_*")] == [
        "three_aa_conv  ThreeLayerCNN(mixing='relative')",
        "three_conv     ThreeLayerCNN(mixing='convolution')",
    ]
    assert said(capsys, "vi?") == said(capsys, "[uv]it") == ["vit  VisionTransformer()"]


def test_a_name_is_counted_part_by_part(capsys):
    # GFLOPs of the mixing layer: 2 · 1024 · (64 · 88 · 9 + 64 · 120 + 40 · 40) in convolutions, 2 · 1024² · 80 over all
    # pairs of pixels, 2 · 1024 · 126 · 40 of relative logits
    assert said(capsys, "aa_cnn") == [
        "aa_cnn: 3 × 32 × 32 pixels, 100 classes; a multiply-add is 2 operations",
        "part   parameters  GFLOPs",
        "stem        1,920   0.004",
        "mix        61,476   0.301",
        "head       12,900   0.000",
        "total      76,296   0.304",
    ]


def test_options_reach_the_network(capsys):
    lines = said(capsys, "aa_cnn", "--classes", "7", "--image-size", "5x11", "--set", "widths=[4, 48]")
    assert "3 × 5 × 11 pixels, 7 classes" in lines[0]
    # tables of 9 and 21 rows of 10; conv 4→8, 4→120 and 40→40 with biases
    assert lines[3].split()[:2] == ["mix", f"{(9 + 21) * 10 + 4 * 8 * 9 + 8 + 4 * 120 + 120 + 40 * 40 + 40:,}"]
    assert lines[4].split()[:2] == ["head", f"{48 * 7 + 7}"]
    assert "1 × 32 × 32 pixels" in said(capsys, "plain_cnn", "--set", "in_channels=1")[0]


def test_the_largest_networks_are_counted_without_being_built(capsys):
    lines = said(capsys, "resnet152", "--classes", "1000", "--image-size", "224")
    assert lines[-1].split()[:2] == ["total", "60,192,808"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["zz*"], "no network's name matches 'zz*'"),
        (["aacnn"], "did you mean 'aa_cnn'"),
        (["aa_cnn", "--image-size", "32x"], "--image-size: expected whole numbers such as 32 or 32x48, got '32x'"),
        (["aa_cnn", "--image-size", "3x3x3"], "got '3x3x3'"),
        (["aa_cnn", "--image-size", "0"], "expected whole numbers such as 32 or 32x48, got '0'"),
        (["aa_cnn", "--classes", "ten"], "--classes: expected a whole number of at least 1, got 'ten'"),
        (["aa_cnn", "--set", "heads=3"], "no option 'heads'"),
        (["aa_cnn", "--set", "num_heads"], "expected KEY=VALUE"),
        (["aa_cnn", "--set", "widths=3"], "aa_cnn cannot be built like this: "),
        (["aa_cnn", "--set", "widths=[-4, 48]"], "aa_cnn cannot be built like this: "),
        (["aa_cnn", "--set", "num_classes=3"], "multiple values for argument 'num_classes'"),
        (["aa_cnn", "--set", "in_channels=none"], "in_channels: expected a whole number of at least 1, got 'none'"),
        (["vit", "--image-size", "33"], "expected multiples of patch_size = 4 pixels, got '33×33'"),
    ],
)
def test_wrong_input_is_one_line_and_code_2(arguments, message, capsys):
    assert main(["models", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("aacn: ")
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""
