"""Texts that exceed an encoder's token limit: the encoder cuts them at their end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from logging import getLogger

from recbole_llm.core.errors import first_names
from recbole_llm.core.settings import ConfigLike
from recbole_llm.features.encoders.base import TokenLimited
from recbole_llm.features.settings import EncoderSettings

_AT_ONCE = 10_000  # texts tokenized together
_CLOSE = 0.05  # share of the limit within which an estimate is not trusted


class TokenLimit:
    """The number of tokens of a text that an encoder reads.

    Args:
        tokens: the limit.
        prefix: what the encoder puts before each text.
    """

    def __init__(self, encoder: TokenLimited, tokens: int, prefix: str = "") -> None:
        self.tokens, self._encoder = tokens, encoder
        self._prefix_bytes = _byte_count(prefix)
        self._words: dict[str, int] = {}  # token counts of words seen so far

    @classmethod
    def of(cls, encoder: object, config: ConfigLike) -> TokenLimit | None:
        """The limit of an encoder that knows it; None for endpoints and others that do not."""
        if not isinstance(encoder, TokenLimited) or encoder.max_tokens is None:
            return None
        return cls(encoder, encoder.max_tokens, EncoderSettings.of(config).encoder_prefix or "")

    def too_long(self, texts: Sequence[str]) -> list[int]:
        """Positions of the texts that the encoder would cut."""
        # A token covers at least one byte, so most texts of items need not be tokenized. Half of
        # the limit is reserved for what the encoder adds around a text, which is not known yet.
        sizes = [_byte_count(text) for text in texts]
        if not any(self._prefix_bytes + size > self.tokens // 2 for size in sizes):
            return []
        open_ = [i for i, size in enumerate(sizes) if size + self._surrounding > self.tokens]
        estimates = dict(zip(open_, self._estimate_tokens([texts[i] for i in open_]), strict=True))
        close = [i for i in open_ if abs(estimates[i] - self.tokens) <= _CLOSE * self.tokens]
        estimates.update(zip(close, self._count_tokens([texts[i] for i in close]), strict=True))
        return [i for i in open_ if estimates[i] > self.tokens]

    def _estimate_tokens(self, texts: Sequence[str]) -> list[int]:
        """Token counts as sums over words, each tokenized only once; off by a few tokens."""
        split = [text.split() for text in texts]
        new = sorted({word for words in split for word in words} - self._words.keys())
        counts = self._count_tokens([f" {word}" for word in new])
        self._words.update((w, n - self._surrounding) for w, n in zip(new, counts, strict=True))
        return [self._surrounding + sum(map(self._words.__getitem__, words)) for words in split]

    @cached_property
    def _surrounding(self) -> int:
        """Number of tokens that the encoder adds around a text."""
        return self._encoder.token_counts([""])[0]

    def _count_tokens(self, texts: Sequence[str]) -> list[int]:
        parts = [texts[i : i + _AT_ONCE] for i in range(0, len(texts), _AT_ONCE)]
        return [n for part in parts for n in self._encoder.token_counts(part)]


def _byte_count(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def shorten_to_limit(
    render: Callable[[str, int], str],
    texts: Mapping[str, str],
    histories: Mapping[str, int],
    limit: TokenLimit,
) -> dict[str, str]:
    """The users' texts that exceed the limit, shortened to as many of the newest items as fit.

    At least one item stays. How many texts are shortened, and by how much, is logged.

    Args:
        render: makes a user's text from the user's name and the number of newest items.
        texts: {user: text} with all items.
        histories: {user: number of items}.
    """
    names = list(texts)
    long = {names[i]: histories[names[i]] for i in limit.too_long(list(texts.values()))}
    fit = _count_newest_that_fit(render, long, limit)
    shorter = {user: render(user, count) for user, count in fit.items()}
    changed = {user: text for user, text in shorter.items() if text != texts[user]}
    if long:
        dropped = sum(histories[user] - fit[user] for user in changed)
        cut = len(limit.too_long([shorter[user] for user in long if fit[user] == 1]))
        getLogger("recbole_llm").info(
            f"user texts: {len(changed)} of {len(texts)} are shortened to the encoder's "
            f"{limit.tokens} tokens by leaving out {dropped} of their oldest items; {cut} are cut, "
            f"since even one item is too long"
        )
    return changed


def _count_newest_that_fit(
    render: Callable[[str, int], str], histories: Mapping[str, int], limit: TokenLimit
) -> dict[str, int]:
    """{user: number of newest items}, by bisection of all users at once."""
    low = dict.fromkeys(histories, 1)
    high = {user: max(1, count - 1) for user, count in histories.items()}
    while open_ := [user for user in histories if low[user] < high[user]]:
        middle = {user: (low[user] + high[user] + 1) // 2 for user in open_}
        long = set(limit.too_long([render(user, middle[user]) for user in open_]))
        for i, user in enumerate(open_):
            if i in long:
                high[user] = middle[user] - 1
            else:
                low[user] = middle[user]
    return low


def report_cut(texts: Mapping[str, str], kind: str, limit: TokenLimit | None) -> None:
    """Log how many texts the encoder cuts, and which."""
    if limit is not None and (cut := limit.too_long(list(texts.values()))):
        names = list(texts)
        getLogger("recbole_llm").warning(
            f"{kind} texts: {len(cut)} of {len(texts)} are cut at the encoder's {limit.tokens} "
            f"tokens: {first_names(names[i] for i in cut)}"
        )
