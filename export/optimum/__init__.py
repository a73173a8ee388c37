"""Models that are not ours: optimum makes their graphs, our passes quantize them (`edge export --via optimum`)."""
