"""`python -m settler`: the command line."""

import sys

from settler.cli import main

sys.exit(main())
