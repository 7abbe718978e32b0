"""Train and test a model: ``python run_recbole_llm.py --model=PAD --dataset=ml-100k``."""

import sys

from recbole_llm.commands.run import run_main

if __name__ == "__main__":
    sys.exit(run_main(sys.argv[1:]))
