"""The S3 server of a rehearsal: localbucket, which keeps objects on disk, with three things that it lacks.

Usage: ``python -m deployments.cluster_rehearsal.store FOLDER HOST PORT``. Requests have to be signed with the
key of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; writes may ask for the version that they replace
(If-Match), as S3 itself has it, so that leases hold between machines; and several objects may be deleted in
one request.
Belongs here: these three. Not here: starting it (`cluster`), how a signature is checked (`signatures`).
"""

from __future__ import annotations

import os
import sys
import threading
import xml.etree.ElementTree as ElementTree
from http import HTTPStatus
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import localbucket

from deployments.cluster_rehearsal.signatures import is_signed

_WRITING = threading.Lock()


class Handler(localbucket.S3Handler):
    """Requests, and nothing said of each."""

    key = secret = ""
    """Of whoever may do anything; nobody else may do anything."""

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def _dispatch(self, action: Any) -> None:
        def checked(bucket: str, key: str) -> None:
            if not is_signed(self.command, self.path, self.headers, self.key, self.secret):
                self.close_connection = True  # its body is not read
                raise localbucket.S3Error(
                    HTTPStatus.FORBIDDEN, "AccessDenied", "It is not signed with the server's key."
                )
            action(bucket, key)

        super()._dispatch(checked)

    def _write_object(self, bucket: str, key: str, write: Any) -> Any:
        expected = self.headers.get("If-Match")
        with _WRITING:
            if expected is not None:
                target = self._object_path(bucket, key)
                etag = localbucket.object_etag(target) if target.is_file() else None
                if etag is None or not localbucket.etag_matches(expected, etag):
                    raise localbucket.S3Error(
                        HTTPStatus.PRECONDITION_FAILED, "PreconditionFailed", "It is another version by now."
                    )
            return super()._write_object(bucket, key, write)

    def _post_request(self, bucket: str, key: str) -> None:
        if key or "delete" not in self.query:
            super()._post_request(bucket, key)
            return
        asked = ElementTree.fromstring(self._read_body())
        root = ElementTree.Element("DeleteResult", xmlns=localbucket.S3_NAMESPACE)
        for name in (one.findtext("{*}Key") or "" for one in asked.findall("{*}Object")):
            self._object_path(bucket, name).unlink(missing_ok=True)
            ElementTree.SubElement(ElementTree.SubElement(root, "Deleted"), "Key").text = name
        self._send_xml(root)


def main(folder: str, host: str, port: str) -> None:
    """Serve until killed. Raises KeyError where the environment has no key."""
    Handler.key, Handler.secret = os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
    Handler.data_root = Path(folder).resolve()
    Handler.data_root.mkdir(parents=True, exist_ok=True)
    ThreadingHTTPServer((host, int(port)), Handler).serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
