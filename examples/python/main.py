"""A WSGI app on Python's standard library, listening where Lode says: on PORT.

    lode deploy examples/python
"""

import os
from datetime import datetime, timezone
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIServer, make_server


def app(environ, start_response):
    if environ["PATH_INFO"] != "/":
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return [b"Not found\n"]
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"Python on Lode, {datetime.now(timezone.utc):%H:%M:%S} UTC\n".encode()]


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


if __name__ == "__main__":
    port = int(os.environ["PORT"])
    with make_server("0.0.0.0", port, app, server_class=Server) as server:
        print(f"listening on {port}", flush=True)
        server.serve_forever()
