"""diffusers and transformers, kept from talking while they load."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_libraries(progress_bars: bool) -> Iterator[None]:
    """Keep warnings, and progress bars unless wanted, of diffusers and transformers off the screen."""
    import diffusers.utils.logging as diffusers_logging
    import transformers.utils.logging as transformers_logging

    libraries = (diffusers_logging, transformers_logging)
    before = [(library.get_verbosity(), library.is_progress_bar_enabled()) for library in libraries]
    try:
        for library in libraries:
            library.set_verbosity_error()
            if not progress_bars:
                library.disable_progress_bar()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for library, (verbosity, had_bars) in zip(libraries, before, strict=True):
            library.set_verbosity(verbosity)
            if had_bars and not progress_bars:
                library.enable_progress_bar()
