"""A language model's endpoint for tests: a real server, of ours, that answers what it is told to."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TEXT = (
    "Fetus at 21+3 weeks today. BPD 52.3 mm. No ventricular septal defect. "
    "The thalami look fine, the cerebellum was not seen."
)


class Endpoint:
    """Answers in turn what ``answers`` holds, the last one for ever: facts, raw text, or a status with headers."""

    def __init__(self):
        self.answers, self.bodies, self.headers, self.paths = [[]], [], [], []
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                endpoint.bodies.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
                endpoint.headers.append(dict(self.headers))
                endpoint.paths.append(self.path)
                answer = endpoint.answers.pop(0) if len(endpoint.answers) > 1 else endpoint.answers[0]
                endpoint.reply(self, answer)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.released = threading.Event()
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def reply(self, handler, answer):
        if answer == "hang":
            self.released.wait(5)
            return
        status, headers, content = answer if isinstance(answer, tuple) else (200, {}, answer)
        if not isinstance(content, str):
            content = json.dumps(
                {"facts": [dict(zip(("fact", "value", "quote"), fact, strict=True)) for fact in content]}
            )
        body = json.dumps({"choices": [{"message": {"role": "assistant", "content": content}}]}).encode()
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    def close(self):
        self.released.set()
        self.server.shutdown()
        self.server.server_close()


def taken(prose, text=TEXT, names=()):
    """Facts and values that a reader of prose takes of a text, and the reasons of its faults."""
    statements, faults = prose(text, "column report", names)
    return {(statement.fact, statement.value) for statement in statements}, [fault.reason for fault in faults]
