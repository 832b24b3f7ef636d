"""How things look on a terminal; the only room that knows Textual.

Textual reads these variables once, when it is imported: no animations, and no more frames than text flushed a few
times a second needs. A person's own setting wins.
"""

import os

os.environ.setdefault("TEXTUAL_ANIMATIONS", "none")
os.environ.setdefault("TEXTUAL_FPS", "120")
