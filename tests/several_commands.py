"""Several wkdc commands, one after the other, in a process that is started for them.

    python several_commands.py '[["distill", "--data", "photos"], ...]'

Students are measured on small images, as with the fixture `small_validation`.
"""

import json
import os
import sys

import wkdc.training.direction
from wkdc.cli import main

if __name__ == "__main__":
    wkdc.training.direction.MEASURE_SIZE = 32
    for command in json.loads(sys.argv[1]):
        try:
            main(command)
        except SystemExit as ended:
            print(f"{os.environ.get('RANK', 0)} ended with {ended.code}", file=sys.stderr)
