"""What the documents' commands ask of curl, for machines that have none: `make test` needs no system package.

python curl.py [-sSN] [-X METHOD] [-H HEADER] [-d BODY] [-o FILE] [-w FORMAT] [--max-time S] [--fail-with-body] URL
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import os
import shutil
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

FAILED, TOO_LONG = 22, 28
"""curl's exit codes: answered 400 and above; `--max-time` is over."""


def path_with_curl(folder: Path, path: str | None = None) -> str:
    """`PATH` with curl on it: the machine's, or else this, put into `folder`."""
    known = os.environ["PATH"] if path is None else path
    if shutil.which("curl", path=known) is not None:
        return known
    bin_ = folder / "stand-in"
    bin_.mkdir(exist_ok=True)
    stand_in = bin_ / "curl"
    stand_in.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{__file__}" "$@"\n')
    stand_in.chmod(0o755)
    return f"{bin_}{os.pathsep}{known}"


def main(arguments: list[str]) -> int:
    options = _parser().parse_args(arguments)
    url = urlsplit(options.url)
    headers = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in options.header)}
    body = None if options.data is None else options.data.encode()
    if body is not None:
        headers.setdefault("Content-Type", "application/x-www-form-urlencoded")
    method = options.request or ("GET" if body is None else "POST")
    ends_at = time.monotonic() + options.max_time
    connection = http.client.HTTPConnection(url.hostname or "", url.port or 80, timeout=options.max_time)
    target = (url.path or "/") + (f"?{url.query}" if url.query else "")
    code, status = 0, 0
    with contextlib.ExitStack() as stack:
        stack.callback(connection.close)
        out = stack.enter_context(Path(options.output).open("wb")) if options.output else sys.stdout.buffer
        try:
            connection.request(method, target, body, headers)
            answer = connection.getresponse()
            status = answer.status
            while chunk := answer.read1(65_536):
                out.write(chunk)
                out.flush()
                if time.monotonic() > ends_at:
                    raise TimeoutError
            code = FAILED if options.fail_with_body and status >= 400 else 0
        except TimeoutError:
            code = TOO_LONG
    said = (options.write_out or "").replace("\\n", "\n").replace("%{http_code}", f"{status:03}")
    sys.stdout.buffer.write(said.replace("%{method}", method).replace("%{url_effective}", options.url).encode())
    sys.stdout.buffer.flush()
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="curl")
    parser.add_argument("url")
    for flag in ("-s", "-S", "-N"):
        parser.add_argument(flag, action="store_true")
    parser.add_argument("-H", dest="header", action="append", default=[])
    parser.add_argument("-d", dest="data")
    parser.add_argument("-o", dest="output")
    parser.add_argument("-w", dest="write_out")
    parser.add_argument("-X", dest="request")
    parser.add_argument("--max-time", type=float, default=60.0)
    parser.add_argument("--fail-with-body", action="store_true")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
