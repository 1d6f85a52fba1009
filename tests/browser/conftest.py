from jupyter_page import jupyter, page

__all__ = ["jupyter", "page"]
