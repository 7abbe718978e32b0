"""The subcommands of ``recbole-llm``, which `recbole_llm.cli` puts together."""
