"""The parts of the screens: panes, meters, charts and the chat."""
