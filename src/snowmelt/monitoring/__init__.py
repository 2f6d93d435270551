"""Watch a run: one model of it at one moment, its health, and the live views that show them."""
