"""Everything is declared in setup.cfg; this file lets `pip install -e .` find it."""

from setuptools import setup

setup()
