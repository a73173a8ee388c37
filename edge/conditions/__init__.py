"""Under what conditions a run went: board, power mode, heat, throttling, energy."""
