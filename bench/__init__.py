"""Speed, as ratios of two ways side by side in one run: ``make bench``."""

import tarn  # noqa: F401 - finds functions/, wherever this is run from
