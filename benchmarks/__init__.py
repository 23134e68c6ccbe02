"""Side-by-side measurements against other libraries; they need the extra [bench]."""
