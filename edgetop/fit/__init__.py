"""Will it fit, how fast, at what energy: answers before anything is loaded."""
