"""Compiles the kernels, which numba then keeps beside them: so that a first run need not. `python -m pipelines.engine`."""

from pipelines.models import load_generator
from search.types import Extend, Row, Sampling, Until


def main() -> None:
    generator = load_generator()
    prompt = generator.encode("Use 3, 5, 7 to make 36.")
    for search in range(2):
        generator.engine.submit(search, Extend((Row("0", search, prompt, 2),), Until.END, Sampling()))
    while generator.engine.busy:
        generator.engine.advance()


if __name__ == "__main__":
    main()
