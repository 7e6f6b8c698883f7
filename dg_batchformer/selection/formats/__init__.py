"""A report as text, Markdown, LaTeX, CSV, JSON or a page."""
