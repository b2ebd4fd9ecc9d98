"""`python -m collm_nas` is `collm-nas`."""

import sys

from collm_nas.cli import main

if __name__ == "__main__":
    sys.exit(main())
