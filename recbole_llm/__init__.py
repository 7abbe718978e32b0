"""LLM-enhanced recommenders for RecBole.

>>> import recbole_llm
>>> recbole_llm.run_recbole_llm(model="PAD", dataset="ml-100k")  # doctest: +SKIP

``__init__.pyi`` lists the public names. Each is imported on first use, so that
``import recbole_llm``, which every plugin runs, does not import torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
