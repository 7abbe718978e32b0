"""Train and test a model: ``python run_recbole_llm.py --model=PAD --dataset=ml-100k``."""

import sys

from recbole_llm.cli import main

if __name__ == "__main__":
    main(["run", *sys.argv[1:]])
