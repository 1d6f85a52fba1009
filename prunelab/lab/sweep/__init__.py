"""A sweep while it runs, or after: view is the widget."""
