import pytest
import torch
from oracle import loop_logits, random_inputs

from aacn_lib.ops import (
    axis_logits,
    axis_logits_skew,
    relative_index,
    relative_logits,
    relative_logits_definition,
    resize_table,
)

SIZES = [(1, 1), (1, 7), (5, 1), (2, 3), (5, 3), (3, 7)]


def test_relative_index_by_hand():
    assert relative_index(3).tolist() == [[2, 3, 4], [1, 2, 3], [0, 1, 2]]
    assert relative_index(1).tolist() == [[0]]


@pytest.mark.parametrize("size", [1, 2, 5, 11])
def test_relative_index_uses_every_row_of_a_table_of_2_size_minus_1(size):
    index = relative_index(size)
    assert index.dtype == torch.int64
    assert sorted(set(index.flatten().tolist())) == list(range(2 * size - 1))
    assert (index.diagonal() == size - 1).all()


def test_relative_index_refuses_an_empty_axis():
    with pytest.raises(ValueError, match="at least 1, got 0"):
        relative_index(0)


def test_axis_logits_by_hand():
    q = torch.tensor([[1.0, 0.0], [0.0, 1.0]])  # two queries of two channels
    table = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])  # distances -1, 0, +1
    expected = torch.tensor([[3.0, 5.0], [2.0, 4.0]])
    torch.testing.assert_close(axis_logits(q, table), expected)
    torch.testing.assert_close(axis_logits_skew(q, table), expected)


@pytest.mark.parametrize("L", [1, 2, 3, 7, 13])
def test_skew_equals_lookup(L):
    q, table = torch.randn(2, 3, L, 5, dtype=torch.float64), torch.randn(2 * L - 1, 5, dtype=torch.float64)
    torch.testing.assert_close(axis_logits_skew(q, table), axis_logits(q, table))


@pytest.mark.parametrize(("H", "W"), SIZES)
@pytest.mark.parametrize("tables", ["hw", "h", "w"])
def test_relative_logits_equal_the_loops(H, W, tables):
    q, k, _, rel_h, rel_w = random_inputs(H, W, tables=tables)
    expected = loop_logits(q, torch.zeros_like(k), rel_h, rel_w)
    torch.testing.assert_close(relative_logits(q, rel_h, rel_w), expected)
    torch.testing.assert_close(relative_logits_definition(q, rel_h, rel_w), expected)


def test_tables_are_shared_by_heads_but_logits_are_not():
    q, _, _, rel_h, rel_w = random_inputs(5, 3)
    logits = relative_logits(q, rel_h, rel_w)
    assert not torch.allclose(logits[:, 0], logits[:, 1])
    same = relative_logits(q[:, :1].expand_as(q), rel_h, rel_w)
    torch.testing.assert_close(same[:, 0], same[:, 2])


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((5, 5), (5, 5)), r"rel_h: expected shape \(9, 5\).*got \(5, 5\)"),
        (((9, 5), (9, 5)), r"rel_w: expected shape \(5, 5\).*5×3 pixels, got \(9, 5\)"),
        (((9, 4), (5, 5)), r"rel_h: expected shape \(9, 5\)"),
    ],
)
def test_tables_of_another_size_are_refused_by_name(shapes, message):
    q = random_inputs(5, 3)[0]
    tables = [torch.zeros(shape, dtype=q.dtype) for shape in shapes]
    with pytest.raises(ValueError, match=message):
        relative_logits(q, *tables)


def test_relative_logits_need_a_table_and_five_axes():
    q = random_inputs(5, 3)[0]
    with pytest.raises(ValueError, match="None for both"):
        relative_logits(q, None, None)
    with pytest.raises(ValueError, match=r"\(B, heads, H, W, d_kh\), got \(2, 3, 5, 3\)"):
        relative_logits(q[..., 0], torch.zeros(9, 5), None)


def test_resized_tables_keep_the_centre_and_the_ends():
    table = torch.tensor([[-2.0], [-1.0], [0.0], [1.0], [2.0]])  # each row holds its own distance, size 3
    torch.testing.assert_close(resize_table(table, 3), table)
    torch.testing.assert_close(resize_table(table, 2), torch.tensor([[-2.0], [0.0], [2.0]]))
    torch.testing.assert_close(resize_table(table, 5).flatten(), torch.linspace(-2, 2, 9))
    torch.testing.assert_close(resize_table(table, 1), torch.tensor([[0.0]]))
    torch.testing.assert_close(resize_table(table[2:3] + 4, 2), torch.full((3, 1), 4.0))
