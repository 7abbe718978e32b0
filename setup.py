"""What setup.cfg cannot say: properties/ is installed inside the package, and `find:` beside it."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["recbole_llm", "recbole_llm.*"]), "recbole_llm.properties"],
    package_dir={"recbole_llm.properties": "properties"},
)
