"""Tables of users as atomic files."""

from __future__ import annotations

import platform
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner

import recbole_llm
from recbole_llm.cli import main
from recbole_llm.data.reading.files import Table
from recbole_llm.tasks.convert import sources
from recbole_llm.tasks.convert.run import convert

ORDERS = "customer,sku,date\nanna,A1,2024-01-05\nbob,A1,2024-01-06\ncarl,B2,2024-01-07\n"
CUSTOMERS = """\
id,customer,city,e-mail,balance
1,bob,New\tYork,b@x.org,1.50
2,anna,Oslo,a@x.org,2
3,dora,Oslo,d@x.org,3
4,anna,Bergen,a@x.org,4
"""


@pytest.fixture(autouse=True)
def shop() -> None:
    Path("orders.csv").write_text(ORDERS)
    Path("customers.csv").write_text(CUSTOMERS)


def run(*options: str) -> str:
    done = CliRunner().invoke(main, ["convert", "orders.csv", "--output=dataset/shop", *options])
    assert done.exit_code == 0, done.output
    return done.output


def users(file: str = "dataset/shop/shop.user") -> dict[str, list[str]]:
    table = Table.read(Path(file))
    return {f"{f}:{t}": table.columns[f].tolist() for f, t in table.types.items()}


@pytest.mark.parametrize("chunk", [2, 1000])
def test_a_table_of_users(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "CHUNK", chunk)
    said = run("--users=customers.csv").splitlines()
    assert users() == {
        "user_id:token": ["bob", "anna", "dora"],
        "id:token": ["1", "2", "3"],
        "city:token_seq": ["New York", "Oslo", "Oslo"],
        "e_mail:token": ["b@x.org", "a@x.org", "d@x.org"],
        "balance:float": ["1.50", "2", "3"],
    }
    assert "written  dataset/shop/shop.inter, shop.user" in said
    assert (
        "of users customer → user_id:token, id → id:token, city → city:token_seq, "
        "e-mail → e_mail:token, balance → balance:float"
    ) in said
    minded = [line[9:] for line in said if line.startswith("mind")]
    assert minded == [
        "'customers.csv': tabs or line ends in texts, now spaces: 1 ('New York')",
        "'customers.csv': left out: a user that has a row already: 1 (anna)",
        "'customers.csv': users with interactions but no row: 1 (carl)",
    ]


def test_some_columns_of_users() -> None:
    said = run("--users=customers.csv", "--user-text=city")
    assert list(users()) == ["user_id:token", "city:token_seq"]
    assert (
        "unused   of users: id, e-mail, balance (--user-text=… says which columns are taken)"
        in said.splitlines()
    )


def test_a_later_table_of_items_leaves_the_users() -> None:
    run("--users=customers.csv")
    before = users()
    Path("products.csv").write_text("sku,title\nA1,Green tea\nB2,Mug\n")
    said = run("--items=products.csv").splitlines()
    assert "mind     shop.user was there before, and stays as it is" in said
    assert "replaced shop.inter" in said
    assert users() == before


def test_a_column_of_users_that_is_not_there_is_named() -> None:
    done = CliRunner().invoke(
        main,
        ["convert", "orders.csv", "--output=d/s", "--users=customers.csv", "--user-text=town,city"],
    )
    assert done.exit_code and "--user-text: 'customers.csv' has no column 'town'" in done.output
    assert not Path("d/s").exists()


@pytest.mark.parametrize("of", ["users", "items"])
def test_a_table_without_rows_is_refused(of: str) -> None:
    Path("none.csv").write_text("customer,sku,city\n")
    with pytest.raises(ValueError, match=rf"^'none.csv' has no rows; leave --{of} out$"):
        convert("orders.csv", "dataset/shop", **{of: "none.csv"})
    with pytest.raises(ValueError, match=rf"^'{of}' has no rows; leave {of} out$"):
        recbole_llm.from_pandas(
            pd.read_csv("orders.csv"), "dataset/shop", **{of: pd.DataFrame(columns=["sku"])}
        )
    assert not Path("dataset/shop").exists()


@pytest.mark.parametrize("of", ["users", "items"])
def test_a_table_of_which_no_row_can_be_read_says_why(of: str) -> None:
    Path("meta.json").write_text("{'asin': 'A1'}\n{'asin': 'B2'}\n")  # as in Amazon's data of 2014
    said = r"not one row can be used: left out, since they are no JSON object: 2 \(line 1, line 2\)"
    with pytest.raises(ValueError, match=rf"^'meta.json': {said}; leave --{of} out$"):
        convert("orders.csv", "dataset/shop", **{of: "meta.json"})


def test_all_files_or_none() -> None:
    Path("products.csv").write_text("sku,title\nA1,Green tea\n")
    run("--items=products.csv", "--users=customers.csv")
    files = {file: file.read_bytes() for file in Path("dataset/shop").iterdir()}
    Path("products.csv").write_text("sku,title\nB2,Mug\n")
    Path("customers.csv").write_text("town\nOslo\n")
    with pytest.raises(ValueError, match="'customers.csv' has no column .* --user=…"):
        convert("orders.csv", "dataset/shop", "products.csv", "customers.csv")
    assert {file: file.read_bytes() for file in Path("dataset/shop").iterdir()} == files


@pytest.mark.skipif(platform.system() == "Windows", reason="no limit of a file's size")
def test_no_file_is_replaced_where_the_last_does_not_fit() -> None:
    import resource

    many = "".join(f"u{i},A1,{i}\n" for i in range(150))
    Path("orders.csv").write_text("customer,sku,timestamp\n" + many)
    run("--users=customers.csv")
    before = users()
    Path("customers.csv").write_text("customer,city\nu1,Rome\n")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, limits[1]))
    try:
        with pytest.raises(ValueError, match=r"shop\.inter' cannot be written"):
            convert("orders.csv", "dataset/shop", users="customers.csv")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert users() == before


def test_columns_of_no_table_of_users_are_refused() -> None:
    options = ["convert", "orders.csv", "--output=dataset/shop", "--user-text=city"]
    done = CliRunner().invoke(main, options)
    assert done.exit_code == 2 and not Path("dataset").exists()
    assert (
        "--user-text: there is no table of users; leave it out, or name one with --users=…"
    ) in done.output
    frame = pd.read_csv("orders.csv")
    with pytest.raises(ValueError, match="user_text: there is no table.* with users=…"):
        recbole_llm.from_pandas(frame, "dataset/shop", user_text="city")


def test_users_of_a_data_frame() -> None:
    table = pd.DataFrame({"client": ["bob"], "age": [7]})
    summary = recbole_llm.from_pandas(pd.read_csv("orders.csv"), "d/s", users=table)
    assert users("d/s/s.user") == {"user_id:token": ["bob"], "age:token": ["7"]}
    assert summary.of_users is not None and summary.of_users.described == 1
    assert "'users': users with interactions but no row: 2 (anna, carl)" in summary.problems


@pytest.mark.parametrize(
    ("ratings", "movies", "people", "age"),
    [
        (("u.data", "7\t2\t5\t881250949\n"), ("u.item", "2|Up|||" + "|0" * 19 + "\n"),
         ("u.user", "7|24|M|technician|85711\n"), "24"),
        (("ratings.dat", "7::2::5::978300760\n"), ("movies.dat", "2::Up::Drama\n"),
         ("users.dat", "7::M::25::12::85711\n"), "25"),
    ],
)  # fmt: skip
def test_movielens_has_its_users(
    ratings: tuple[str, str], movies: tuple[str, str], people: tuple[str, str], age: str
) -> None:
    Path("ml").mkdir()
    for name, text in (ratings, movies, people):
        Path("ml", name).write_text(text)
    convert("ml", "dataset/ml")
    table = users("dataset/ml/ml.user")
    assert table["user_id:token"] == ["7"] and table["age:token"] == [age]
    assert table["gender:token"] == ["M"] and table["zip_code:token"] == ["85711"]
    with pytest.raises(ValueError, match="--users: a folder of MovieLens has its own"):
        convert("ml", "dataset/ml", users="customers.csv")
