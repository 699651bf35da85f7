"""The lake on a laptop: the embedded AWS (MiniStack), and what Tarn adds to it."""
