"""One adapter a runtime; each runs in the environment of that runtime, and needs nothing else there."""
