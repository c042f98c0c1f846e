"""What a process without credentials gets from every port and socket of an S3 server; run as a program of its own.

Its standard input has the ports, the sockets and the authority's certificate, which is no secret; it prints, as JSON,
each answer: what was asked, and what came.
"""

import json
import ssl
import sys
import tempfile
from pathlib import Path

import grpc
import urllib3

from heimdall_pipelines.local.certificates import make_certificates

HTTP_ROUTES = [
    ("GET", "/"),
    ("GET", "/ui/index.html"),
    ("GET", "/cluster/status"),
    ("GET", "/status"),
    ("GET", "/metrics"),
    ("GET", "/healthz"),
    ("GET", "/health"),
    ("GET", "/dir/status"),
    ("GET", "/dir/assign"),
    ("POST", "/dir/assign"),
    ("GET", "/dir/assign?collection=some-bucket"),
    ("GET", "/dir/lookup?volumeId=1"),
    ("GET", "/dir/lookup?fileId=1,0123456789"),
    ("GET", "/vol/status"),
    ("GET", "/vol/vacuum"),
    ("GET", "/vol/grow?count=1"),
    ("GET", "/collection/info?collection=some-bucket"),
    ("POST", "/submit"),
    ("GET", "/buckets/"),
    ("GET", "/buckets/some-bucket/many/1"),
    ("PUT", "/buckets/some-bucket/evil"),
    ("DELETE", "/buckets/some-bucket/many/1"),
    ("DELETE", "/buckets/some-bucket?recursive=true"),
    ("GET", "/.tus/"),
    ("GET", "/some-bucket"),
    ("GET", "/some-bucket/many/1"),
    ("PUT", "/some-bucket/evil"),
    ("DELETE", "/some-bucket/many/1"),
    ("POST", "/?Action=ListUsers&Version=2010-05-08"),
    ("GET", "/api/cluster/topology"),
    ("GET", "/api/s3/buckets"),
    ("GET", "/col/delete?collection=some-bucket"),
    ("POST", "/col/delete?collection=some-bucket"),
]
BUCKET = b"\x0a\x0bsome-bucket"  # field 1 of a protobuf message
GRPC_METHODS = [
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", b"\x3a\x00"),
    ("/master_pb.Seaweed/CollectionList", b"\x08\x01"),
    ("/master_pb.Seaweed/LookupVolume", b""),
    ("/master_pb.Seaweed/Assign", b"\x08\x01"),
    ("/master_pb.Seaweed/VacuumVolume", b""),
    ("/master_pb.Seaweed/CollectionDelete", BUCKET),
    ("/filer_pb.SeaweedFiler/GetFilerConfiguration", b""),
    ("/filer_pb.SeaweedFiler/DeleteCollection", BUCKET),
    ("/volume_server_pb.VolumeServer/VolumeServerStatus", b""),
    ("/volume_server_pb.VolumeServer/DeleteCollection", BUCKET),
    ("/worker_pb.WorkerService/ListTasks", b""),
]


def http_answers(port: int) -> list[dict[str, object]]:
    answers = []
    for scheme in ("http", "https"):
        with urllib3.PoolManager(timeout=5, retries=False, cert_reqs=ssl.CERT_NONE) as client:
            for method, route in HTTP_ROUTES:
                try:
                    got: int | str = client.request(method, f"{scheme}://127.0.0.1:{port}{route}").status
                except urllib3.exceptions.HTTPError as error:
                    got = type(error).__name__
                answers.append({"by": scheme, "port": port, "asked": f"{method} {route}", "got": got})
    return answers


def grpc_answers(target: str, authority: bytes) -> list[dict[str, object]]:
    answers = []
    for by, channel in channels(target, authority).items():
        with channel:
            for method, message in GRPC_METHODS:
                got = grpc_code(channel, method, message)
                answers.append({"by": by, "port": target, "asked": method, "got": got})
                if got == "UNAVAILABLE":  # no connection, whatever is asked
                    break
    return answers


def channels(target: str, authority: bytes) -> dict[str, grpc.Channel]:
    """Without TLS; as a client that trusts the server and has no certificate, or one that it made itself."""
    with tempfile.TemporaryDirectory() as folder:
        own = make_certificates(Path(folder) / "own")
        own_certificate = {"private_key": own.key.read_bytes(), "certificate_chain": own.certificate.read_bytes()}
    return {
        "grpc": grpc.insecure_channel(target),
        "grpc, no certificate": secure_channel(target, authority),
        "grpc, own certificate": secure_channel(target, authority, **own_certificate),
    }


def secure_channel(target: str, authority: bytes, **certificate: bytes) -> grpc.Channel:
    credentials = grpc.ssl_channel_credentials(root_certificates=authority, **certificate)
    return grpc.secure_channel(target, credentials, options=[("grpc.ssl_target_name_override", "127.0.0.1")])


def grpc_code(channel: grpc.Channel, method: str, message: bytes) -> str:
    try:
        channel.unary_unary(method)(message, timeout=5)
    except grpc.RpcError as error:
        return str(error.code().name)
    return "OK"


def main() -> None:
    asked = json.load(sys.stdin)
    answers = [answer for port in asked["ports"] for answer in http_answers(port)]
    for target in [f"127.0.0.1:{port}" for port in asked["ports"]] + [f"unix:{path}" for path in asked["sockets"]]:
        answers += grpc_answers(target, asked["authority"].encode())
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
