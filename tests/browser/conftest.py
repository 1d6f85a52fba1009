"""The fixtures of `jupyter_page`, for the tests beside it."""

from jupyter_page import jupyter, page

__all__ = ["jupyter", "page"]
