"""A fork server: imports the commands once, then runs each one in a forked process of its own.

Reads one JSON request a line from standard input and answers with one JSON line. ``start`` forks
a command and answers its process number; ``wait`` answers how that process ended.
"""

import atexit
import contextlib
import importlib
import json
import os
import pkgutil
import resource
import signal
import sys
import threading
import time
import traceback

from uap_lightning import jobs

MODULES = (
    *("craft", "train", "evaluate", "report", "predict", "scan", "export", "hub", "workspace"),
    *("perturbations.__main__", "__main__"),
)


def preload() -> None:
    """Import what every command imports, so that a fork has it already."""
    import hydra.core.plugins
    import torch

    torch.set_num_threads(1)  # no pool of threads, which a fork would lose
    for name in MODULES:
        importlib.import_module(f"uap_lightning.{name}")
    # A command imports its job only when it is run, and Lightning with it.
    for job in pkgutil.iter_modules(jobs.__path__, f"{jobs.__name__}."):
        importlib.import_module(job.name)
    for name in ("onnx", "onnxscript", "PIL.Image", "sklearn.svm", "matplotlib.pyplot"):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    hydra.core.plugins.Plugins.instance()


def child(request: dict) -> None:
    """Become the command of a request; never returns."""
    code = 1
    try:
        os.setsid()
        for number, target in ((1, request["stdout"]), (2, request["stderr"])):
            file = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            os.dup2(file, number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.chdir(request["cwd"])
        os.environ.clear()
        os.environ.update(request["env"])
        resource.setrlimit(resource.RLIMIT_DATA, (request["memory"],) * 2)
        if request["file_size"] is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (request["file_size"],) * 2)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        module = sys.modules[f"uap_lightning.{request['module']}"]
        sys.argv = [module.__file__, *request["words"]]
        try:
            module.main()
            code = 0
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
            if isinstance(ended.code, str):
                print(ended.code, file=sys.stderr)
        except BaseException:
            traceback.print_exc()
        threading._shutdown()
        atexit._run_exitfuncs()
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
        with contextlib.suppress(BaseException):
            sys.stderr.flush()
        os._exit(code)


def wait(pid: int, limit: float) -> dict:
    """How a command ended: its exit status, or minus the signal; killed when it takes too long."""
    started, hang = time.monotonic(), False
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            break
        if time.monotonic() - started > limit:
            hang = True
            os.killpg(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
            break
        time.sleep(0.004)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)  # what it may have started
    return {"code": os.waitstatus_to_exitcode(status), "hang": hang}


def serve() -> None:
    """Answer requests until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    print(json.dumps({"ready": True}), file=answers)
    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "wait":
            answer = wait(request["pid"], request["limit"])
        else:
            pid = os.fork()
            if not pid:
                child(request)
            answer = {"pid": pid}
        print(json.dumps(answer), file=answers)


if __name__ == "__main__":
    preload()
    serve()
