"""The vocabulary, the tree, the strategies and the selection rules. Pure: no torch, no database, no Prefect."""
