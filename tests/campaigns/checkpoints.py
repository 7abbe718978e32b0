"""Crafted checkpoints: pickled code, bombs, wrong types, foreign paths and endpoints.

``python tests/campaigns/checkpoints.py`` prints the counts. Each file is given to ``recommend``:
none of its code may run, and a file that cannot be used must be refused in one line. If only
settings are crafted, they must be ignored: the recommendations are those of the honest file.
"""

from __future__ import annotations

import copy
import os
import pickle
import socket
import tempfile
import threading
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from click.testing import CliRunner

from recbole_llm import run_recbole_llm, testing
from recbole_llm.cli import main
from recbole_llm.core.plugins.loading import get_plugins, list_encoders
from recbole_llm.testing import write_tiny_dataset

SENTINEL = "executed"
SECRET = "RECBOLE_LLM_TEST_SECRET"
SERVER = socket.create_server(("127.0.0.1", 0))  # the attacker's
PORT = SERVER.getsockname()[1]
KEYS = {
    "show_progress": False, "data_path": "dataset", "encoder": "hash",
    "epochs": 1, "hidden_size": 8, "n_layers": 1, "n_heads": 1, "MAX_ITEM_LIST_LENGTH": 8,
    "state": "error",
}  # fmt: skip
State = dict[str, Any]
Write = Callable[[State, Path], None]


class Payload:
    """An object that runs code when it is unpickled."""

    def __reduce__(self) -> Any:
        return os.mkdir, (SENTINEL,)


def _with(**changes: Any) -> Write:
    def write(state: State, file: Path) -> None:
        torch.save({**state, **changes}, file)

    return write


def _without(key: str) -> Write:
    return lambda state, file: torch.save({k: v for k, v in state.items() if k != key}, file)


def _config(**changes: Any) -> Write:
    return lambda state, file: torch.save({**state, "config": {**state["config"], **changes}}, file)


def _weights(edit: Callable[[torch.Tensor], Any]) -> Write:
    """Write a checkpoint with an edited item table."""

    def write(state: State, file: Path) -> None:
        weights = OrderedDict(state["state_dict"])
        weights["item_embedding.weight"] = edit(weights["item_embedding.weight"])
        torch.save({**state, "state_dict": weights}, file)

    return write


def _tokens(edit: Callable[[Any], Any]) -> Write:
    def write(state: State, file: Path) -> None:
        torch.save({**state, "tokens": edit(copy.deepcopy(state["tokens"]))}, file)

    return write


def _bytes(edit: Callable[[bytes], bytes]) -> Write:
    def write(state: State, file: Path) -> None:
        torch.save(state, file)
        file.write_bytes(edit(file.read_bytes()))

    return write


def _pickled(state: State, file: Path) -> None:
    file.write_bytes(pickle.dumps(Payload()))


def _legacy(state: State, file: Path) -> None:
    torch.save({**state, "more": Payload()}, file, _use_new_zipfile_serialization=False)


def _bomb(state: State, file: Path) -> None:
    """An archive that unpacks to a thousand times its size."""
    torch.save(state, file)
    with zipfile.ZipFile(file) as old:
        parts = {name: old.read(name) for name in old.namelist()}
    root = next(iter(parts)).partition("/")[0]
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as new:
        for name, content in parts.items():
            new.writestr(name, content)
        new.writestr(f"{root}/data/999", bytes(100 * 2**20))


def _overlapping(state: State, file: Path) -> None:
    """An archive in which many names share one part."""
    torch.save(state, file)
    with zipfile.ZipFile(file, "a") as archive:
        largest = max(archive.infolist(), key=lambda part: part.file_size)
        for number in range(50):
            twin = copy.copy(largest)
            twin.filename = f"{largest.filename}{number}"
            archive.filelist.append(twin)
        archive._didModify = True  # type: ignore[attr-defined]


def _laughs(depth: int) -> Any:
    value: Any = ["ha"] * 10
    for _ in range(depth):
        value = [value] * 10
    return value


def _cycle() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


def _nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def _link(target: str) -> Write:
    def write(state: State, file: Path) -> None:
        file.symlink_to(target)

    return write


def _cut(packed: Any) -> Any:
    packed["item_id"]["utf8"] = packed["item_id"]["utf8"][:-3]
    return packed


def _negative(packed: Any) -> Any:
    packed["item_id"]["lengths"][1] = -5
    return packed


def _twice(packed: Any) -> Any:
    packed["item_id"]["lengths"][:] = 0
    packed["item_id"]["lengths"][0] = len(packed["item_id"]["utf8"])
    return packed


def _foreign(packed: Any) -> Any:
    packed["item_id"]["utf8"][5:] = ord("x")
    return packed


# Files that must be refused in one line.
REFUSED: dict[str, Write] = {
    "a pickle": _pickled,
    "an old-format archive with code": _legacy,
    "code beside the weights": _with(more=Payload()),
    "code as the weights": _with(state_dict=Payload()),
    "code in the configuration": _config(seed=Payload()),
    "code among the tokens": _with(tokens={"item_id": Payload()}),
    "code in other_parameter": _with(other_parameter={"phase": Payload()}),
    "a compressed bomb": _bomb,
    "parts that overlap": _overlapping,
    "exponential lists": _with(more=_laughs(12)),
    "a list in itself": _with(more=_cycle()),
    "deep lists": _with(more=_nested(400)),
    "cut in half": _bytes(lambda b: b[: len(b) // 2]),
    "cut by a byte": _bytes(lambda b: b[:-1]),
    "zeros": _bytes(lambda b: bytes(len(b))),
    "empty": _bytes(lambda b: b""),
    "text": _bytes(lambda b: b"hello"),
    "flipped bytes": _bytes(lambda b: b[:200] + bytes(x ^ 255 for x in b[200:400]) + b[400:]),
    "a list": lambda state, file: torch.save([1, 2], file),
    "a tensor": lambda state, file: torch.save(torch.zeros(3), file),
    "no configuration": _without("config"),
    "no weights": _without("state_dict"),
    "no tokens": _without("tokens"),
    "a configuration that is a list": _with(config=[1]),
    "numbers as keys of the configuration": _with(config={1: 2}),
    "no model": _config(model=None),
    "no data set": _config(dataset=3),
    "a data set somewhere else": _config(dataset="../../../etc"),
    "an unknown model": _config(model="Evil"),
    "another model": _config(model="GRU4Rec"),
    "an unknown encoder": _config(encoder="os.system"),
    "a size of another type": _config(hidden_size="many"),
    "a huge size": _config(hidden_size=10**12),
    "a negative size": _config(n_layers=-1),
    "infinite": _config(hidden_dropout_prob=float("inf")),
    "fields that are not there": _config(USER_ID_FIELD="who"),
    "another shape": _config(hidden_size=16),
    "weights that are a list": _with(state_dict=[1, 2]),
    "weights of text": _weights(lambda w: "text"),
    "weights of another shape": _weights(lambda w: w[:5]),
    "weights without numbers": _weights(lambda w: w * float("nan")),
    "weights larger than the file": _weights(lambda w: torch.zeros(1).expand(10**6, 10**6)),
    "sparse weights of a huge shape": _weights(
        lambda w: torch.sparse_coo_tensor([[0], [0]], [1.0], (10**12, 10**6))
    ),
    "a method in other_parameter": _with(other_parameter={"full_sort_predict": "x"}),
    "other_parameter that is a list": _with(other_parameter=[1]),
    "a sparse matrix of a huge shape": _with(
        other_parameter={"w": {"__sparse__": [torch.zeros(0)] * 3, "shape": [10**15, 1]}}
    ),
    "a sparse matrix that grows": _with(
        other_parameter={"w": {"__sparse__": [torch.arange(5), torch.arange(5), torch.ones(5)],
                               "shape": [9, 9], "format": "dia"}}
    ),
    "tokens that are a list": _with(tokens=[1]),
    "tokens without anything": _tokens(lambda t: {"item_id": {}}),
    "tokens cut short": _tokens(_cut),
    "tokens of negative length": _tokens(_negative),
    "one token for all": _tokens(_twice),
    "tokens of another data set": _tokens(_foreign),
    "a link to nowhere": _link("nowhere"),
    "a link to itself": _link("x.pth"),
    "a link to a device": _link("/dev/zero"),
    "a link to a folder": _link("."),
}  # fmt: skip


def _endpoint(state: State, file: Path) -> None:
    """A model that reads texts, whose encoder is at the attacker's endpoint."""
    state = torch.load("text.pth", weights_only=True)
    own = {"encoder": "openai", "encoder_model": "m", "encoder_api_key_env": SECRET}
    _config(**own, encoder_base_url=f"http://127.0.0.1:{PORT}/v1")(state, file)


REFUSED["texts for another's endpoint"] = _endpoint
# Crafted settings that must have no effect.
IGNORED: dict[str, Write] = {
    "an honest file": _with(),
    "a saved data set": _config(dataset_save_path="evil.pkl", save_dataset=True),
    "saved loaders": _config(dataloaders_save_path="evil.pkl", save_dataloaders=True),
    "a folder of checkpoints": _config(checkpoint_dir="/"),
    "another's endpoint and secret": _config(
        encoder="openai",
        encoder_model="m",
        encoder_base_url=f"http://127.0.0.1:{PORT}/v1",
        encoder_api_key_env=SECRET,
    ),
    "a log at another's": _config(log_wandb=True, wandb_project="evil"),
    "a pretrained model": _config(pre_model_path="evil.pkl", pad_pretrained="evil.pkl"),
    "more processes": _config(local_rank=3, world_size=9, ip="127.0.0.1", port=1, nproc=9),
    "another GPU": _config(gpu_id="7", device="cuda:7"),
    "an encoder's files": _config(encoder_model="/etc", embedding_path="/etc/passwd"),
    "a template file": _config(item_prompt="/etc/passwd.jinja"),
    "code as a setting": _config(teacher="__import__('os').mkdir('executed')"),
    "keys that nobody knows": _config(**{"__class__": "x", "final_config_dict": {}}),
    "a type of another model": _config(MODEL_TYPE="GENERAL", eval_type="VALUE", single_spec=False),
    "features of nothing": _with(features={}),
    "a link": _link("honest.pth"),
}


class _Listener:
    """A server that notes whether anyone calls."""

    def __init__(self) -> None:
        self.socket, self.calls = SERVER, 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                self.socket.accept()[0].close()
            except OSError:
                return
            self.calls += 1


def recommend(file: str) -> tuple[int, str]:
    """Exit status and output of the command."""
    done = CliRunner().invoke(
        main, ["recommend", f"--checkpoint={file}", "--users=u1,u2", "--state=critical"]
    )
    return done.exit_code, done.output


def campaign() -> tuple[Counter[str], list[str]]:
    """Run all cases in the current folder; return the counts, and what went wrong."""
    if "hash" not in list_encoders():
        get_plugins().register(testing, "testing")
    write_tiny_dataset("dataset")
    os.environ[SECRET] = "word"
    listener = _Listener()
    os.rename(run_recbole_llm("SASRec", "tiny", config_dict=KEYS)["checkpoint"], "honest.pth")
    os.rename(run_recbole_llm("AlphaRec", "tiny", config_dict=KEYS)["checkpoint"], "text.pth")
    Path("evil.pkl").write_bytes(pickle.dumps(Payload()))
    for name in ("tiny-SequentialDataset.pth", "tiny-for-SASRec-dataloader.pth"):
        Path("saved", name).write_bytes(pickle.dumps(Payload()))
    counts: Counter[str] = Counter()
    expected = recommend("honest.pth")
    wrong = [] if expected[0] == 0 else [f"the honest file: {expected[1]}"]
    for kind, name, write in _cases():
        problem = _try(kind, write, expected, listener)
        counts[kind] += 1
        counts["wrong"] += problem is not None
        if problem is not None:
            wrong.append(f"{name}: {problem}")
    return counts, wrong


def _cases() -> Iterator[tuple[str, str, Write]]:
    yield from (("refused", name, write) for name, write in REFUSED.items())
    yield from (("ignored", name, write) for name, write in IGNORED.items())


def _try(kind: str, write: Write, expected: tuple[int, str], listener: _Listener) -> str | None:
    file = Path("x.pth")
    file.unlink(missing_ok=True)
    state = torch.load("honest.pth", weights_only=True)
    write(state, file)
    status, output = recommend("x.pth")
    if Path(SENTINEL).exists():
        os.rmdir(SENTINEL)
        return "its code was run"
    if listener.calls:
        listener.calls = 0
        return "it was sent something"
    if kind == "ignored":
        return None if (status, output) == expected else f"changed the result: {output[:300]}"
    lines = output.strip().splitlines()
    if status != 2 or len(lines) != 1 or not lines[0].startswith("error: "):
        return f"status {status}: {output[:500]}"
    return None


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        found, problems = campaign()
        os.chdir("/")
    print(f"{found['refused']} files refused, {found['ignored']} settings ignored; "
          f"{found['wrong']} wrong")  # fmt: skip
    print("\n".join(problems))
    raise SystemExit(bool(problems))
