"""The shared figures: what is drawn, that axes are labelled, and what is refused."""

import io
import subprocess
import sys

import matplotlib
import pytest
import torch

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from aacn_lib.figures import figures


@pytest.fixture(autouse=True)
def shown(monkeypatch):
    """The figures that were shown; each test's figures are closed after it."""
    seen = []
    monkeypatch.setattr(plt, "show", lambda: seen.append(plt.gcf()))
    yield seen
    plt.close("all")


def pictures_drawn(figure):
    """The axes that hold a picture or a map, without the colour bar's."""
    return [axis for axis in figure.axes if axis.images and axis.get_label() != "<colorbar>"]


def png_bytes(figure):
    target = io.BytesIO()
    figure.savefig(target, format="png", dpi=72, bbox_inches="tight")
    return len(target.getvalue())


def test_importing_the_library_does_not_import_matplotlib():
    code = "import sys, aacn_lib.figures; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def attention(heads, positions):
    return torch.rand(heads, positions, positions, generator=torch.Generator().manual_seed(5)).softmax(-1)


@pytest.mark.parametrize("heads", [1, 3, 4, 7])
def test_attention_draws_the_picture_and_one_map_a_head(shown, heads):
    weights = attention(heads, 35)
    figures.show_attention(torch.rand(1, 5, 7), weights, (3, 2))
    (figure,) = shown
    picture, *maps = pictures_drawn(figure)
    assert len(maps) == heads
    for head, axis in enumerate(maps):
        expected = weights[head, 3 * 7 + 2].reshape(5, 7)
        assert torch.equal(torch.as_tensor(axis.images[0].get_array().data), expected)
        assert axis.get_xlabel() == "key column"
        # One scale: every head is drawn with the same limits.
        assert axis.images[0].get_clim() == maps[0].images[0].get_clim()
    assert maps[0].get_ylabel() == "key row"
    assert picture.get_xlabel() == "column (pixels)"
    assert picture.get_ylabel() == "row (pixels)"
    assert "attention weight" in [axis.get_ylabel() for axis in figure.axes]


def test_attention_frames_the_query_on_the_picture_and_on_the_map(shown):
    figures.show_attention(torch.rand(3, 10, 21), attention(2, 35), (3, 2), feature_size=(5, 7))
    picture, first, _ = pictures_drawn(shown[0])
    on_picture, on_map = picture.patches[0], first.patches[-1]
    # A cell of the 5×7 map covers 2×3 pixels of the 10×21 picture; cell edges lie half a pixel before its number.
    assert (on_picture.get_x(), on_picture.get_y()) == (2 * 3 - 0.5, 3 * 2 - 0.5)
    assert (on_picture.get_width(), on_picture.get_height()) == (3, 2)
    assert (on_map.get_x(), on_map.get_y(), on_map.get_width()) == (1.5, 2.5, 1)


def test_attention_on_a_smaller_square_map_needs_no_size(shown):
    figures.show_attention(torch.rand(1, 32, 32), attention(4, 64), (7, 0))
    assert pictures_drawn(shown[0])[1].images[0].get_array().shape == (8, 8)
    assert png_bytes(shown[0]) < 60_000


@pytest.mark.parametrize(
    ("image", "weights", "query", "size", "message"),
    [
        (torch.rand(2, 1, 5, 7), attention(2, 35), (0, 0), None, "image must be one picture"),
        (torch.rand(1, 5, 7), attention(2, 35)[None], (0, 0), None, r"weights must be \(heads, HW, HW\)"),
        (torch.rand(1, 5, 7), attention(2, 35)[:, :5], (0, 0), None, r"weights must be \(heads, HW, HW\)"),
        (torch.rand(1, 5, 7), attention(2, 35), (5, 0), None, "5×7 map"),
        (torch.rand(1, 5, 7), attention(2, 35), (-1, 0), None, "5×7 map"),
        (torch.rand(1, 5, 7), attention(2, 35), (0, 0), (5, 6), "30 positions, weights have 35"),
        (torch.rand(1, 10, 14), attention(2, 35), (0, 0), None, "feature_size is needed"),
        (torch.rand(1, 9, 11), attention(2, 36), (0, 0), None, "feature_size is needed"),
        (torch.rand(2, 5, 7), attention(2, 35), (0, 0), None, "got 2"),
    ],
)
def test_attention_refuses(shown, image, weights, query, size, message):
    with pytest.raises(ValueError, match=message):
        figures.show_attention(image, weights, query, size)
    assert not shown


def test_images_are_drawn_in_rows_with_titles_and_labels(shown):
    images = torch.randint(0, 256, (5, 1, 7, 11), dtype=torch.uint8)
    figures.show_images(images, titles=list("abcde"), columns=3)
    (figure,) = shown
    axes = pictures_drawn(figure)
    assert [axis.get_title() for axis in axes] == list("abcde")
    assert axes[3].get_subplotspec().rowspan.start == 1  # the fourth picture opens the second row
    assert torch.equal(torch.as_tensor(axes[4].images[0].get_array().data), images[4, 0])
    assert axes[0].images[0].get_clim() == (0, 255)
    assert figure.get_supxlabel() == "column (pixels)"
    assert figure.get_supylabel() == "row (pixels)"


def test_a_colour_picture_keeps_its_channels_apart(shown):
    image = torch.zeros(1, 3, 5, 7)
    image[0, 2] = 1  # blue
    figures.show_images(image)
    drawn = pictures_drawn(shown[0])[0].images[0].get_array()
    assert drawn.shape == (5, 7, 3)
    assert drawn[0, 0].tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        (torch.rand(5, 7), {}, r"\(N, C, H, W\)"),
        (torch.rand(0, 1, 5, 7), {}, "N ≥ 1"),
        (torch.rand(2, 4, 5, 7), {}, "1 channel"),
        (torch.rand(3, 1, 5, 7), {"titles": ["one"]}, "3 pictures, 1 titles"),
        (torch.rand(3, 1, 5, 7), {"columns": 0}, "columns"),
    ],
)
def test_images_refuses(shown, images, options, message):
    with pytest.raises(ValueError, match=message):
        figures.show_images(images, **options)
    assert not shown


def test_curves_are_labelled_and_chance_is_a_line(shown):
    figures.plot_curves({"training": [0.2, 0.6, 0.7], "validation": [0.3, 0.5]}, "epoch", "accuracy", chance=0.1)
    (axis,) = shown[0].axes
    training, validation, chance = axis.lines
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("epoch", "accuracy")
    assert list(training.get_xdata()) == [1, 2, 3]
    assert list(validation.get_ydata()) == [0.3, 0.5]
    assert set(chance.get_ydata()) == {0.1}
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["training", "validation", "chance"]
    assert training.get_color() != validation.get_color()
    assert training.get_linestyle() != validation.get_linestyle()
    assert png_bytes(shown[0]) < 60_000


def test_curves_take_their_positions(shown):
    figures.plot_curves({"a": torch.tensor([3.0, 1.0])}, "width (pixels)", "time (ms)", x=[8, 16])
    assert list(shown[0].axes[0].lines[0].get_xdata()) == [8, 16]


@pytest.mark.parametrize(
    ("curves", "x", "message"),
    [({}, None, "at least one"), ({"a": []}, None, "'a' holds no values"), ({"a": [1, 2]}, [1], "2 values, x holds 1")],
)
def test_curves_refuses(shown, curves, x, message):
    with pytest.raises(ValueError, match=message):
        figures.plot_curves(curves, "epoch", "loss", x=x)
    assert not shown


def test_matrix_writes_each_number_in_its_cell(shown):
    matrix = torch.tensor([[3, 4, 5], [2, 3, 4]])
    figures.show_matrix(matrix, "key", "query", title="index")
    axis = pictures_drawn(shown[0])[0]
    assert (axis.get_xlabel(), axis.get_ylabel(), axis.get_title()) == ("key", "query", "index")
    written = {text.get_position(): text.get_text() for text in axis.texts}
    assert written[(2, 0)] == "5"
    assert written[(0, 1)] == "2"
    assert len(written) == 6


@pytest.mark.parametrize("sign", [1, -1])
def test_matrix_of_both_signs_has_zero_in_the_middle(shown, sign):
    figures.show_matrix(torch.tensor([[-1.0, 0.5], [0.25 * sign, 0.0]]) * sign, "x", "y")
    axis = pictures_drawn(shown[0])[0]
    assert axis.images[0].get_clim() == (-1, 1)
    assert "0.25" in [text.get_text() for text in axis.texts]


@pytest.mark.parametrize(("shape", "numbers"), [((5, 7), False), ((19, 23), True)])
def test_matrix_without_numbers(shown, shape, numbers):
    figures.show_matrix(torch.rand(shape), "x", "y", numbers=numbers)
    assert not pictures_drawn(shown[0])[0].texts


def test_matrix_names_its_columns_and_rows(shown):
    figures.show_matrix(torch.rand(2, 3), "direction", "head", xticks=["right", "left", "down"], yticks=("a", "b"))
    axis = pictures_drawn(shown[0])[0]
    assert [(x, text.get_text()) for x, text in zip(axis.get_xticks(), axis.get_xticklabels(), strict=True)] == [
        (0, "right"),
        (1, "left"),
        (2, "down"),
    ]
    assert [text.get_text() for text in axis.get_yticklabels()] == ["a", "b"]


def test_matrices_can_share_a_colour_scale(shown):
    figures.show_matrix(torch.tensor([[1.0, 2.0]]), "x", "y", limits=(0, 8))
    assert pictures_drawn(shown[0])[0].images[0].get_clim() == (0, 8)


@pytest.mark.parametrize("names", [{"xticks": ["a", "b"]}, {"yticks": ["a", "b", "c"]}])
def test_matrix_refuses_a_wrong_number_of_names(shown, names):
    with pytest.raises(ValueError, match=f"{next(iter(names))} must hold . names"):
        figures.show_matrix(torch.zeros(2, 3), "x", "y", **names)
    assert not shown


@pytest.mark.parametrize("shape", [(5,), (2, 3, 5), (0, 3)])
def test_matrix_refuses(shown, shape):
    with pytest.raises(ValueError, match="matrix must be"):
        figures.show_matrix(torch.zeros(shape), "x", "y")
    assert not shown
