"""`ponderosa report`: what is stored of some runs, as one page."""
