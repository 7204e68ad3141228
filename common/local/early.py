"""``python -m common.local.early MODULE ARGUMENTS``: imports MODULE at once, and runs its main() when stdin says so.

Importing is most of a start, and needs no server: it happens while the servers start. What stdin says is one JSON
object of environment variables: the addresses and passwords of those servers. Where it ends without a word, our
parent died.
"""

import gc
import importlib
import json
import os
import sys


def main() -> None:
    _, name, *arguments = sys.argv
    gc.disable()  # a fifth of the import of torch and its like is the collector's, which finds nothing
    module = importlib.import_module(name)
    gc.freeze()
    gc.enable()
    said = sys.stdin.readline()
    if not said:
        sys.exit("ended before it began: nothing said what to work with")
    os.environ.update(json.loads(said))
    sys.argv = [name, *arguments]
    module.main()


if __name__ == "__main__":
    main()
