"""A gallery's website: a Django project whose slow work is done in the background."""
