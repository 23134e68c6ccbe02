"""See it: one backward pass as data (trace), as text (walk), as a page (page)."""
