"""The subcommands of ``recbole-llm``; `recbole_llm.cli` puts them together."""
