"""Those who watch a run: what they are told, on a terminal and on a page."""
