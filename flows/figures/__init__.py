"""The measurements behind the figures in the READMEs and cards; each module prints one when run."""
