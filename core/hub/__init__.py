"""Models named by a reference to a Hub: resolved to a commit, listed, chosen from, fetched and verified."""
