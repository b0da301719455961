"""The screens of the app; each is imported when it is first shown, and its styles are in a file beside it."""
