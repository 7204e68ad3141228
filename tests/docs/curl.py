"""The curl that the README's example needs, for machines without one: -s -N -L -H -d -o and a URL."""

import argparse
from pathlib import Path

import httpx2

parser = argparse.ArgumentParser()
parser.add_argument("-s", action="store_true")
parser.add_argument("-N", action="store_true")
parser.add_argument("-L", action="store_true")
parser.add_argument("-H", action="append", default=[])
parser.add_argument("-d")
parser.add_argument("-o", type=Path, default=Path("/dev/stdout"))
parser.add_argument("url")
given = parser.parse_args()
headers = dict(header.split(": ", 1) for header in given.H)
method = "POST" if given.d else "GET"
answer = httpx2.request(method, given.url, headers=headers, content=given.d, follow_redirects=given.L, timeout=60)
given.o.write_bytes(answer.content)
