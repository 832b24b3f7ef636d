"""Energy from readings of power and from energy counters: pure arithmetic over one cumulative curve per channel."""
