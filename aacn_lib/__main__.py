"""`python -m aacn_lib` is the command `aacn`."""

from aacn_lib.cli.main import main

raise SystemExit(main())
