"""``python -m poussetaches`` is the command ``poussetaches``."""

import sys

from poussetaches.cli.main import main

sys.exit(main())
