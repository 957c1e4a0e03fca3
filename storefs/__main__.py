"""`python -m storefs`."""

import sys

from storefs.cli import main

sys.exit(main())
