"""`python -m modelops_ray` is the console script, and like that finds no modules in the folder it is started in."""

import os
import sys

_OURS = os.path.dirname(os.path.dirname(__file__))  # noqa: PTH120 (pathlib would be looked for there, too)
if sys.path[:1] == [os.getcwd()] != [_OURS]:  # noqa: PTH109
    del sys.path[0]

from modelops_ray.cli import main  # noqa: E402

if __name__ == "__main__":
    main()
