"""An exception raised by a learner's answer, told in one line with the line of their own code."""

import dis
import sysconfig
import traceback
from pathlib import Path

_LIBRARIES = tuple({sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
_HERE = str(Path(__file__).resolve().parents[1])
_MAX_TEXT = 200


def describe_error(error: BaseException) -> str:
    """Type, first line of the message, and the deepest line that is neither a library's nor ours."""
    if isinstance(error, RuntimeError) and "leaf Variable that requires grad" in str(error):
        return f"it changes an input in place: work on a new tensor instead{_where(error)}"
    lines = str(error).strip().splitlines()
    text = f": {lines[0][:_MAX_TEXT]}" if lines else ""
    return f"raised {type(error).__name__}{text}{_where(error)}"


def is_placeholder(error: BaseException) -> bool:
    """Whether this is a learner's own `raise NotImplementedError`, and not one of torch's (a mean of truth values)."""
    if not isinstance(error, NotImplementedError) or error.__traceback__ is None:
        return False
    deepest = error.__traceback__
    while deepest.tb_next:
        deepest = deepest.tb_next
    code = deepest.tb_frame.f_code
    # What C++ raises has the learner's line as its deepest frame too: only a raise statement tells them apart.
    by_statement = dis.opname[code.co_code[deepest.tb_lasti]] == "RAISE_VARARGS"
    return by_statement and not _is_foreign(code.co_filename)


def _where(error: BaseException) -> str:
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if _is_foreign(frame.filename):
            continue
        source = f": {frame.line.strip()}" if frame.line else ""
        return f" (line {frame.lineno}{source})"
    return ""


def _is_foreign(filename: str) -> bool:
    """torch's own frames, and those of generated code ("<string>", "<frozen …>"), say nothing to the learner."""
    return filename.startswith((*_LIBRARIES, _HERE, "<frozen", "<string"))
