"""``python -m rnnfast`` is the command ``rnnfast``."""

import sys

from rnnfast.cli import main

sys.exit(main())
