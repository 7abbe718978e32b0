from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from recbole_llm.features.tables.table import TableError
from recbole_llm.features.tables.table_io import read_table

TOKENS = ["10", "a b", "ü"]
VECTORS = np.array([[1, 2], [-0.5, 0.25], [0, 3]], np.float32)


def by_save(path: Path) -> None:
    if path.suffix.lower() == ".npz":
        with path.open("wb") as file:
            np.savez(file, vectors=VECTORS, tokens=np.array(TOKENS))
    elif path.suffix == ".npy":
        np.save(path, VECTORS)
        path.with_suffix(".tokens").write_text("\n".join(TOKENS) + "\n", encoding="utf-8")
    else:
        from safetensors.numpy import save_file

        save_file({"vectors": VECTORS}, path, {"tokens": json.dumps(TOKENS)})


def safetensors_beside(path: Path) -> None:
    from safetensors.numpy import save_file

    save_file({"emb": VECTORS.astype(np.float16)}, path)
    path.with_suffix(".tokens").write_text("10\na b\nü", encoding="utf-8")


def parquet_list(path: Path) -> None:
    import pandas as pd

    pd.DataFrame({"token": TOKENS, "vector": VECTORS.tolist()}).to_parquet(path)


def parquet_wide(path: Path) -> None:
    import pandas as pd

    frame = pd.DataFrame(VECTORS, columns=["x", "y"])
    frame.insert(0, "item", TOKENS)
    frame.to_parquet(path)


def csv(path: Path) -> None:
    path.write_text("x,token,y\n1,10,2\n-0.5,a b,0.25\n0,ü,3\n", encoding="utf-8")


def pt_pair(path: Path) -> None:
    torch.save({"tokens": TOKENS, "vectors": torch.tensor(VECTORS).double()}, path)


def pt_dict(path: Path) -> None:
    torch.save({t: torch.tensor(v) for t, v in zip(TOKENS, VECTORS, strict=True)}, path)


def atomic(path: Path) -> None:
    path.write_text("iid:token\temb:float_seq\n10\t1 2\na b\t-0.5 0.25\nü\t0 3\n", encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("v.npy", by_save),
        ("v.npz", by_save),
        ("V.NPZ", by_save),
        ("v.safetensors", by_save),
        ("v.safetensors", safetensors_beside),
        ("v.parquet", parquet_list),
        ("v.parquet", parquet_wide),
        ("v.csv", csv),
        ("v.pt", pt_pair),
        ("v.pt", pt_dict),
        ("small.itememb", atomic),
    ],
)
def test_every_format_gives_the_same_table(
    tmp_path: Path, name: str, write: Callable[[Path], None]
) -> None:
    write(tmp_path / name)
    table = read_table(tmp_path / name, dimensions=2)
    assert list(table.tokens) == TOKENS
    assert table.matrix.dtype == np.float32
    np.testing.assert_array_equal(table.matrix, VECTORS)


def test_tokens_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    by_save(tmp_path / "v.npy")
    file = tmp_path / "v.tokens"
    file.write_text(file.read_text(encoding="utf-8"), encoding="utf-8-sig")
    assert list(read_table(tmp_path / "v.npy").tokens) == TOKENS


def test_npy_is_memory_mapped(tmp_path: Path) -> None:
    by_save(tmp_path / "v.npy")
    assert isinstance(read_table(tmp_path / "v.npy").matrix.base, np.memmap)


def test_the_fingerprint_covers_vectors_and_names(tmp_path: Path) -> None:
    by_save(tmp_path / "v.npy")
    first = read_table(tmp_path / "v.npy").fingerprint
    (tmp_path / "v.tokens").write_text("10\na b\nu\n")
    second = read_table(tmp_path / "v.npy").fingerprint
    np.save(tmp_path / "v.npy", VECTORS + 1)
    assert len({first, second, read_table(tmp_path / "v.npy").fingerprint}) == 3


def npz(path: Path, **arrays: np.ndarray) -> None:
    np.savez(path, **arrays)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("v.csv", b"token,x\na,1\nb,\n", "1 of 2 vectors lack a number: 'b'"),
        ("v.csv", b"token,x,name\na,1,A\nb,2,B\n", "columns that are no numbers: 'name'; leave"),
        ("v.csv", b"token,x\na,1\nb,1,2\n", "cannot be read as .csv"),
        ("v.csv", b"token,x,y\n", "it has no rows"),
        ("v.csv", b",token,x\n0,a,1\n1,b,2\n", "a column without a name beside 'token'"),
        ("v.npz", b"not a zip", "cannot be read as .npz"),
        ("v.pt", b"not a pickle", "cannot be read as .pt"),
        ("v.parquet", b"PAR", "cannot be read as .parquet"),
        ("v.safetensors", b"12345678", "cannot be read as .safetensors"),
        ("v.npy", b"", "cannot be read as .npy"),
        ("x.itememb", b"iid:token\te:float_seq\na\t1 2\nb\t1\nc\t3 4\n",
         "1 of 3 vectors are not 2 wide: 'b'"),
        ("x.itememb", b"iid:token\te:token\na\t1\n",
         "its fields are iid:token, e:token; one :token and one :float_seq are needed"),
        ("x.itememb", b"iid:token\te:float_seq\na\t1 x\n", "could not convert string to float"),
    ],
)  # fmt: skip
def test_damaged_files_are_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TableError, match=message) as caught:
        read_table(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


def test_files_with_bad_tables_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "v.npz"
    npz(file, vectors=VECTORS, names=np.array(TOKENS))
    with pytest.raises(TableError, match="arrays 'vectors', 'names'; 'vectors' and 'tokens'"):
        read_table(file)
    npz(file, vectors=VECTORS, tokens=np.array(["a", "b", "a"]))
    with pytest.raises(TableError, match=r"v\.npz': 1 token with more than one row: 'a'"):
        read_table(file)
    npz(file, vectors=VECTORS, tokens=np.array(TOKENS))
    with pytest.raises(TableError, match="width 2, encoder_dimensions is 3"):
        read_table(file, dimensions=3)
    npz(file, vectors=VECTORS, tokens=np.array(TOKENS, object))
    with pytest.raises(TableError, match=r"are Python objects, .* as np\.array\(tokens, str\)"):
        read_table(file)


def test_tokens_of_bytes_are_read_as_text(tmp_path: Path) -> None:
    names = np.char.encode(np.array(TOKENS), "utf-8")
    npz(tmp_path / "v.npz", vectors=VECTORS, tokens=names)
    assert list(read_table(tmp_path / "v.npz").tokens) == TOKENS


@pytest.mark.parametrize("write", [parquet_list, parquet_wide])
def test_the_index_of_a_shuffled_frame_is_no_number_of_a_vector(
    tmp_path: Path, write: Callable[[Path], None]
) -> None:
    import pandas as pd

    write(tmp_path / "v.parquet")
    pd.read_parquet(tmp_path / "v.parquet").iloc[[2, 0, 1]].to_parquet(tmp_path / "v.parquet")
    table = read_table(tmp_path / "v.parquet")
    assert list(table.tokens) == ["ü", "10", "a b"]
    np.testing.assert_array_equal(table.matrix, VECTORS[[2, 0, 1]])


def test_columns_of_parquet_beside_the_vectors(tmp_path: Path) -> None:
    import pandas as pd

    file = tmp_path / "v.parquet"
    parquet_list(file)
    pd.read_parquet(file).assign(title="x").to_parquet(file)
    np.testing.assert_array_equal(read_table(file).matrix, VECTORS)
    parquet_wide(file)
    pd.read_parquet(file).assign(title="x").to_parquet(file)
    with pytest.raises(TableError, match="columns that are no numbers: 'title'; leave them out"):
        read_table(file)
    pd.DataFrame({"x": VECTORS[:, 0], "token": TOKENS}).to_parquet(file)
    assert list(read_table(file).tokens) == TOKENS
    pd.DataFrame({"token": TOKENS, "vector": [[1.0], None, [2.0]]}).to_parquet(file)
    with pytest.raises(TableError, match="1 of 3 vectors are not 1 wide: 'a b'"):
        read_table(file)


def test_vectors_of_one_number_in_parquet(tmp_path: Path) -> None:
    import pandas as pd

    pd.DataFrame({"token": TOKENS, "x": VECTORS[:, 0]}).to_parquet(tmp_path / "v.parquet")
    np.testing.assert_array_equal(read_table(tmp_path / "v.parquet").matrix, VECTORS[:, :1])


def test_a_models_own_weight_named_by_a_tensor(tmp_path: Path) -> None:
    weight = torch.nn.Parameter(torch.from_numpy(VECTORS))
    torch.save({"tokens": torch.tensor([3, 1, 2]), "vectors": weight}, tmp_path / "v.pt")
    table = read_table(tmp_path / "v.pt")
    assert list(table.tokens) == ["3", "1", "2"]
    np.testing.assert_array_equal(table.matrix, VECTORS)


def test_a_file_without_tokens_names_the_file_to_write(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", VECTORS)
    with pytest.raises(TableError, match=r"its rows have no names: put them into '.*v\.tokens'"):
        read_table(tmp_path / "v.npy")


def test_pickles_are_not_executed(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (Path(tmp_path / "executed"),)  # type: ignore[return-value]

    torch.save({"a": Evil()}, tmp_path / "v.pt")
    with pytest.raises(TableError, match="cannot be read as .pt"):
        read_table(tmp_path / "v.pt")
    assert not (tmp_path / "executed").exists()


def test_tokens_that_pandas_takes_for_missing_are_names(tmp_path: Path) -> None:
    file = tmp_path / "v.csv"
    file.write_text("token,x\nNA,1\nnull,2\n007,3\n", encoding="utf-8")
    assert list(read_table(file).tokens) == ["NA", "null", "007"]
