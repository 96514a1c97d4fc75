"""The command line as a whole: what it says without words, with wrong ones, and while it works."""

import os
import re
import subprocess
import sys

import pytest

from aacn_lib.cli import main
from aacn_lib.cli.main import make_parser
from aacn_lib.training import list_recipes

COMMANDS = ["train", "eval", "predict", "explore", "recipes", "models", "weights", "data", "records"]
TINY = ["--set", "training.epochs=3", "--set", "training.train_subset=64", "--device", "cpu"]


def aacn(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "aacn_lib", *arguments]
    plain = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    return subprocess.run(command, env=plain | environment, capture_output=True, text=True, timeout=120)


def test_without_words_it_lists_the_commands_a_line_each(capsys):
    assert main([]) == 0
    first, *lines, last = capsys.readouterr().out.splitlines()
    assert first.startswith("usage: aacn")
    assert [line.split()[0] for line in lines] == COMMANDS
    assert len({line.index(line.split(maxsplit=1)[1]) for line in lines}) == 1  # the texts stand below each other
    assert "--help" in last


def test_help_says_the_same_words(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    out = capsys.readouterr().out
    for name, command in make_parser().commands.items():
        assert re.search(rf"^ +{name} +{re.escape(command.description)}$", out, re.MULTILINE)


@pytest.mark.parametrize("listing", [[], ["recipes"], ["models"], ["weights"], ["data"], ["records"]])
def test_every_list_fits_a_hundred_columns_and_aligns(listing, capsys):
    assert main(listing) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    # A text that goes on in the next line goes on below its own beginning.
    first = [line.rstrip() for line in lines if line[:1] not in (" ", "")]
    going_on = {len(line) - len(line.lstrip()) for line in lines if line.startswith(" ")}
    if going_on:
        (column,) = going_on
        assert all(line[column - 1] == " " != line[column] for line in first)


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ("trian quick_fashion_mini", "no command 'trian'; did you mean 'train'?"),
        ("what", "no command 'what'; `aacn` lists the commands"),
        ("train quick_fashion_min", "got 'quick_fashion_min'; did you mean 'quick_fashion_mini'"),
        (
            "train compass_vit --sed training.seed=1",
            "does not take '--sed'; did you mean '--set'?",
        ),
        ("train quick_fashion_mini --worker=1", "does not take '--worker'; did you mean '--workers'?"),
        ("train quick_fashion_mini --workers=x", "--workers: expected a whole number of at least 0, got 'x'"),
        ("train quick_fashion_mini --set training.optimizer=sgd", "did you mean 'training.optimiser'?"),
        ("train quick_fashion_mini --set training.optimiser=sdg", "got 'sdg'; did you mean 'sgd'?"),
        ("train quick_fashion_mini --set model=aa_cn", "got 'aa_cn'; did you mean 'aa_cnn'"),
        ("train quick_fashion_mini --set data=cifar-10", "did you mean 'cifar10'?"),
        ("eval compass_aa_cn", "did you mean 'compass_aa_cnn'?"),
        ("eval compass_aa_cnn --part tset", "got 'tset'; did you mean 'test'?"),
        ("predict compass_aa_cnn --method adaptiv --data compass --out x", "did you mean 'adaptive'"),
        ("predict compass_aa_cnn --method tta --views flips --data compass --out x", "did you mean 'flip'"),
        ("weights compass_aa", "did you mean 'compass_aa_cnn'?"),
        ("models aa_resnet5", "did you mean 'aa_resnet50'"),
        ("models aa_cnn --classes none", "--classes: expected a whole number of at least 1, got 'none'"),
        ("data compas", "did you mean 'compass'?"),
        ("explore compass_aa_cnn --data compass --otu x.html", "does not take '--otu'; did you mean '--out'"),
        ("train compass_vit extra --devcie cpu", "does not take '--devcie'; did you mean '--device'?"),
        ("train compass_vit extra", "does not take 'extra'"),
        ("train --res", "did you mean '--resume'"),
        ("--runs x train compass_vit", "expected a command, got '--runs'; options stand after the command"),
        ("TRAIN", "did you mean 'train'?"),
        ("tr", "did you mean 'train'?"),
        ("models resnet18 --set foo", "expected KEY=VALUE, got 'foo'"),
        ("records --mising", "did you mean '--missing'?"),
        ("predict", "the following arguments are required"),
        ("--verson", "did you mean '--version'?"),
        ("train", "train: the following arguments are required: recipe"),
    ],
)
def test_a_wrong_word_is_one_line_with_the_nearest_right_one(words, answer, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words.split()) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("aacn: ")
    assert captured.err.count("\n") == 1
    assert answer in captured.err
    assert "usage:" not in captured.out + captured.err
    assert list(tmp_path.iterdir()) == []


def test_each_epoch_is_printed_as_it_ends(tmp_path):
    """The lines are there while the run still goes on: it is stopped by its own second line."""
    command = [sys.executable, "-m", "aacn_lib", "train", "compass_plain_cnn", "--runs", str(tmp_path), *TINY]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        lines = [process.stdout.readline() for _ in range(2)]
        process.kill()
    assert lines[0].startswith("compass_plain_cnn: ")
    assert re.fullmatch(r"epoch   1: train loss \d\.\d{3}, validation accuracy \d+\.\d\d%, \d+ s\n", lines[1])
    done = (tmp_path / "compass_plain_cnn" / "seed0" / "record.json").read_text(encoding="utf-8")
    assert '"complete": false' in done


def test_colour_only_where_it_is_wanted():
    assert "\x1b[" not in aacn("recipes").stdout  # no terminal
    assert "\x1b[" in aacn("recipes", FORCE_COLOR="1").stdout
    assert "\x1b[" not in aacn("recipes", FORCE_COLOR="1", NO_COLOR="1").stdout
    assert "\x1b[" not in aacn("recipe", FORCE_COLOR="1", NO_COLOR="1").stderr
    wrong = aacn("recipe")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr == "aacn: there is no command 'recipe'; did you mean 'recipes'?\n"


def test_help_is_a_command_too(capsys):
    for words in (["help", "train"], ["train", "--help"]):
        with pytest.raises(SystemExit):
            main(words)
        out = capsys.readouterr().out
        assert out.startswith("usage: aacn train")
        assert max(map(len, out.splitlines())) <= 100


def test_a_file_gets_no_progress_bar(tmp_path):
    """What is not a terminal gets whole lines: the epochs, and nothing on standard error."""
    done = aacn("train", "compass_plain_cnn", "--runs", str(tmp_path), *TINY)
    assert done.returncode == 0
    assert done.stderr == ""
    assert len(re.findall(r"^epoch   \d: ", done.stdout, re.MULTILINE)) == 3


def test_a_long_complaint_stays_one_line():
    wrong = aacn("train", "x" * 300)
    assert wrong.stderr.count("\n") == 1
    assert "x" * 300 in wrong.stderr


def test_recipes_are_all_there(capsys):
    main(["recipes"])
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines() if not line.startswith(" ")] == list_recipes()
