"""Curves of a run while it goes on: `fit(..., on_epoch=live_curve())` in a notebook."""

from collections.abc import Callable
from pathlib import Path

from aacn_lib.training import History


def live_curve() -> Callable[[History], None]:
    """A function for `fit`'s `on_epoch` that redraws one picture of loss and accuracy after each epoch.

    Outside of a notebook nothing is drawn. The last picture stays in the cell's output.
    """
    handle = None

    def draw(history: History) -> None:
        nonlocal handle
        import matplotlib.pyplot as plt
        from IPython.display import display

        from aacn_lib.figures.report import training_figure

        figure = training_figure(history.epochs)
        if handle is None:
            handle = display(figure, display_id=True)
        else:
            handle.update(figure)
        plt.close(figure)

    return draw


def tensorboard_curve(folder: str | Path) -> Callable[[History], None]:
    """A function for `fit`'s `on_epoch` that writes the numbers of each epoch for TensorBoard.

    Raises:
        ValueError: if the package tensorboard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ValueError(f"tensorboard: expected the package tensorboard to be installed ({error})") from error
    writer = None

    def write(history: History) -> None:
        nonlocal writer
        writer = writer or SummaryWriter(str(folder), purge_step=len(history.epochs))
        row = history.epochs[-1]
        for name, value in row.items():
            if name != "epoch":
                writer.add_scalar(name.replace("_", "/", 1), value, row["epoch"])
        writer.flush()

    return write
