"""A player in the part of an S3 store: it lists objects of a dataset that were never stored, and does nothing else.

It speaks ListObjectsV2 as stores do: pages of 1000 in the order of the keys, continuation tokens, sizes, ETags, times.
"""

import hashlib
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

PAGE = 1000
SIDECAR_BYTES = 700
_MODIFIED = "2026-01-01T00:00:00.000Z"


class Listing:
    """Keys of a dataset's objects, in their order."""

    def __init__(self, prefix, num_samples, object_bytes, rx_ids):
        self._prefix = prefix
        self._samples = sorted(map(str, range(num_samples)))
        endings = ((".sigmf-data", object_bytes), (".sigmf-meta", SIDECAR_BYTES))
        self._names = sorted((f"{rx_id}{ending}", size) for rx_id in rx_ids for ending, size in endings)

    def page(self, bucket, start):
        """One answer, from the object with this number on."""
        per_sample = len(self._names)
        num_objects = len(self._samples) * per_sample
        end = min(start + PAGE, num_objects)
        contents = []
        for number in range(start, end):
            name, size = self._names[number % per_sample]
            key = f"{self._prefix}{self._samples[number // per_sample]}/{name}"
            etag = hashlib.md5(key.encode()).hexdigest()
            contents.append(
                f"<Contents><Key>{key}</Key><LastModified>{_MODIFIED}</LastModified><ETag>&quot;{etag}&quot;</ETag>"
                f"<Size>{size}</Size><StorageClass>STANDARD</StorageClass></Contents>"
            )
        more = f"<NextContinuationToken>{end}</NextContinuationToken>" if end < num_objects else ""
        return (
            '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Name>{bucket}</Name><Prefix>{self._prefix}</Prefix><KeyCount>{len(contents)}</KeyCount>"
            f"<MaxKeys>{PAGE}</MaxKeys><IsTruncated>{'true' if more else 'false'}</IsTruncated>{more}"
            f"{''.join(contents)}</ListBucketResult>"
        )


class Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # an answer leaves in one piece
    disable_nagle_algorithm = True

    def do_GET(self):
        address = urlsplit(self.path)
        query = parse_qs(address.query)
        assert query["list-type"] == ["2"], self.path
        start = int(query.get("continuation-token", ["0"])[0])
        body = self.server.listing.page(address.path.strip("/"), start).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def main(prefix, num_samples, object_bytes, *rx_ids):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    server.listing = Listing(prefix, int(num_samples), int(object_bytes), rx_ids)
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
