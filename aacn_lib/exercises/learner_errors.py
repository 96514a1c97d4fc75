"""An exception raised by a learner's answer, told in one line with the line of their own code."""

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


def _where(error: BaseException) -> str:
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        # torch's own frames, and those of generated code ("<string>", "<frozen …>"), say nothing to the learner.
        if frame.filename.startswith((*_LIBRARIES, _HERE, "<frozen", "<string")):
            continue
        source = f": {frame.line.strip()}" if frame.line else ""
        return f" (line {frame.lineno}{source})"
    return ""
