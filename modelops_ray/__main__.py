"""`python -m modelops_ray` is the console script."""

from modelops_ray.cli import main

if __name__ == "__main__":
    main()
