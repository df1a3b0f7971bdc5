"""`python -m got_assets.cli`: the command `got` where the package is not installed."""

import sys

from got_assets.cli import main

sys.exit(main())
