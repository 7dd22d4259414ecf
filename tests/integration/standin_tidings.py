"""Plays every command that ``tidings up`` starts: roles that are ready and leave when asked, and steps that end.

What it does and with what is noted in data_dir/seen, a line each. A file data_dir/break-ROLE makes that role fail.
"""

import json
import os
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

ROLE = sys.argv[1]
DATA_DIR = Path(os.environ["TIDINGS_DATA_DIR"])


def seen(what: str) -> None:
    with (DATA_DIR / "seen").open("a") as file:
        file.write(f"{what} {ROLE}\n")


class Ready(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def step() -> None:
    if ROLE == "bootstrap" and not (DATA_DIR / "api_key").exists():
        (DATA_DIR / "api_key").write_text("td_live_test\n")
    if ROLE == "demo":
        print("demonstrated", os.environ["TIDINGS_API_KEY"])


def role() -> None:
    server = HTTPServer(("127.0.0.1", int(os.environ["TIDINGS_OPS_PORT"])), Ready)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever()
    seen("left")


if (DATA_DIR / f"break-{ROLE}").exists():
    sys.exit(f"{ROLE} is broken")
(DATA_DIR / f"environment-{ROLE}").write_text(json.dumps(dict(os.environ)))
seen("started")
step() if ROLE in ("migrate", "bootstrap", "demo") else role()
