"""The one exception that is meant for the person at the keyboard."""


class UapError(Exception):
    """A problem the user can mend, told in one sentence.

    The sentence names the key or file, what was found, what was expected and what to do.
    Entry points print it without a traceback and exit with status 1.
    """
