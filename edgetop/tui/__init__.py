"""The terminal screens; nothing else imports Textual.

Textual reads these variables once, when it is imported: no animations, and so many frames a second that a key does not
wait for the next one; without a change there is no frame. The user's own setting wins.
"""

import os

os.environ.setdefault("TEXTUAL_ANIMATIONS", "none")
os.environ.setdefault("TEXTUAL_FPS", "120")
