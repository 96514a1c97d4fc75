"""Attention inside convolutional networks: the library behind the course.

The names are listed in `__init__.pyi`. Each is loaded when it is first used: so `import aacn_lib` takes no time, and
the command line can set up its process before torch is there.
"""

import lazy_loader

__version__ = "0.2.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
