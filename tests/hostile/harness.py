"""Runs real commands through the fork server and judges how they end."""

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

from safetensors import SafetensorError, safe_open

ROOT = Path(__file__).resolve().parents[2]
GIB = 2**30
LIMIT = float(os.environ.get("HOSTILE_LIMIT", "60"))  # seconds; what takes longer hangs
ALL = os.environ.get("HOSTILE") == "all"
# argparse puts the name of the program before its error.
_ERROR = re.compile(r"^(\S.*: )?error: ", re.MULTILINE)
_CRASH = re.compile(r"^Traceback \(most recent|^Fatal Python error|^\s+File \".*\", line \d+", re.M)


@dataclass
class Outcome:
    """How a command ended.

    ``verdict`` is ``ok``, ``sentence`` (refused in one), ``interrupted``, ``traceback``, ``hang``
    or ``wrong``; ``why`` says what is wrong.
    """

    module: str
    words: list[str]
    verdict: str
    code: int
    said: str
    why: str = ""

    def __str__(self) -> str:
        shown = " ".join(word if len(word) < 120 else f"{word[:117]}..." for word in self.words)
        last = self.said.strip().splitlines()[-1:] or [""]
        told = self.why or last[0][-200:]
        return f"{self.verdict}: {self.module} {shown!r} (exit {self.code}): {told}"


@dataclass
class Started:
    """A command at work."""

    pid: int
    module: str
    words: list[str]
    stdout: Path
    stderr: Path
    folder: Path
    before: dict[Path, int] = field(default_factory=dict)


class Server:
    """The fork server, and what all its commands get: memory, environment, time."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.count = 0
        dead = "http://127.0.0.1:9"  # nobody listens: a download ends at once
        self.env = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("COV_", "PYTEST_"))},
            **{"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "COLUMNS": "200"},
            **{"WANDB_MODE": "offline", "WANDB_SILENT": "true", "PYTHONPATH": str(ROOT)},
            **{"http_proxy": dead, "https_proxy": dead, "HF_ENDPOINT": dead, "no_proxy": ""},
            **{"TORCH_HOME": str(scratch / "torch"), "HF_HOME": str(scratch / "hf")},
        }
        for name in ("IMAGENET_DIR", "UAP_CACHE_DIR", "UAP_TRUST", "HYDRA_FULL_ERROR"):
            self.env.pop(name, None)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.hostile.server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            cwd=ROOT,
            env=self.env,
        )
        assert json.loads(self.process.stdout.readline()) == {"ready": True}

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(timeout=30)

    def ask(self, **request) -> dict:
        self.process.stdin.write(json.dumps(request) + "\n")
        return json.loads(self.process.stdout.readline())

    def start(self, module, *words, cwd, env=None, memory=6 * GIB, file_size=None) -> Started:
        self.count += 1
        stdout, stderr = (self.scratch / f"{self.count}.{name}" for name in ("out", "err"))
        before = stamps(cwd)
        answer = self.ask(
            do="start",
            module=module,
            words=words,
            cwd=str(cwd),
            env={**self.env, **(env or {})},
            stdout=str(stdout),
            stderr=str(stderr),
            memory=memory,
            file_size=file_size,
        )
        return Started(answer["pid"], module, list(words), stdout, stderr, cwd, before)

    def wait(self, started: Started, limit: float = LIMIT) -> Outcome:
        ended = self.ask(do="wait", pid=started.pid, limit=limit)
        out, err = (path.read_text(errors="replace") for path in (started.stdout, started.stderr))
        return judge(started, ended["code"], ended["hang"], out, err)


def judge(started: Started, code: int, hang: bool, out: str, err: str) -> Outcome:
    """What the ending of a command amounts to."""
    said = f"{out}\n{err}"
    outcome = Outcome(started.module, started.words, "wrong", code, said)
    sentences = _ERROR.findall(err)
    # Python ends by the signal itself where it met it in code that a compiled module runs; a shell
    # shows both as 130.
    code = 130 if code == -signal.SIGINT and "interrupted: " in err else code
    if hang:
        outcome.verdict, outcome.why = "hang", "it was killed for taking too long"
    elif _CRASH.search(said) or (code < 0 and code != -9):
        outcome.verdict = "traceback"
    elif code == -9:
        outcome.verdict = "killed"
    elif code == 130:
        told = "interrupted: " in err
        outcome.verdict, outcome.why = ("interrupted", "") if told else ("wrong", "not told so")
    elif code and len(sentences) != 1:
        outcome.why = f"{len(sentences)} sentences begin with 'error: ' on standard error"
    elif "\x1b" in said:
        outcome.why = "escape codes for a terminal in a file"
    elif re.search(r" at 0x[0-9a-f]{6,}", said):
        outcome.why = "an object's address is shown"
    else:
        outcome.verdict = "sentence" if code else "ok"
        full = "No space left" in said or "File too large" in said
        outcome.why = odd_files(started, outcome.verdict, ends_told=not full)
        if outcome.why:
            outcome.verdict = "wrong"
    return outcome


def stamps(folder: Path) -> dict[Path, int]:
    """When each file below a folder was written."""
    found = {}
    for base, _, names in os.walk(folder):
        for name in names:
            path = Path(base, name)
            found[path] = path.lstat().st_mtime_ns
    return found


def odd_files(started: Started, verdict: str, *, ends_told: bool = True) -> str:
    """What is odd about the files that a command wrote; nothing where it left them whole.

    ``ends_told`` is whether results.json says how the run ended: a full disk may not take it.
    """
    for path, stamp in stamps(started.folder).items():
        if started.before.get(path) == stamp or path.is_symlink() or not path.is_file():
            continue
        inside = path.relative_to(started.folder)
        if path.name.startswith(".") and not path.name.endswith(".lock"):
            return f"{inside} is left over"
        try:
            if path.suffix == ".json":
                content = json.loads(path.read_text(), parse_constant=_no_constant)
                status = content.get("status") if isinstance(content, dict) else None
                wanted = {"ok": "ok", "sentence": "failed"}[verdict]
                alone = ends_told and started.before == {} and "-m" not in started.words
                if path.name == "results.json" and status != wanted and alone:
                    return f"{inside} has status {status}"
                if path.name == "results.json" and status == "ok":
                    check_rows(content["rows"])
            elif path.suffix == ".safetensors":
                with safe_open(path, framework="pt"):
                    pass
        except (ValueError, SafetensorError, UnicodeError) as error:
            return f"{inside} is half written or holds odd values ({error})"
    return ""


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} in JSON")


def check_rows(rows: list[dict]) -> None:
    """Percentages lie between 0 and 100."""
    for row in rows:
        for key, value in row.items():
            share = key.startswith(("acc_", "detection", "fooling")) and value is not None
            if share and not 0 <= value <= 100:
                raise ValueError(f"{key} is {value}")


def summary(outcome: Outcome) -> str:
    """An outcome as a test's report carries it between processes."""
    return json.dumps({**asdict(outcome), "said": "", "line": str(outcome)})
