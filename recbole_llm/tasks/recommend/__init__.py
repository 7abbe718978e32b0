"""Recommendations from a trained or exported model.

>>> from recbole_llm.tasks.recommend import recommend
>>> recommend("saved/SASRec.pth", users=["u1", "u2"], k=5)  # doctest: +SKIP

Each name is imported on first use: `Standalone` needs neither torch nor RecBole.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
