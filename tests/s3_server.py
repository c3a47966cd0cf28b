"""An object store on loopback that speaks S3: moto's server, with a record of its answers, and faults on demand."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote
from urllib.request import Request, urlopen

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server


@dataclass
class Answered:
    method: str
    name: str
    """Last part of the path, which is an object's name or a bucket's."""
    sent_bytes: int


class Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, *_: Any) -> None:
        pass


class S3Server:
    """A bucket of its own for each test, and the store's answers."""

    def __init__(self) -> None:
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True, request_handler=Quiet)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self._buckets = itertools.count()
        self.new_bucket()
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def new_bucket(self) -> None:
        self.bucket = f"bucket-{next(self._buckets)}"
        self.url = f"s3://{self.bucket}/some/prefix"
        self.answered: list[Answered] = []
        # Method, name and query of a request; a status that is an error has the server refuse it.
        self.fault: Callable[[str, str, str], int | None] = lambda method, name, query: None

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def request(self, method: str, name: str = "", content: bytes | None = None) -> bytes:
        """As from another client; of an object below the URL's prefix, or of the bucket."""
        return self.request_at(method, f"{self.bucket}/some/prefix/{name}" if name else self.bucket, content)

    def request_at(self, method: str, path: str, content: bytes | None = None) -> bytes:
        """The same of any path, which is a bucket with or without a key in it."""
        # moto asks who it is, and believes it.
        headers = {
            "Authorization": "AWS4-HMAC-SHA256 Credential=someone/20260101/us-east-1/s3/aws4_request",
            "Content-Type": "application/octet-stream",
        }
        with urlopen(Request(f"{self.endpoint}/{quote(path)}", content, headers, method=method)) as response:
            answer: bytes = response.read()
        return answer

    def sent(self, suffix: str) -> list[int]:
        """Bytes of each answer to a GET of objects whose names end so."""
        return [each.sent_bytes for each in self.answered if each.method == "GET" and each.name.endswith(suffix)]

    def _answer(self, environment: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        method, name = environment["REQUEST_METHOD"], environment["PATH_INFO"].rpartition("/")[2]
        status = self.fault(method, name, environment["QUERY_STRING"])
        if status is not None:
            environment["wsgi.input"].read(int(environment.get("CONTENT_LENGTH") or 0))
            start_response(f"{status} refused", [("Content-Length", "0")])
            return [b""]
        content = b"".join(self._moto(environment, start_response))
        self.answered.append(Answered(method, name, len(content)))
        return [content]
