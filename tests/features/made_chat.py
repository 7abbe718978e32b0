"""Generators that use a fake chat endpoint."""

from __future__ import annotations

from typing import Any

from made_endpoint import FakeEndpoint
from made_texts import PlainConfig

from recbole_llm.offline.generators import create_generators


def chatter(body: dict[str, Any]) -> dict[str, Any]:
    message = {"role": "assistant", "content": f"about {asked(body)}"}
    return {"choices": [{"message": message}], "usage": {"completion_tokens": 5}}


def asked(body: dict[str, Any]) -> str:
    prompt: str = body["messages"][0]["content"]
    return prompt


def chat(server: FakeEndpoint, **keys: Any) -> Any:
    names = {f"generator_{key}": value for key, value in keys.items()}
    own = {"generator": "openai", "generator_model": "m", "generator_base_url": server.url}
    return create_generators(PlainConfig({**own, **names}), 2)
