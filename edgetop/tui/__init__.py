"""How things look on a terminal; the only room that knows Textual.

Textual reads these variables once, when it is imported: no animations, and so many frames a second that a key is not
kept waiting for the next one; without a change there is no frame. A person's own setting wins.
"""

import os

os.environ.setdefault("TEXTUAL_ANIMATIONS", "none")
os.environ.setdefault("TEXTUAL_FPS", "120")
