"""``python -m recbole_llm`` is the command ``recbole-llm``."""

from recbole_llm.cli import main

main()
