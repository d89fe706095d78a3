"""A command whose n-th write fails, from the first on until it succeeds; a line of JSON for each.

    FAULT_CALL=write FAULT_PATH=.part LD_PRELOAD=faulty_files.so python failing_writes.py prune ...

What a line holds: its exit code, what it printed on stderr, and the digests of the files that are
there then, by their names. Errors are in turn those of a full and of a broken disk.
"""

import contextlib
import errno
import io
import itertools
import json
import os
import sys
from pathlib import Path

from wkdc.cli import main
from wkdc.system.files import sha256_of

NUMBERS = (errno.ENOSPC, errno.EIO)

if __name__ == "__main__":
    for after in itertools.count():
        os.environ |= {"FAULT_AFTER": str(after), "FAULT_ERRNO": str(NUMBERS[after % 2])}
        printed = io.StringIO()
        code: object = None
        with contextlib.redirect_stderr(printed), contextlib.redirect_stdout(io.StringIO()):
            try:
                main(sys.argv[1:])
            except SystemExit as ended:
                code = ended.code
        files = {str(path): sha256_of(path) for path in Path().rglob("*") if path.is_file()}
        print(json.dumps({"code": code, "stderr": printed.getvalue(), "files": files}))
        if code == 0:
            break
