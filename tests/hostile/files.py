"""What may stand where a file is expected."""

import os
import pickle


def replace_file(path, how):
    """Put something else in a file's place."""
    content = path.read_bytes() if path.exists() else b""
    path.unlink(missing_ok=True)
    if how == "fifo":
        os.mkfifo(path)
    elif how in ("/dev/zero", "/dev/urandom", "/dev/stdin", "/proc/self/mem", "/nope"):
        path.symlink_to(how)
    elif how == "loop":
        path.symlink_to(path)
    elif how == "folder":
        path.mkdir()
    elif how != "missing":
        path.write_bytes(
            {
                "empty": b"",
                "half": content[: len(content) // 2],
                "pickle": pickle.dumps({"a": print}),
                "text": b"no such thing",
                "bytes": b"\xff\xfe\x00" * 50,
                "deep": b"[" * 10_000 + b"]" * 10_000,
                "deep object": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
                "list": b"[]",
                "number": b"1" + b"0" * 5000,
                "constant": b"NaN",
                "object": b"{}",
                "header": b"\xff" * 8 + b"{}",
                "large header": (10**8).to_bytes(8, "little") + b"{" * 100,
            }[how]
        )


WAYS = (
    *("fifo", "/dev/zero", "/dev/urandom", "/nope", "loop", "folder", "missing", "empty", "half"),
    *("pickle", "text", "bytes", "deep", "deep object", "list", "number", "constant", "object"),
    *("header", "large header"),
)
